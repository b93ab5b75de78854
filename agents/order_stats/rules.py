"""A user's orders in hopping windows, told once each window has closed (docs/contract.md)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from streams.events import OrderCreated, OrderStatsData, UserOrderStats, amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from tables.timed import STATS

Row: TypeAlias = Open[Any]


def take_orders(orders: Iterable[OrderCreated], rows: TimedRows[Row]) -> None:
    """Add orders to their users' windows."""
    STATS.add(orders, rows)


def close(key: str, row: Row, now_ms: int) -> Fired[Row, UserOrderStats]:
    """Return the windows of a user that are open still, and an event for each that has closed."""
    left, closed = STATS.fire(key, row, now_ms)
    return left, list(map(_closed, closed))


def _closed(window: Windowed[Any]) -> UserOrderStats:
    user_id, start_ms, end_ms, did = window
    orders, cents = did["orders"], did["cents"]
    half_up = (2 * cents + orders) // (2 * orders)  # of half a cent, in whole numbers
    data = OrderStatsData(
        user_id=user_id,
        window_start=start_ms,
        window_end=end_ms,
        orders=orders,
        amount=amount_of(cents),
        highest=amount_of(did["highest"]),
        mean=amount_of(half_up),
    )
    return UserOrderStats.told_by("order_stats", start_ms, end_ms, last_ms=end_ms - 1, data=data)
