"""Everything that lies in Kafka and on the workers' disks after a run, and whether it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from demo.oracle import (
    DeadLetter,
    Derived,
    Json,
    Outcome,
    Rules,
    Source,
    diff,
    diff_rows,
    expect,
    in_any_turns,
    parse,
)
from demo.watched import MAIN_GROUP, Watched, changelog
from streams.engine.layout import subtopologies
from streams.engine.store import Position, Store
from streams.errors import HeadraceError
from streams.topics import DEAD_LETTERS

Records = Mapping[TopicPartition, Sequence[Any]]
"""aiokafka's ConsumerRecords, in offset order."""

INPUTS, OUTPUTS, CHECKED = MAIN_GROUP.inputs, MAIN_GROUP.outputs, MAIN_GROUP.tables

# Who died in mid-commit leaves a transaction open for a minute, and brokers look each ten seconds.
_TIMEOUT_S = 100.0
_NOWHERE = Position(partitions=0)


class Disk(NamedTuple):
    """The tables' rows in the workers' stores, and the next offsets of the inputs there."""

    tables: dict[str, dict[str, Json]]
    next_offsets: dict[tuple[str, int], int]


class Verdict(NamedTuple):
    """What should have come of the input, what did, and each difference in a line."""

    expected: Outcome
    actual: Outcome
    differences: list[str]
    remarks: Sequence[str] = ()
    """What else there is to say, in lines of the summary."""


def topics_of(app_id: str, group: Watched = MAIN_GROUP) -> tuple[str, ...]:
    """Return every topic that the check reads."""
    changelogs = (changelog(app_id, table) for table in group.tables)
    return (*group.inputs, *group.told, *changelogs)


def check(
    records: Records,
    disk: Disk,
    app_id: str,
    *,
    live: bool = True,
    rules: Rules | None = None,
    ends: Mapping[TopicPartition, int] | None = None,
) -> Verdict:
    """Compare all that came out with what the oracle makes of the input as Kafka has it.

    `live`: workers ran while input was written, and the oracle follows the turns that they took.
    `rules` are the contract's unless told. `ends` of the inputs are told where something lies behind
    the last record, as the ends of transactions do.
    """
    sources = sources_of(records, INPUTS)
    merged = expect(sources, rules)
    actual = Outcome(
        tables={table: folded(records, changelog(app_id, table)) for table in CHECKED},
        derived={topic: events_of(records, topic) for topic in OUTPUTS},
        dead_letters=letters_of(records, DEAD_LETTERS),
        skipped=merged.skipped,  # no topic tells of what was skipped, nor of what was late
        late=merged.late,
    )
    expected = in_any_turns(merged, actual) if live else merged
    on_disk = [
        line
        for table in CHECKED
        for line in diff_rows(table, expected.tables[table], disk.tables.get(table, {}))
    ]
    differences = [
        *diff(expected, actual),
        *(f"on disk: {line}" for line in on_disk),
        *behind(sources, disk.next_offsets, ends or {}),
        *changed_letters(records, MAIN_GROUP),
    ]
    return Verdict(expected, actual, differences)


async def read_topics(
    client: Mapping[str, Any], topics: Iterable[str], partitions: int | range
) -> Records:
    """Return all committed records of the topics. Raises HeadraceError if the end is not reached.

    Returning proves that no transaction is open: it read as far as anything was ever written.
    `partitions` is their number, or which of them are read.
    """
    numbers = range(partitions) if isinstance(partitions, int) else partitions
    wanted = [TopicPartition(topic, number) for topic in topics for number in numbers]
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


def read_disk(
    folders: Iterable[Path], partitions: int | range, group: Watched = MAIN_GROUP
) -> Disk:
    """Return what the workers' stores hold; of a task that several had, the furthest counts.

    `partitions` is their number, or which of them are read. No worker may run. Raises StoreError.
    """
    folders = list(folders)
    numbers = range(partitions) if isinstance(partitions, int) else partitions
    disk = Disk({table: {} for table in group.tables}, {})
    for subtopology in subtopologies(group.topology):
        tables = [table.name for table in subtopology.tables if table.name in group.tables]
        for number in numbers:
            task_id = subtopology.task_id(number)
            paths = [folder / task_id for folder in folders]
            stores = [Store(path, read_only=True) for path in paths if path.exists()]
            try:
                if own := [store for store in stores if _is_of(task_id, store)]:
                    _read_store(max(own, key=_stands_at), tables, number, disk)
            finally:
                for store in stores:
                    store.close()
    return disk


