"""All that the flows leave behind, and how two outcomes differ."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from demo.oracle.records import Json

TABLES = ("users", "user_orders", "user_order_minutes")
DERIVED = ("high-value-orders", "vip-upgrades", "enriched-orders")


class DeadLetter(NamedTuple):
    """Where a refused record lay, and why it was refused."""

    topic: str
    partition: int
    offset: int
    reason: str


class Derived(NamedTuple):
    """A derived event, and the key of its record."""

    key: bytes | None
    event: Json


Rows: TypeAlias = dict[str, Json]
"""A table's rows, by key."""

Events: TypeAlias = dict[int, list[Derived]]
"""A topic's derived events: by partition, in their order there."""


@dataclass
class Outcome:
    """What the flows made of their input; numbers with a fraction are Decimals (`parse` reads so)."""

    tables: dict[str, Rows] = field(default_factory=lambda: {name: {} for name in TABLES})
    derived: dict[str, Events] = field(default_factory=lambda: {name: {} for name in DERIVED})
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """Tombstones and events of unknown types, by topic."""
    late: int = 0
    """Orders that came after their minute was gone."""
    profiles: dict[tuple[int, str], list[Json | None]] = field(default_factory=dict)
    """By partition and user what an order could be enriched with, one after the other, from nothing on.

    The oracle fills it for `in_any_turns`; it is not compared.
    """

    @property
    def refused(self) -> Counter[str]:
        """Return how many dead letters there are, by reason."""
        return Counter(letter.reason for letter in self.dead_letters)


def in_any_turns(expected: Outcome, actual: Outcome) -> Outcome:
    """Return what is expected where users and orders were taken in turns as `actual` shows them.

    Turns follow event time only as far as records are there: of an application that ran while its input
    was still being written, each order may show its user as of another turn. But it must be one that
    there was, and never an older one than the user's order before had shown.
    """
    merged = expected.derived["enriched-orders"]
    found = actual.derived["enriched-orders"]
    adapted = {
        partition: _as_found(events, found.get(partition, []), partition, expected.profiles)
        for partition, events in merged.items()
    }
    return Outcome(
        expected.tables,
        {**expected.derived, "enriched-orders": adapted},
        expected.dead_letters,
        expected.skipped,
        expected.late,
        expected.profiles,
    )


def _as_found(
    expected: list[Derived],
    actual: list[Derived],
    partition: int,
    profiles: Mapping[tuple[int, str], list[Json | None]],
) -> list[Derived]:
    adapted = list(expected)
    stands_at: Counter[str] = Counter()
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=False)):
        data = wanted.event["data"]
        user_id = data["user_id"]
        shown = found.event.get("data", {}).get("user")
        known = profiles.get((partition, user_id), [None])[stands_at[user_id] :]
        if shown in known:
            stands_at[user_id] += known.index(shown)
            event = {**wanted.event, "data": {**data, "user": shown}}
            adapted[number] = wanted._replace(event=event)
    return adapted


def diff(expected: Outcome, actual: Outcome) -> list[str]:
    """Return a line for each difference, none where the two agree."""
    lines: list[str] = []
    for table in _names(expected.tables, actual.tables):
        lines += diff_rows(table, expected.tables.get(table, {}), actual.tables.get(table, {}))
    for topic in _names(expected.derived, actual.derived):
        wanted, found = expected.derived.get(topic, {}), actual.derived.get(topic, {})
        for partition in sorted({*wanted, *found}):
            where = f"{topic}[{partition}]"
            lines += diff_events(where, wanted.get(partition, []), found.get(partition, []))
    lines += diff_letters(expected.dead_letters, actual.dead_letters)
    if expected.skipped != actual.skipped:
        lines.append(
            f"skipped: expected {_counts(expected.skipped)}, got {_counts(actual.skipped)}"
        )
    if expected.late != actual.late:
        lines.append(f"late: expected {expected.late}, got {actual.late}")
    return lines


def _names(expected: Iterable[str], actual: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*expected, *actual)))


def diff_rows(table: str, expected: Rows, actual: Rows) -> list[str]:
    """Return a line for each row of a table that differs."""
    return [
        f"{table}[{key}]: expected {_shown(expected.get(key))}, got {_shown(actual.get(key))}"
        for key in sorted({*expected, *actual})
        if expected.get(key) != actual.get(key)
    ]


def diff_events(where: str, expected: list[Derived], actual: list[Derived]) -> list[str]:
    """Return a line for each place at which another event, or none, is there."""
    lines = []
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=False)):
        if wanted.event != found.event:
            lines.append(
                f"{where} #{number}: expected {_shown(wanted.event)}, got {_shown(found.event)}"
            )
        elif wanted.key != found.key:
            lines.append(f"{where} #{number}: expected the key {wanted.key!r}, got {found.key!r}")
    if len(expected) != len(actual):
        lines.append(f"{where}: expected {len(expected)} events, got {len(actual)}")
    return lines


def diff_letters(expected: Iterable[DeadLetter], actual: list[DeadLetter]) -> list[str]:
    """Return a line for each dead letter that is there alone, or more than once."""
    wanted, found = set(expected), set(actual)
    lines = [f"dead-letters: missing {tuple(letter)}" for letter in sorted(wanted - found)]
    lines += [f"dead-letters: not expected {tuple(letter)}" for letter in sorted(found - wanted)]
    if len(actual) != len(found):
        lines.append(f"dead-letters: {len(actual) - len(found)} are there more than once")
    return lines


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} of {topic}" for topic, count in sorted(counts.items())) or "none"


def _shown(document: Json | None) -> str:
    return "nothing" if document is None else json.dumps(document, default=str, ensure_ascii=False)
