"""A user's orders in hopping windows, told once each window has closed (docs/contract.md)."""

from collections.abc import Iterable, Iterator
from typing import Any

from streams.events import OrderCreated, OrderStatsData, UserOrderStats, amount_of
from streams.operators.panes import PaneRows
from streams.operators.windowing import Windowed
from tables.timed import STATS


def take_orders(orders: Iterable[OrderCreated], rows: PaneRows) -> None:
    """Add orders to their users' panes."""
    STATS.add(orders, rows)


def tell(closed: Iterable[Windowed[dict[str, Any]]]) -> Iterator[UserOrderStats]:
    """Yield an event for each result of windows that have closed."""
    return map(_stats, closed)


def _stats(window: Windowed[dict[str, Any]]) -> UserOrderStats:
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