def _is_of(task_id: str, store: Store) -> bool:
    """Tell whether a store holds the task whose name its folder has: workers use no other."""
    return (store.position() or _NOWHERE).task in {"", task_id}


def _stands_at(store: Store) -> int:
    return sum((store.position() or _NOWHERE).sources.values())


def _read_store(store: Store, tables: Iterable[str], partition: int, disk: Disk) -> None:
    for topic, offset in (store.position() or _NOWHERE).sources.items():
        disk.next_offsets[topic, partition] = offset
    for table in tables:
        for key, value in store.scan(table):
            disk.tables[table][key] = parse(value)


def _of(records: Records, topic: str) -> Iterator[tuple[TopicPartition, Sequence[Any]]]:
    return ((tp, rows) for tp, rows in sorted(records.items()) if tp.topic == topic)


def sources_of(records: Records, inputs: Iterable[str]) -> dict[str, dict[int, list[Source]]]:
    """Return the inputs as the oracle takes them: by topic and partition."""
    return {
        topic: {tp.partition: [_source(r) for r in rows] for tp, rows in _of(records, topic)}
        for topic in inputs
    }


def _source(record: Any) -> Source:
    return Source(record.offset, record.timestamp, record.key, record.value)


def events_of(records: Records, topic: str) -> dict[int, list[Derived]]:
    """Return a topic's derived events, by partition."""
    return {
        tp.partition: [Derived(r.key, parse(r.value)) for r in rows]
        for tp, rows in _of(records, topic)
    }


def folded(records: Records, of_table: str) -> dict[str, Json]:
    """Return the rows that a changelog makes."""
    table: dict[str, Json] = {}
    for _, rows in _of(records, of_table):
        for record in rows:
            if record.value is None:
                table.pop(record.key.decode(), None)
            else:
                table[record.key.decode()] = parse(record.value)
    return table


def records_of(records: Records, topic: str) -> Iterator[tuple[int, Any]]:
    """Yield a topic's records, each with its partition."""
    return ((tp.partition, record) for tp, rows in _of(records, topic) for record in rows)


def letters_of(records: Records, topic: str) -> list[DeadLetter]:
    """Return the dead letters of a topic."""
    return [_dead_letter(record) for _, record in records_of(records, topic)]


def _dead_letter(record: Any) -> DeadLetter:
    headers = dict(record.headers)
    return DeadLetter(
        headers["__streams.errors.topic"].decode(),
        int(headers["__streams.errors.partition"]),
        int(headers["__streams.errors.offset"]),
        headers["headrace.reason"].decode(),
    )


def changed_letters(records: Records, group: Watched) -> Iterator[str]:
    """Yield a line for each dead letter whose key, value or partition is not its source's."""
    sources = {
        (tp.topic, tp.partition, r.offset): (tp.partition, r.key, r.value)
        for topic in group.inputs
        for tp, rows in _of(records, topic)
        for r in rows
    }
    for tp, rows in _of(records, group.dead_letters):
        for record in rows:
            letter = _dead_letter(record)
            source = sources.get((letter.topic, letter.partition, letter.offset))
            if source is not None and source != (tp.partition, record.key, record.value):
                yield f"dead-letters: {tuple(letter)} differs from the record that it stands for"


def behind(
    sources: Mapping[str, Mapping[int, Sequence[Source]]],
    next_offsets: Mapping[tuple[str, int], int],
    ends: Mapping[TopicPartition, int],
) -> Iterator[str]:
    """Yield a line for each input of which a store is not at the end."""
    for topic, by_partition in sources.items():
        for partition, rows in by_partition.items():
            last = rows[-1].offset + 1 if rows else 0
            end = ends.get(TopicPartition(topic, partition), last)
            found = next_offsets.get((topic, partition), 0)
            if found != end:
                yield f"on disk: {topic}-{partition} stands at offset {found}, not at {end}"
