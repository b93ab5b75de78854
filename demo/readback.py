"""Everything that lies in Kafka and on the workers' disks after a run, and whether it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from demo.oracle import DeadLetter, Json, Outcome, Source, diff, expect, parse
from streams.engine.layout import subtopologies
from streams.engine.store import Position, Store
from streams.errors import HeadraceError
from streams.topics import DEAD_LETTERS, HIGH_VALUE_ORDERS, ORDERS, VIP_UPGRADES
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS

Records = Mapping[TopicPartition, Sequence[Any]]
"""aiokafka's ConsumerRecords, in offset order."""

_TIMEOUT_S = 60.0


class Disk(NamedTuple):
    """The rows of user_orders in the workers' stores, and the next offsets of orders there."""

    rows: dict[str, Json]
    next_offsets: dict[int, int]


class Verdict(NamedTuple):
    """What should have come of the orders, what did, and each difference in a line."""

    expected: Outcome
    actual: Outcome
    differences: list[str]


def topics_of(app_id: str) -> tuple[str, ...]:
    """Return every topic that the check reads."""
    names = (ORDERS.name, HIGH_VALUE_ORDERS.name, VIP_UPGRADES.name, DEAD_LETTERS)
    return (*names, USER_ORDERS.changelog(app_id))


def check(records: Records, disk: Disk, app_id: str) -> Verdict:
    """Compare all that came out with what the oracle makes of the orders as Kafka has them."""
    orders = {tp.partition: [_source(r) for r in rows] for tp, rows in _of(records, ORDERS.name)}
    expected = expect(orders)
    actual = Outcome(
        user_orders=_folded(records, USER_ORDERS.changelog(app_id)),
        high_value_orders=_events(records, HIGH_VALUE_ORDERS.name),
        vip_upgrades=_events(records, VIP_UPGRADES.name),
        dead_letters=[_dead_letter(r) for _, rows in _of(records, DEAD_LETTERS) for r in rows],
        skipped=expected.skipped,  # no topic tells of what was skipped
    )
    on_disk = diff(Outcome(user_orders=expected.user_orders), Outcome(user_orders=disk.rows))
    differences = [
        *diff(expected, actual),
        *(f"on disk: {line}" for line in on_disk),
        *_behind(orders, disk.next_offsets),
        *_changed_letters(records),
    ]
    return Verdict(expected, actual, differences)


async def read_topics(client: Mapping[str, Any], topics: Iterable[str], partitions: int) -> Records:
    """Return all committed records of the topics. Raises HeadraceError if the end is not reached.

    Returning proves that no transaction is open: it read as far as anything was ever written.
    """
    wanted = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
    ends = await _written_ends(client, wanted)
    found: dict[TopicPartition, list[Any]] = {tp: [] for tp in wanted}
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 << 20,
        fetch_max_wait_ms=100,
    )
    await consumer.start()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await _read(consumer, ends, found)
    except TimeoutError as error:
        raise HeadraceError(
            f"the topics could not be read to their ends within {_TIMEOUT_S:g} s: is a "
            "transaction still open, or has Kafka ended?"
        ) from error
    finally:
        await consumer.stop()
    return found


async def _read(
    consumer: AIOKafkaConsumer,
    ends: Mapping[TopicPartition, int],
    found: Mapping[TopicPartition, list[Any]],
) -> None:
    begins = await consumer.beginning_offsets(list(ends))
    waiting = {tp for tp, end in ends.items() if begins[tp] < end}
    consumer.assign(list(ends))
    for tp, begin in begins.items():
        consumer.seek(tp, begin)
    while waiting:
        for tp, rows in (await consumer.getmany(*waiting, timeout_ms=200)).items():
            found[tp].extend(rows)
        waiting = {tp for tp in waiting if await consumer.position(tp) < ends[tp]}


async def _written_ends(
    client: Mapping[str, Any], wanted: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    consumer = AIOKafkaConsumer(**client, isolation_level="read_uncommitted")
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
    finally:
        await consumer.stop()
    return ends


def read_disk(folders: Iterable[Path], partitions: int) -> Disk:
    """Return what the workers' stores hold; of a task that several had, the furthest counts.

    No worker may run. Raises StoreError.
    """
    subtopology = next(s for s in subtopologies(TOPOLOGY) if USER_ORDERS in s.tables)
    folders = list(folders)
    disk = Disk({}, {})
    for number in range(partitions):
        paths = [folder / subtopology.task_id(number) for folder in folders]
        stores = [Store(path, read_only=True) for path in paths if path.exists()]
        try:
            if stores:
                furthest = max(stores, key=lambda store: _next_offset(store.position()))
                disk.next_offsets[number] = _next_offset(furthest.position())
                for key, value in furthest.scan(USER_ORDERS.name):
                    disk.rows[key] = parse(value)
        finally:
            for store in stores:
                store.close()
    return disk


def _next_offset(position: Position | None) -> int:
    return 0 if position is None else position.sources.get(ORDERS.name, 0)


def _of(records: Records, topic: str) -> Iterator[tuple[TopicPartition, Sequence[Any]]]:
    return ((tp, rows) for tp, rows in sorted(records.items()) if tp.topic == topic)


def _source(record: Any) -> Source:
    return Source(record.offset, record.timestamp, record.key, record.value)


def _events(records: Records, topic: str) -> dict[int, list[Json]]:
    return {tp.partition: [parse(r.value) for r in rows] for tp, rows in _of(records, topic)}


def _folded(records: Records, changelog: str) -> dict[str, Json]:
    table: dict[str, Json] = {}
    for _, rows in _of(records, changelog):
        for record in rows:
            if record.value is None:
                table.pop(record.key.decode(), None)
            else:
                table[record.key.decode()] = parse(record.value)
    return table


def _dead_letter(record: Any) -> DeadLetter:
    headers = dict(record.headers)
    return DeadLetter(
        int(headers["__streams.errors.partition"]),
        int(headers["__streams.errors.offset"]),
        headers["headrace.reason"].decode(),
    )


def _changed_letters(records: Records) -> Iterator[str]:
    """Yield a line for each dead letter whose key, value or partition is not its source's."""
    sources = {
        (tp.partition, r.offset): (tp.partition, r.key, r.value)
        for tp, rows in _of(records, ORDERS.name)
        for r in rows
    }
    for tp, rows in _of(records, DEAD_LETTERS):
        for record in rows:
            letter = _dead_letter(record)
            source = sources.get((letter.partition, letter.offset))
            if source is not None and source != (tp.partition, record.key, record.value):
                yield f"dead-letters: {tuple(letter)} differs from the record that it stands for"


def _behind(
    orders: Mapping[int, Sequence[Source]], next_offsets: Mapping[int, int]
) -> Iterator[str]:
    for partition, sources in orders.items():
        end = sources[-1].offset + 1 if sources else 0
        found = next_offsets.get(partition, 0)
        if found != end:
            yield f"on disk: orders-{partition} stands at offset {found}, not at {end}"
