"""Hours in which a user spends much or orders often, told once a spike (docs/contract.md).

An hour is a sliding window. Such hours that overlap are one spike, which the first of them tells.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from streams.events import OrderCreated, SpikeData, UserSpendingSpike, amount_of
from streams.operators.timed import Fired, Late, TimedRows
from streams.operators.windowing import Open, Windowed
from streams.operators.windows import T
from tables.timed import SPENDING, SPIKE_LASTS_MS, Spending

FROM_CENTS: Final = 500_000
FROM_ORDERS: Final = 5


def take_orders(orders: Iterable[OrderCreated], rows: TimedRows[Spending]) -> None:
    """Add orders to their users' hours."""
    SPENDING.add(orders, _Hours(rows))


def close(key: str, row: Spending, now_ms: int) -> Fired[Spending, UserSpendingSpike]:
    """Return what is left of a user's row, and an event for each spike that has begun."""
    hours, until_ms = row.hours, row.spikes_until_ms
    closed: list[Windowed[Any]] = []
    if hours is not None:
        hours, closed = SPENDING.fire(key, hours, now_ms)
    told = []
    for hour in closed:
        if hour.value["cents"] >= FROM_CENTS or hour.value["orders"] >= FROM_ORDERS:
            if hour.start_ms > until_ms:
                told.append(_spike(hour))
            until_ms = hour.end_ms
    return _row(hours, until_ms, now_ms), told


def _row(hours: Open[Any] | None, until_ms: int, now_ms: int) -> Spending | None:
    if hours is not None:
        return Spending(hours.due_ms, hours, until_ms)
    forgets_ms = until_ms + SPIKE_LASTS_MS
    return Spending(forgets_ms, None, until_ms) if until_ms >= 0 and forgets_ms > now_ms else None


class _Hours:
    """The hours of users' rows, as their operator wants them."""

    def __init__(self, rows: TimedRows[Spending]) -> None:
        self._rows = rows

    def get(self, key: str, /) -> Open[Any] | None:
        row = self._rows.get(key)
        return None if row is None else row.hours

    def __setitem__(self, key: str, hours: Open[Any], /) -> None:
        row = self._rows.get(key)
        until_ms = -1 if row is None else row.spikes_until_ms
        self._rows[key] = Spending(hours.due_ms, hours, until_ms)

    def __delitem__(self, key: str, /) -> None:
        del self._rows[key]

    def turns(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        return self._rows.turns(events)

    def is_late(self, late: Late) -> None:
        self._rows.is_late(late)


def _spike(hour: Windowed[Any]) -> UserSpendingSpike:
    user_id, start_ms, end_ms, did = hour
    event_id = f"spending_spikes:{user_id}:{start_ms}-{end_ms}"
    return UserSpendingSpike(
        event_id=event_id,
        aggregate_id=user_id,
        timestamp=end_ms,
        correlation_id=event_id,
        data=SpikeData(
            user_id=user_id,
            started_at=start_ms,
            ended_at=end_ms,
            orders=did["orders"],
            amount=amount_of(did["cents"]),
        ),
    )
