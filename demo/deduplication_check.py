"""Everything that the group `deduplication` leaves in Kafka and on disk, and whether it is right."""

from demo.late_records import changed_late_records, late_records_of
from demo.oracle import (
    ORDERS,
    Deduplicated,
    Derived,
    Outcome,
    diff_deduplicated,
    diff_rows,
    expect_deduplicated,
    parse,
)
from demo.oracle.outcome import Rows
from demo.readback import (
    Disk,
    Records,
    Verdict,
    behind,
    changed_letters,
    folded,
    letters_of,
    records_of,
    sources_of,
)
from demo.watched import DEDUPLICATION_GROUP, changelog

_PASSED = "orders-deduplicated"
_FLOWS = ("orders_deduplicated",)


def check_deduplication(records: Records, disk: Disk, app_id: str) -> Verdict:
    """Compare all that came out with what the oracle makes of `orders` as Kafka has it, byte by byte.

    The rows of what may still be repeated are the flow's own: those on disk are compared with the
    changelog's.
    """
    group = DEDUPLICATION_GROUP
    sources = sources_of(records, group.inputs)
    expected = expect_deduplicated(sources[ORDERS])
    actual = Deduplicated(
        late=[late.told for late in late_records_of(records, group, _FLOWS)],
        dead_letters=letters_of(records, group.dead_letters),
        skipped=expected.skipped,
    )
    for partition, record in records_of(records, _PASSED):
        actual.passed.setdefault(partition, []).append((record.key, record.value))
    tables = {table: folded(records, changelog(app_id, table)) for table in group.tables}
    differences = [
        *diff_deduplicated(expected, actual),
        *(
            f"on disk: {line}"
            for table, rows in tables.items()
            for line in diff_rows(table, rows, disk.tables.get(table, {}))
        ),
        *behind(sources, disk.next_offsets, {}),
        *changed_letters(records, group),
        *changed_late_records(records, group, _FLOWS, sources),
    ]
    left_out = (
        f"left out      {expected.left_out:,} events that repeat one within an hour of event time"
    )
    expected_, actual_ = _as_outcome(expected, {}), _as_outcome(actual, tables)
    return Verdict(expected_, actual_, differences, [left_out])


def _as_outcome(outcome: Deduplicated, tables: dict[str, Rows]) -> Outcome:
    passed = {
        partition: [Derived(key, parse(value or b"null")) for key, value in rows]
        for partition, rows in outcome.passed.items()
    }
    return Outcome(
        tables, {_PASSED: passed}, outcome.dead_letters, outcome.skipped, late=len(outcome.late)
    )
