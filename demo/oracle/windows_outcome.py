"""All that the group `windows` tells of, and how two outcomes differ: what comes, not in which order."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from demo.oracle.outcome import DeadLetter, Derived, Events, diff_letters

WINDOWS_DERIVED = (
    "order-payments",
    "unpaid-orders",
    "user-sessions",
    "spending-spikes",
    "order-stats",
)

WINDOWS_FLOWS = ("order_payments", "user_sessions", "spending_spikes", "order_stats")


class Late(NamedTuple):
    """A record that was too late for a window `<start>-<end>` of a flow, and by how much: from, to, ms.

    Where a flow reads two topics, that hangs on turns. Of one that was told the two are equal.
    """

    flow: str
    window: str
    topic: str
    partition: int
    offset: int
    least_ms: int
    most_ms: int

    @property
    def what(self) -> tuple[str, str, str, int, int]:
        """Return all but by how much."""
        return self[:5]


@dataclass
class WindowsOutcome:
    """What came of the input; numbers with a fraction are Decimals."""

    derived: dict[str, Events] = field(
        default_factory=lambda: {name: {} for name in WINDOWS_DERIVED}
    )
    late: list[Late] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Tombstones and events of unknown types, by topic. No topic tells of them: it is not compared."""


def diff_windows(expected: WindowsOutcome, actual: WindowsOutcome) -> list[str]:
    """Return a line for each difference, none where the two agree."""
    lines: list[str] = []
    for topic, wanted in expected.derived.items():
        found = actual.derived.get(topic, {})
        for partition in sorted({*wanted, *found}):
            where = f"{topic}[{partition}]"
            lines += _diff_events(where, wanted.get(partition, []), found.get(partition, []))
    lines += diff_late(expected.late, actual.late)
    lines += diff_letters(expected.dead_letters, actual.dead_letters)
    return lines


def _diff_events(where: str, expected: Iterable[Derived], actual: Iterable[Derived]) -> list[str]:
    wanted, found = _counted(expected), _counted(actual)
    lines = [f"{where}: missing {text}" for text in (wanted - found).elements()]
    return lines + [f"{where}: not expected {text}" for text in (found - wanted).elements()]


def _counted(events: Iterable[Derived]) -> Counter[str]:
    """Return how often each event is there, written in one way."""
    return Counter(
        f"{event.key!r}: {json.dumps(event.event, default=_plain, sort_keys=True)}"
        for event in events
    )


def _plain(number: Decimal) -> int | str:
    """Return the same for 20 and 20.00, digit by digit."""
    return int(number) if number == number.to_integral_value() else str(number.normalize())


def diff_late(expected: Iterable[Late], actual: list[Late]) -> list[str]:
    """Return a line for each late record that is there alone, more than once, or late by another time."""
    wanted = {late.what: late for late in expected}
    found = {late.what: late for late in actual}
    lines = [f"late-records: missing {what}" for what in sorted(wanted.keys() - found.keys())]
    lines += [f"late-records: not expected {what}" for what in sorted(found.keys() - wanted.keys())]
    if len(actual) != len(found):
        lines.append(f"late-records: {len(actual) - len(found)} are there more than once")
    for what in sorted(wanted.keys() & found.keys()):
        least_ms, most_ms = wanted[what][5:]
        if not least_ms <= found[what].least_ms <= most_ms:
            told_ms = found[what].least_ms
            lines.append(
                f"late-records: {what} is told to be {told_ms} ms late, not {least_ms} to {most_ms}"
            )
    return lines
