"""Late records as they were read back: what each tells, and whether it is what it stands for."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from demo.oracle import Late, Source
from demo.readback import Records, records_of
from demo.watched import Watched

Sources: TypeAlias = Mapping[str, Mapping[int, list[Source]]]


class LateRecord(NamedTuple):
    """What a late record tells, and what it is."""

    told: Late
    source: tuple[int, bytes | None, bytes | None]
    """Partition, key and value."""


def late_records_of(
    records: Records, group: Watched, flows: Collection[str]
) -> Iterator[LateRecord]:
    """Yield what was late for these flows: others are none of the oracle's business."""
    for partition, record in records_of(records, group.topology.late_records):
        headers = {name: value.decode() for name, value in record.headers}
        if headers["headrace.flow"] not in flows:
            continue
        late_ms = int(headers["headrace.lateness-ms"])
        told = Late(
            headers["headrace.flow"],
            headers["headrace.window"],
            headers["headrace.topic"],
            int(headers["headrace.partition"]),
            int(headers["headrace.offset"]),
            late_ms,
            late_ms,
        )
        yield LateRecord(told, (partition, record.key, record.value))


def changed_late_records(
    records: Records, group: Watched, flows: Collection[str], sources: Sources
) -> Iterator[str]:
    """Yield a line for each late record whose key, value or partition is not its source's."""
    known = {
        (topic, partition, one.offset): (partition, one.key, one.value)
        for topic, by_partition in sources.items()
        for partition, rows in by_partition.items()
        for one in rows
    }
    for late in late_records_of(records, group, flows):
        where = (late.told.topic, late.told.partition, late.told.offset)
        if known.get(where, late.source) != late.source:
            yield f"late-records: {where} differs from the record that it stands for"
