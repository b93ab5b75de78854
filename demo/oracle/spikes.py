"""Hours in which a user spends much or orders often: each is judged when it closes, with what has come."""

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal
from operator import itemgetter
from typing import NamedTuple

HOUR_MS = 3_600_000
FROM_AMOUNT = Decimal(5_000)
FROM_ORDERS = 5
_time_ms = itemgetter(0)


class Spike(NamedTuple):
    """An hour [start_ms, end_ms] that holds so much."""

    start_ms: int
    end_ms: int
    orders: int
    amount: Decimal


class Spending:
    """A user's orders, and the hours up to them."""

    def __init__(self, grace_ms: int) -> None:
        """`grace_ms` is how long after its end an hour still takes orders."""
        self._grace_ms = grace_ms
        self._orders: list[tuple[int, Decimal]] = []
        self._ends_ms: list[int] = []
        """Of the hours that are to be judged, in their order."""
        self._high: list[Spike] = []

    def add(self, time_ms: int, amount: Decimal, now_ms: int) -> None:
        """Add an order that comes at a stream time: to the hours that have not closed by then."""
        self._judge(now_ms)
        insort(self._orders, (time_ms, amount), key=_time_ms)
        if time_ms + self._grace_ms >= now_ms and time_ms not in self._ends_ms:
            insort(self._ends_ms, time_ms)

    def told(self, now_ms: int) -> list[Spike]:
        """Return those that are told by a stream time: of high hours that overlap, the first alone."""
        self._judge(now_ms)
        told = []
        busy_until_ms = -1
        for spike in self._high:
            if spike.start_ms > busy_until_ms:
                told.append(spike)
            busy_until_ms = spike.end_ms
        return told

    def _judge(self, now_ms: int) -> None:
        """Judge the hours that have closed by then."""
        while self._ends_ms and self._ends_ms[0] + self._grace_ms < now_ms:
            end_ms = self._ends_ms.pop(0)
            begin = bisect_left(self._orders, end_ms - HOUR_MS, key=_time_ms)
            held = self._orders[begin : bisect_right(self._orders, end_ms, key=_time_ms)]
            amount = sum((of_order for _, of_order in held), Decimal(0))
            if amount >= FROM_AMOUNT or len(held) >= FROM_ORDERS:
                self._high.append(Spike(end_ms - HOUR_MS, end_ms, len(held), amount))
