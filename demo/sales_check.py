"""Everything that the group `sales` leaves in Kafka and on the workers' disks, and whether it is right."""

from collections.abc import Iterator

from demo.oracle import SALES_TABLES, Outcome, diff_rows, diff_sales, expect_sales
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
from demo.watched import SALES_GROUP, changelog


def check_sales(records: Records, disk: Disk, app_id: str) -> Verdict:
    """Compare all that came out with what the oracle makes of the input as Kafka has it.

    Estimates must be within what the contract says. The rows of `products` and `product_views` are the
    oracle's; what is open has rows of the flows' own: those on disk are compared with the changelogs'.
    """
    group = SALES_GROUP
    sources = sources_of(records, group.inputs)
    expected = expect_sales(sources)
    tables = {table: folded(records, changelog(app_id, table)) for table in group.tables}
    late = list(_late(records))
    actual = Outcome(
        tables=tables,
        derived={topic: events_of(records, topic) for topic in group.outputs},
        dead_letters=letters_of(records, group.dead_letters),
        skipped=expected.skipped,
        late=len(late),
    )
    on_disk = {table: expected.tables[table] for table in SALES_TABLES}
    differences = [
        *diff_sales(expected, actual),
        *(
            f"on disk: {line}"
            for table in group.tables
            for line in diff_rows(
                table, on_disk.get(table, tables[table]), disk.tables.get(table, {})
            )
        ),
        *behind(sources, disk.next_offsets, {}),
        *changed_letters(records, group),
        *late,
    ]
    return Verdict(expected, actual, differences)


def _late(records: Records) -> Iterator[str]:
    """Yield a line for each late record: there is to be none, see demo/event_clock.py."""
    flows = {flow.name for flow in SALES_GROUP.topology.flows}
    for partition, record in records_of(records, SALES_GROUP.topology.late_records):
        headers = {name: value.decode() for name, value in record.headers}
        flow, window = headers["headrace.flow"], headers["headrace.window"]
        if flow in flows:
            yield f"late-records[{partition}]: not expected: {flow} {window} {record.value!r}"
