"""Reading topics for people: what is committed, between offsets, the last records, or on and on."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from operator import attrgetter
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from commands.asking import ANSWER_TIMEOUT_S
from demo.closing import closed
from streams.engine.cluster import Bounds
from streams.engine.kafka_client import know_topics
from streams.errors import HeadraceError

_POLL_MS = 500
_LOOK_BACK_RECORDS = 64
"""How many offsets beyond the wanted number are looked at first: commit markers take offsets too."""

_kafka_time = attrgetter("timestamp")


@contextlib.asynccontextmanager
async def reader(client: Mapping[str, Any], **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a started consumer without a group that sees committed records alone."""
    consumer = AIOKafkaConsumer(
        **client,
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": 100,
            **options,
        },
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await closed(consumer.stop())


async def bounds_of(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, Bounds]:
    """Return begin and end of each partition; for read_committed the end of what is decided."""
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        await know_topics(consumer, partitions)
        begins = await consumer.beginning_offsets(list(partitions))
        ends = await consumer.end_offsets(list(partitions))
    return {tp: Bounds(begins[tp], ends[tp]) for tp in partitions}


async def read_between(
    consumer: AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> AsyncIterator[list[Any]]:
    """Yield the records of each partition from its begin up to below its end, in offset order.

    Raises HeadraceError where no record comes for a while before the end is reached.
    """
    waiting = {tp for tp, end in ends.items() if begins[tp] < end}
    if not waiting:
        return
    consumer.assign(list(waiting))
    for tp in waiting:
        consumer.seek(tp, begins[tp])
    loop = asyncio.get_running_loop()
    positions = {tp: begins[tp] for tp in waiting}
    last_progress_s = loop.time()
    while waiting:
        for tp, records in (await consumer.getmany(*waiting, timeout_ms=_POLL_MS)).items():
            yield [record for record in records if record.offset < ends[tp]]
        reached = {tp: await consumer.position(tp) for tp in waiting}
        if reached != {tp: positions[tp] for tp in waiting}:
            positions, last_progress_s = reached, loop.time()
        elif loop.time() - last_progress_s > ANSWER_TIMEOUT_S:
            tp = min(waiting)
            raise HeadraceError(
                f"{tp.topic}-{tp.partition}: nothing came from Kafka for {ANSWER_TIMEOUT_S:g} s at "
                f"offset {reached[tp]}, below its end {ends[tp]}: does its broker run?"
            )
        waiting = {tp for tp in waiting if reached[tp] < ends[tp]}


async def last_records(
    consumer: AIOKafkaConsumer,
    bounds: Mapping[TopicPartition, Bounds],
    count: int,
    wanted: Callable[[Any], bool] = lambda _: True,
) -> list[Any]:
    """Return the last `count` of the wanted records below the ends, by Kafka's timestamps."""
    window = count + _LOOK_BACK_RECORDS
    ends = {tp: each.end for tp, each in bounds.items()}
    found: dict[TopicPartition, list[Any]] = {}
    short = set(bounds) if count else set()
    while short:
        begins = {tp: max(bounds[tp].begin, ends[tp] - window) for tp in short}
        found |= {tp: [] for tp in short}
        async for records in read_between(consumer, begins, {tp: ends[tp] for tp in short}):
            for record in filter(wanted, records):
                found[TopicPartition(record.topic, record.partition)].append(record)
        short = {tp for tp in short if len(found[tp]) < count and begins[tp] > bounds[tp].begin}
        window *= 4
    merged = list(heapq.merge(*found.values(), key=_kafka_time))
    return merged[-count:] if count else []


async def read_tail(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    count: int | None,
    wanted: Callable[[Any], bool] = lambda _: True,
    *,
    follow: bool,
) -> AsyncIterator[list[Any]]:
    """Yield the last `count` of the wanted records, or all (None); with `follow` what comes, too."""
    bounds = await bounds_of(consumer, partitions)
    ends = {tp: each.end for tp, each in bounds.items()}
    if count is None:
        begins = {tp: each.begin for tp, each in bounds.items()}
        async for records in read_between(consumer, begins, ends):
            yield list(filter(wanted, records))
    else:
        yield await last_records(consumer, bounds, count, wanted)
    if follow:
        async for records in _follow(consumer, ends):
            yield list(filter(wanted, records))


async def _follow(
    consumer: AIOKafkaConsumer, begins: Mapping[TopicPartition, int]
) -> AsyncIterator[list[Any]]:
    """Yield what is committed in the partitions from their begins on, without end."""
    consumer.assign(list(begins))
    for tp, begin in begins.items():
        consumer.seek(tp, begin)
    while True:
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            yield records
