"""A producer that is abandoned while its broker is away leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.cluster import Committed
from streams.engine.kafka import KafkaCluster, KafkaOptions, KafkaProducer
from streams.engine.records import Record, TopicPartition
from tests.waiting import until_true

RECORDS = [Record(b"key", b"value")]
# What each of the producers waits for when it is abandoned.
STEPS: list[Callable[[KafkaProducer], Awaitable[object]]] = [
    lambda producer: producer.send(0, {"sent": RECORDS}),
    lambda producer: producer.send_offsets({TopicPartition("sent", 0): Committed(1)}),
    lambda producer: producer.commit(),
]


async def test_no_task_of_an_abandoned_producer_is_left(tmp_path: Path) -> None:
    producers: list[KafkaProducer] = []
    with EmbeddedKafka(tmp_path) as kafka:
        client = {"bootstrap_servers": kafka.bootstrap, "client_id": "test"}
        await ensure_topics(client, [TopicSpec("sent", 1, {})], replication_factor=1)
        options = KafkaOptions(client=client, group="group", request_timeout_ms=2_000)
        cluster = KafkaCluster(options)
        before = asyncio.all_tasks()
        for number in range(len(STEPS)):
            producer = cluster.producer(f"txn-{number}")
            producers.append(producer)
            await producer.start()
            await producer.begin()
            await producer.send(0, {"sent": RECORDS})
    pairs = zip(producers, STEPS, strict=True)
    steps = [asyncio.ensure_future(step(producer)) for producer, step in pairs]
    requests = [producer._requests for producer in producers]
    await until_true(lambda: all(requests))
    for producer, step in zip(producers, steps, strict=True):
        producer.abandon()
        step.cancel()
    await asyncio.gather(*steps, return_exceptions=True)
    await until_true(lambda: asyncio.all_tasks() <= before)
