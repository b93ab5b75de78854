"""Results that are told nearly: what is true, and how far off what is told may be."""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from demo.oracle.outcome import Derived

_EXACT_UP_TO = 160
_STANDARD_ERRORS = 5
"""Of a million results that are off by a normal distribution one is further off."""
_OF_DISTINCT = Decimal("0.02")
_OF_QUANTILES = Decimal("0.01")


class Near(NamedTuple):
    """A number from `least` to `most`."""

    least: Decimal
    most: Decimal

    def is_told(self, number: Any) -> bool:
        """Tell whether it may be this one."""
        return isinstance(number, int | Decimal) and self.least <= number <= self.most


def distinct(count: int) -> Near:
    """Return how many different values may be told where there are so many."""
    off = 0 if count <= _EXACT_UP_TO else count * _OF_DISTINCT * _STANDARD_ERRORS
    return Near(count - Decimal(off), count + Decimal(off))


def quantile(ordered: Sequence[Decimal], percent: int) -> Near:
    """Return what may be told of the least amount that so many percent do not exceed; there must be one.

    Inside, amounts are cents, and below a hundred of them the result is exact.
    """
    amount = ordered[-(-percent * len(ordered) // 100) - 1]
    off = amount * _OF_QUANTILES if amount >= 1 else Decimal(0)
    return Near(amount - off, amount + off)


def diff_near(where: str, expected: Iterable[Derived], actual: Sequence[Derived]) -> list[str]:
    """Return a line for each event, known by its id, that is missing, too many, or not near enough."""
    wanted = {one.event["event_id"]: one for one in expected}
    found = {one.event["event_id"]: one for one in actual}
    lines = [f"{where}: missing {id_}" for id_ in sorted(wanted.keys() - found.keys())]
    lines += [f"{where}: not expected {id_}" for id_ in sorted(found.keys() - wanted.keys())]
    if len(actual) != len(found):
        lines.append(f"{where}: {len(actual) - len(found)} are there more than once")
    for id_ in sorted(wanted.keys() & found.keys()):
        one, other = wanted[id_], found[id_]
        if one.key != other.key:
            lines.append(f"{where}: {id_}: expected the key {one.key!r}, got {other.key!r}")
        if not _is_told(one.event, other.event):
            lines.append(f"{where}: {id_}: expected {_shown(one.event)}, got {_shown(other.event)}")
    return lines


def _is_told(expected: Any, actual: Any) -> bool:
    if isinstance(expected, Near):
        return expected.is_told(actual)
    if isinstance(expected, dict) and isinstance(actual, dict):
        return expected.keys() == actual.keys() and all(
            _is_told(expected[name], actual[name]) for name in expected
        )
    return bool(expected == actual)


def _shown(document: Any) -> str:
    return json.dumps(document, default=str, ensure_ascii=False)
