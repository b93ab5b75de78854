"""Everything that the group `windows` leaves in Kafka and on the workers' disks, and whether it is right."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from demo.oracle import (
    WINDOWS_FLOWS,
    Late,
    Outcome,
    Source,
    WindowsOutcome,
    diff_rows,
    diff_windows,
    expect_windows,
)
from demo.readback import (
    Disk,
    Records,
    Verdict,
    behind,
    changed_letters,
    events_of,
    folded,
    letters_of,
    records_of,
    sources_of,
)
from demo.watched import WINDOWS_GROUP, changelog

Sources = Mapping[str, Mapping[int, list[Source]]]


def check_windows(records: Records, disk: Disk, app_id: str) -> Verdict:
    """Compare all that came out with what the oracle makes of the input as Kafka has it.

    What is open has rows of the flows' own: those on disk are compared with those of the changelogs.
    """
    group = WINDOWS_GROUP
    sources = sources_of(records, group.inputs)
    expected = expect_windows(sources)
    actual = WindowsOutcome(
        derived={topic: events_of(records, topic) for topic in group.outputs},
        late=[late.told for late in _late_records(records)],
        dead_letters=letters_of(records, group.dead_letters),
    )
    tables = {table: folded(records, changelog(app_id, table)) for table in group.tables}
    differences = [
        *diff_windows(expected, actual),
        *(
            f"on disk: {line}"
            for table, rows in tables.items()
            for line in diff_rows(table, rows, disk.tables.get(table, {}))
        ),
        *behind(sources, disk.next_offsets, {}),
        *changed_letters(records, group),
        *_changed_late_records(records, sources),
    ]
    return Verdict(_as_outcome(expected, {}), _as_outcome(actual, tables), differences)


def _as_outcome(outcome: WindowsOutcome, tables: dict[str, Any]) -> Outcome:
    return Outcome(
        tables, outcome.derived, outcome.dead_letters, outcome.skipped, late=len(outcome.late)
    )


class _LateRecord(NamedTuple):
    """What a late record tells, and what it is."""

    told: Late
    source: tuple[int, bytes | None, bytes | None]
    """Partition, key and value."""


def _late_records(records: Records) -> Iterator[_LateRecord]:
    """Yield what was late for flows that the oracle knows of."""
    for partition, record in records_of(records, WINDOWS_GROUP.topology.late_records):
        headers = {name: value.decode() for name, value in record.headers}
        if headers["headrace.flow"] not in WINDOWS_FLOWS:
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
        yield _LateRecord(told, (partition, record.key, record.value))


def _changed_late_records(records: Records, sources: Sources) -> Iterator[str]:
    """Yield a line for each late record whose key, value or partition is not its source's."""
    known = {
        (topic, partition, one.offset): (partition, one.key, one.value)
        for topic, by_partition in sources.items()
        for partition, rows in by_partition.items()
        for one in rows
    }
    for late in _late_records(records):
        where = (late.told.topic, late.told.partition, late.told.offset)
        if known.get(where, late.source) != late.source:
            yield f"late-records: {where} differs from the record that it stands for"
