"""What came out of an application on a real Kafka, read back in full, to be held against the oracle."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from demo.generator import OrderGenerator, partition_of
from demo.oracle import DeadLetter, Outcome, Source, parse
from streams.engine.store import Position, Store
from tests.faults.workers import WorkerProcess

Ends = Mapping[TopicPartition, int]


async def fill(bootstrap: str, topic: str, partitions: int, orders: int, **generator: Any) -> None:
    """Produce life-like records to a topic, as fast as they come."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="lz4", max_batch_size=131_072, linger_ms=0
    )
    await producer.start()
    records = OrderGenerator(**generator).records(lambda: time.time_ns() // 1_000_000)
    sent = []
    batches = [producer.create_batch() for _ in range(partitions)]
    for key, value in islice(records, orders):
        partition = partition_of(key, partitions)
        if batches[partition].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches[partition], topic, partition=partition))
            batches[partition] = producer.create_batch()
            batches[partition].append(key=key, value=value, timestamp=None)
    for partition, batch in enumerate(batches):
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
    await producer.stop()


async def ends(bootstrap: str, topics: Iterable[str], partitions: int) -> dict[TopicPartition, int]:
    """Return the end of each partition; 0 for topics that are not there yet."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        present = await consumer.topics()
        tps = [TopicPartition(t, p) for t in topics for p in range(partitions)]
        known = await consumer.end_offsets([tp for tp in tps if tp.topic in present])
    finally:
        await consumer.stop()
    return {tp: known.get(tp, 0) for tp in tps}


async def wait_until_done(
    bootstrap: str,
    group: str,
    wanted: Ends,
    *,
    workers: Iterable[WorkerProcess],
    deadline_s: float,
    share: float = 1.0,
) -> None:
    """Return when the group has committed `share` of all up to the wanted ends.

    Raises TimeoutError, or AssertionError as soon as a worker has ended by itself.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    found = await admin.list_consumer_group_offsets(group, partitions=list(wanted))
                except KafkaError:
                    found = {}
                done = sum(max(0, found[tp].offset) for tp in wanted if tp in found)
                if done >= share * sum(wanted.values()):
                    return
                for worker in workers:
                    assert worker.process.poll() is None, worker.said()[-2_000:]
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def read_all(bootstrap: str, begins: Ends) -> dict[TopicPartition, list[Any]]:
    """Return all committed records of partitions from `begins` on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    found: dict[TopicPartition, list[Any]] = defaultdict(list)
    try:
        present = await consumer.topics()
        tps = [tp for tp in begins if tp.topic in present]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        until = await consumer.end_offsets(tps)
        async with asyncio.timeout(120):
            while any([await consumer.position(tp) < until[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp] += records
    finally:
        await consumer.stop()
    return found


async def read_input(bootstrap: str, topic: str, partitions: int) -> dict[int, list[Source]]:
    """Return a topic's records as the oracle takes them."""
    found = await read_all(bootstrap, {TopicPartition(topic, p): 0 for p in range(partitions)})
    return {
        tp.partition: [Source(r.offset, r.timestamp, r.key, r.value) for r in records]
        for tp, records in found.items()
    }


async def read_outcome(
    bootstrap: str, application_id: str, begins: Ends, *, skipped: int
) -> Outcome:
    """Return what an application wrote from `begins` on: derived events, dead letters, changelog."""
    changelog = f"{application_id}-user_orders-changelog"
    partitions = 1 + max(tp.partition for tp in begins)
    everything = {**begins, **{TopicPartition(changelog, p): 0 for p in range(partitions)}}
    outcome = Outcome(skipped=skipped)
    for tp, records in (await read_all(bootstrap, everything)).items():
        if tp.topic == "high-value-orders":
            outcome.high_value_orders[tp.partition] = [parse(r.value) for r in records]
        elif tp.topic == "vip-upgrades":
            outcome.vip_upgrades[tp.partition] = [parse(r.value) for r in records]
        elif tp.topic == "dead-letters":
            outcome.dead_letters += [_dead_letter(dict(r.headers)) for r in records]
        elif tp.topic == changelog:
            for r in records:
                outcome.user_orders[r.key.decode()] = parse(r.value)
    return outcome


def _dead_letter(headers: Mapping[str, bytes]) -> DeadLetter:
    return DeadLetter(
        int(headers["__streams.errors.partition"]),
        int(headers["__streams.errors.offset"]),
        headers["headrace.reason"].decode(),
    )


def stored_rows(folders: Iterable[Path]) -> dict[str, Any]:
    """Return the user_orders rows in RocksDB; of a task that lies in several folders, the newest."""
    newest: dict[str, tuple[int, dict[str, Any]]] = {}
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            store = Store(path, read_only=True)
            position = store.position() or Position(partitions=0)
            rows = {key: parse(value) for key, value in store.scan("user_orders")}
            store.close()
            stands_at = sum(position.sources.values())
            if stands_at >= newest.get(path.name, (-1, {}))[0]:
                newest[path.name] = (stands_at, rows)
    return {key: row for _, rows in newest.values() for key, row in rows.items()}
