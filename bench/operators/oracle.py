"""What must come of the input: each operator written down once more, from its definition alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import NamedTuple, TypeAlias

import msgspec

from bench.operators.kinds import Kind

NOT_YET_MS = 2**62
_SHOWN = 3
_time_ms = attrgetter("time_ms")


class Placed(NamedTuple):
    """An order, a payment, or what became of a user."""

    key: str
    """By which it is counted or joined, wherever the record lies."""
    time_ms: int
    value: int | None
    """Cents; of users the number of their event, None of one that is deleted."""
    order_id: str = ""


class Outcome(NamedTuple):
    """A result, and the stream time at which it must have left."""

    value: tuple[int | None, int | None, int]
    """Orders, cents and the window's end; of joins, both sides' values and 0."""
    due_ms: int
    """NOT_YET_MS where the input ends before."""


Key: TypeAlias = tuple[str, int]
"""A user or product and the start of a window; of joins, an order or user and 0."""


class ResultJson(msgspec.Struct, frozen=True, gc=False):
    """A result as both systems write it."""

    key: str
    start: int
    end: int
    left: int | None
    """Orders in the window; of joins, the order's cents."""
    right: int | None
    """Their cents; of joins, the payment's cents, or the number of the user's event."""

    @property
    def value(self) -> tuple[int | None, int | None, int]:
        """Return it as outcomes have it."""
        return self.left, self.right, self.end


read_result = msgspec.json.Decoder(ResultJson).decode


def outcomes(kind: Kind, orders: Sequence[Placed], others: Sequence[Placed]) -> dict[Key, Outcome]:
    """Return what comes of one partition, sooner or later; of all of them, if the kind is re-keyed.

    `others` are the payments or users. Nothing may be late. Of a table there is each row as it is in the
    end: what it was in between hangs on how the inputs meet.
    """
    if kind.is_join:
        found = _joined(kind, orders, others)
    else:
        found = _with_users(kind, orders, others) if kind.has_users else _counted(kind, orders)
    if not kind.waits:
        return dict(found)
    now_ms = max((one.time_ms for one in (*orders, *others)), default=0)
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
        cents = [0, *accumulate(order.value or 0 for order in of_key)]
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
            yield (order.key, 0), Outcome((order.value, payment.value, 0), due_ms)
        elif payment is None and kind.operator == "outer":
            yield (order.key, 0), Outcome((order.value, None, 0), order.time_ms + kept_ms)
    if kind.operator == "outer":
        for payment in paid.values():
            yield (payment.key, 0), Outcome((None, payment.value, 0), payment.time_ms + kept_ms)


def _with_users(
    kind: Kind, orders: Sequence[Placed], users: Sequence[Placed]
) -> Iterator[tuple[Key, Outcome]]:
    if kind.operator == "stream-table":
        yield from _as_of_turn(orders, users)
    elif kind.operator == "versioned":
        yield from _as_of_time(kind, orders, users)
    else:
        right = {user.key: user.value for user in users}
        for order in orders:
            if (value := right.get(order.key)) is not None:
                key = order.order_id if kind.operator == "foreign-key" else order.key
                yield (key, 0), Outcome((order.value, value, 0), 0)


def _as_of_turn(orders: Sequence[Placed], users: Sequence[Placed]) -> Iterator[tuple[Key, Outcome]]:
    table: dict[str, int | None] = {}
    # Of two topics, both systems take the one whose next record is the older one, as this does.
    for one in merge(users, orders, key=_time_ms):
        if one.order_id:
            yield (one.order_id, 0), Outcome((one.value, table.get(one.key), 0), 0)
        else:
            table[one.key] = one.value


def _as_of_time(
    kind: Kind, orders: Sequence[Placed], users: Sequence[Placed]
) -> Iterator[tuple[Key, Outcome]]:
    versions: dict[str, list[Placed]] = {}
    for user in sorted(users, key=_time_ms):  # of one time, the later record is the value
        versions.setdefault(user.key, []).append(user)
    for order in orders:
        of_key = versions.get(order.key, [])
        at = bisect_right(of_key, order.time_ms, key=_time_ms)
        found = of_key[at - 1].value if at else None
        outcome = Outcome((order.value, found, 0), order.time_ms + kind.grace_ms)
        yield (order.order_id, 0), outcome


def as_table(results: Iterable[ResultJson]) -> Iterable[ResultJson]:
    """Return the rows that changes of a table leave: the last of each key, but those that are deleted."""
    rows = {(result.key, result.start): result for result in results}
    return [row for row in rows.values() if (row.left, row.right) != (None, None)]


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
