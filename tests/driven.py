"""What came out of a driver, told as the oracle tells it."""

from collections.abc import Iterable, Mapping
from typing import Any

from demo.oracle import DeadLetter, Derived, Json, Outcome, parse
from demo.readback import CHECKED, OUTPUTS
from streams.testing import Driver, Sent
from streams.topics import DEAD_LETTERS
from streams.topology import TOPOLOGY

Tables = dict[str, dict[str, Json]]
_TABLES = [table for table in TOPOLOGY.tables if table.name in CHECKED]


def live_tables(driver: Driver) -> Tables:
    """Return the rows that the running workers' stores have."""
    return {t.name: _parsed(t.encode, driver.table(t)) for t in _TABLES}


def stored_tables(driver: Driver) -> Tables:
    """Return the rows on disk; no worker may run."""
    return {t.name: _parsed(t.encode, driver.stored(t)) for t in _TABLES}


def changelog_tables(driver: Driver) -> Tables:
    """Return the rows that the changelogs make."""
    return {t.name: _parsed(bytes, driver.changelog(t)) for t in _TABLES}


def outcome_of(driver: Driver, tables: Tables, expected: Outcome) -> Outcome:
    """Return all that the workers made, with tables as one of their copies has them.

    Skipped and late records are as expected: a driver's workers count them for one life.
    """
    return Outcome(
        tables,
        {topic: _by_partition(driver.sent(topic)) for topic in OUTPUTS},
        [dead_letter(sent) for sent in driver.sent(DEAD_LETTERS)],
        expected.skipped,
        expected.late,
    )


def dead_letter(sent: Sent) -> DeadLetter:
    """Return where a dead letter came from and why, as its headers tell."""
    headers = dict(sent.headers)
    partition = int(headers["__streams.errors.partition"])
    assert partition == sent.partition
    topic = headers["__streams.errors.topic"].decode()
    offset = int(headers["__streams.errors.offset"])
    return DeadLetter(topic, partition, offset, headers["headrace.reason"].decode())


def _parsed(encode: Any, rows: Mapping[str, Any]) -> dict[str, Json]:
    return {key: parse(encode(row)) for key, row in rows.items()}


def _by_partition(sent: Iterable[Sent]) -> dict[int, list[Derived]]:
    events: dict[int, list[Derived]] = {}
    for partition, _, key, value, _ in sent:
        events.setdefault(partition, []).append(Derived(key, parse(value or b"")))
    return events
