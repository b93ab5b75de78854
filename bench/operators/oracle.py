"""What must come of the input: each operator written down once more, from its definition alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeAlias

import msgspec

from bench.operators.kinds import Kind

NOT_YET_MS = 2**62
_SHOWN = 3


class Placed(NamedTuple):
    """An order or payment: its key, event time, cents."""

    key: str
    time_ms: int
    cents: int


class Outcome(NamedTuple):
    """A result, and the stream time at which it must have left."""

    value: tuple[int | None, int | None, int]
    """Orders, cents and the window's end; of joins, both sides' cents and 0."""
    due_ms: int
    """NOT_YET_MS where the input ends before."""


Key: TypeAlias = tuple[str, int]
"""A user and the start of a window; of joins, an order and 0."""


class ResultJson(msgspec.Struct, frozen=True, gc=False):
    """A result as both systems write it."""

    key: str
    start: int
    end: int
    left: int | None
    """Orders in the window; of joins, the order's cents."""
    right: int | None
    """Their cents; of joins, the payment's cents."""

    @property
    def value(self) -> tuple[int | None, int | None, int]:
        """Return it as outcomes have it."""
        return self.left, self.right, self.end


read_result = msgspec.json.Decoder(ResultJson).decode


def outcomes(
    kind: Kind, orders: Sequence[Placed], payments: Sequence[Placed]
) -> dict[Key, Outcome]:
    """Return what comes of one partition, sooner or later. Nothing in it may be late."""
    now_ms = max((one.time_ms for one in (*orders, *payments)), default=0)
    found = _joined(kind, orders, payments) if kind.is_join else _counted(kind, orders)
    return {
        key: outcome if outcome.due_ms <= now_ms else outcome._replace(due_ms=NOT_YET_MS)
        for key, outcome in found
    }


def _counted(kind: Kind, orders: Sequence[Placed]) -> Iterator[tuple[Key, Outcome]]:
    by_key: dict[str, list[Placed]] = {}
    for order in orders:
        by_key.setdefault(order.key, []).append(order)
    for key, of_key in by_key.items():
        of_key.sort(key=lambda order: order.time_ms)
        times_ms = [order.time_ms for order in of_key]
        cents = [0, *accumulate(order.cents for order in of_key)]
        for start_ms, last_ms, end_ms, due_ms in _windows(kind, times_ms):
            begin, end = bisect_left(times_ms, start_ms), bisect_right(times_ms, last_ms)
            counted = end - begin, cents[end] - cents[begin], end_ms
            yield (key, start_ms), Outcome(counted, due_ms)


def _windows(kind: Kind, times_ms: Sequence[int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield start, last ms, end as it is told, and when it closes, of each window of a key."""
    size_ms, grace_ms = kind.size_ms, kind.grace_ms
    if kind.operator == "session":
        breaks = [at for at, (a, b) in enumerate(pairwise(times_ms), 1) if b - a > size_ms]
        for begin, end in pairwise([0, *breaks, len(times_ms)]):
            last_ms = times_ms[end - 1]
            yield times_ms[begin], last_ms, last_ms, last_ms + size_ms + grace_ms + 1
    elif kind.operator == "sliding":
        starts_ms = {time_ms - size_ms for time_ms in times_ms}
        starts_ms |= {a + 1 for a, b in pairwise(times_ms) if a < b <= a + 1 + size_ms}
        for start_ms in starts_ms:
            end_ms = start_ms + size_ms
            yield start_ms, end_ms, end_ms, end_ms + grace_ms + 1
    else:
        advance_ms = kind.advance_ms
        starts_ms = {
            start_ms
            for time_ms in times_ms
            for start_ms in range(time_ms - time_ms % advance_ms, time_ms - size_ms, -advance_ms)
        }
        for start_ms in starts_ms:
            end_ms = start_ms + size_ms
            yield start_ms, end_ms - 1, end_ms, end_ms + grace_ms


def _joined(
    kind: Kind, orders: Sequence[Placed], payments: Sequence[Placed]
) -> Iterator[tuple[Key, Outcome]]:
    paid = {payment.key: payment for payment in payments}
    kept_ms = kind.size_ms + kind.grace_ms + 1
    for order in orders:
        payment = paid.pop(order.key, None)
        if payment is not None and 0 <= payment.time_ms - order.time_ms <= kind.size_ms:
            due_ms = max(order.time_ms, payment.time_ms)
            yield (order.key, 0), Outcome((order.cents, payment.cents, 0), due_ms)
        elif payment is None and kind.operator == "outer":
            yield (order.key, 0), Outcome((order.cents, None, 0), order.time_ms + kept_ms)
    if kind.operator == "outer":
        for payment in paid.values():
            yield (payment.key, 0), Outcome((None, payment.cents, 0), payment.time_ms + kept_ms)


def differences(
    expected: Mapping[Key, Outcome], results: Iterable[ResultJson], *, until_ms: int
) -> Iterator[str]:
    """Yield what is wrong with results, in a few lines: other ones, twice, missing.

    Those that are due after `until_ms` may be missing.
    """
    wrong: list[str] = []
    seen: set[Key] = set()
    for result in results:
        key = result.key, result.start
        outcome = expected.get(key)
        if key in seen:
            wrong.append(f"{key}: told twice")
        elif outcome is None or outcome.value != result.value:
            wrong.append(f"{key}: {result.value}, not {outcome and outcome.value}")
        seen.add(key)
    wrong += [
        f"{key}: missing"
        for key, outcome in expected.items()
        if outcome.due_ms <= until_ms and key not in seen
    ]
    yield from wrong[:_SHOWN]
    if len(wrong) > _SHOWN:
        yield f"and {len(wrong) - _SHOWN:,} more"
