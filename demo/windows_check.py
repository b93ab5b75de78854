"""Everything that the group `windows` leaves in Kafka and on the workers' disks, and whether it is right."""

from typing import Any

from demo.late_records import changed_late_records, late_records_of
from demo.oracle import (
    WINDOWS_FLOWS,
    Outcome,
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
    sources_of,
)
from demo.watched import WINDOWS_GROUP, changelog


def check_windows(records: Records, disk: Disk, app_id: str) -> Verdict:
    """Compare all that came out with what the oracle makes of the input as Kafka has it.

    What is open has rows of the flows' own: those on disk are compared with those of the changelogs.
    """
    group = WINDOWS_GROUP
    sources = sources_of(records, group.inputs)
    expected = expect_windows(sources)
    actual = WindowsOutcome(
        derived={topic: events_of(records, topic) for topic in group.outputs},
        late=[late.told for late in late_records_of(records, group, WINDOWS_FLOWS)],
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
        *changed_late_records(records, group, WINDOWS_FLOWS, sources),
    ]
    return Verdict(_as_outcome(expected, {}), _as_outcome(actual, tables), differences)


def _as_outcome(outcome: WindowsOutcome, tables: dict[str, Any]) -> Outcome:
    return Outcome(
        tables, outcome.derived, outcome.dead_letters, outcome.skipped, late=len(outcome.late)
    )
