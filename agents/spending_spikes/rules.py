"""Hours in which a user spends much or orders often, told once a spike (docs/contract.md).

An hour ends at each order, and is judged when it closes. Sliding windows would do (event-time.md), but
they change each window that an order is in, hundreds of them for a busy user; here an order is one
entry of a list, and what an hour holds is summed once.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from operator import itemgetter
from typing import Final

from streams.events import OrderCreated, SpikeData, UserSpendingSpike, amount_of
from streams.operators.timed import Fired, Late, TimedRows
from tables.timed import Spending, Spike

FROM_CENTS: Final = 500_000
FROM_ORDERS: Final = 5
HOUR_MS: Final = 3_600_000
GRACE_MS: Final = 60_000
_CLOSES_AFTER_MS: Final = GRACE_MS + 1
"""How far stream time is past an hour's last ms when that closes."""
_LIVES_MS: Final = HOUR_MS + _CLOSES_AFTER_MS
"""How far it is past an order when no hour is open that could hold it."""
_time_ms = itemgetter(0)


def take_orders(orders: Iterable[OrderCreated], rows: TimedRows[Spending]) -> None:
    """Keep orders until the hours that hold them have closed."""
    found: dict[str, _Spending] = {}
    for order, now_ms in rows.turns(orders):
        time_ms = order.timestamp
        if time_ms + _LIVES_MS <= now_ms:
            late_ms = now_ms - time_ms - _LIVES_MS
            rows.is_late(Late(order, time_ms, time_ms + HOUR_MS + 1, late_ms))
            continue
        user_id = order.data.user_id
        spending = found.get(user_id)
        if spending is None:
            spending = found[user_id] = _Spending(rows.get(user_id))
        spending.come_to(now_ms)
        spending.add(time_ms, round(order.data.amount * 100), now_ms)
    for user_id, spending in found.items():
        rows[user_id] = spending.row()


def close(user_id: str, row: Spending, now_ms: int) -> Fired[Spending, UserSpendingSpike]:
    """Return what is left of a user's row, and an event for each spike that is to be told."""
    spending = _Spending(row)
    spending.come_to(now_ms)
    told = [_spike(user_id, spike) for spike in spending.take_told(now_ms)]
    return (None if spending.is_over else spending.row()), told


class _Spending:
    """A user's row while it changes."""

    __slots__ = ("judged_ms", "orders", "spikes", "spiking_until_ms")

    def __init__(self, row: Spending | None) -> None:
        row = row or Spending(0, ())
        self.orders = list(row.orders)
        self.judged_ms = row.judged_ms
        self.spiking_until_ms = row.spiking_until_ms
        self.spikes = list(row.spikes)

    def come_to(self, now_ms: int) -> None:
        """Judge the hours that have closed by then, and forget the orders that no open one may hold."""
        closed_ms = now_ms - _CLOSES_AFTER_MS
        orders = self.orders
        first = bisect_right(orders, self.judged_ms, key=_time_ms)
        for ends_ms in dict.fromkeys(time_ms for time_ms, _ in orders[first:]):
            if ends_ms > closed_ms:
                break
            self._judge(ends_ms)
            self.judged_ms = ends_ms
        del orders[: bisect_right(orders, now_ms - _LIVES_MS, key=_time_ms)]
        if not orders:  # as if the row had gone meanwhile: no later hour overlaps the last spike
            self.judged_ms = self.spiking_until_ms = -1

    def _judge(self, ends_ms: int) -> None:
        begins_ms = ends_ms - HOUR_MS
        begin = bisect_left(self.orders, begins_ms, key=_time_ms)
        end = bisect_right(self.orders, ends_ms, key=_time_ms)
        cents = sum(of_order for _, of_order in self.orders[begin:end])
        if cents >= FROM_CENTS or end - begin >= FROM_ORDERS:
            if begins_ms > self.spiking_until_ms:  # else it goes on
                self.spikes.append(Spike(begins_ms, ends_ms, end - begin, cents))
            self.spiking_until_ms = ends_ms

    def add(self, time_ms: int, cents: int, now_ms: int) -> None:
        """Add an order: to hours that are open. The one that ends at it may have closed."""
        insort(self.orders, (time_ms, cents), key=_time_ms)
        if time_ms <= now_ms - _CLOSES_AFTER_MS:
            self.judged_ms = max(self.judged_ms, time_ms)

    def take_told(self, now_ms: int) -> list[Spike]:
        """Take out the spikes whose hours have closed by then."""
        closed_ms = now_ms - _CLOSES_AFTER_MS
        told = [spike for spike in self.spikes if spike.end_ms <= closed_ms]
        self.spikes = [spike for spike in self.spikes if spike.end_ms > closed_ms]
        return told

    @property
    def is_over(self) -> bool:
        """Whether nothing is open: a spike is told when its hour closes, long before its orders go."""
        return not self.orders

    def row(self) -> Spending:
        """Return it as a row; there must be an order."""
        orders = self.orders
        first = bisect_right(orders, self.judged_ms, key=_time_ms)
        due = [
            orders[0][0] + _LIVES_MS,
            *(spike.end_ms + _CLOSES_AFTER_MS for spike in self.spikes),
            *(time_ms + _CLOSES_AFTER_MS for time_ms, _ in orders[first : first + 1]),
        ]
        return Spending(
            min(due), tuple(orders), self.judged_ms, self.spiking_until_ms, tuple(self.spikes)
        )


def _spike(user_id: str, spike: Spike) -> UserSpendingSpike:
    data = SpikeData(
        user_id=user_id,
        started_at=spike.start_ms,
        ended_at=spike.end_ms,
        orders=spike.orders,
        amount=amount_of(spike.cents),
    )
    return UserSpendingSpike.told_by(
        "spending_spikes", spike.start_ms, spike.end_ms, last_ms=spike.end_ms, data=data
    )
