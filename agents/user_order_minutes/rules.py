"""What is summed of a user's orders within a minute of event time."""

from streams.events import OrderColumns
from streams.operators.columns import WindowedColumns
from tables.definitions import UserMinute


def count_minutes(orders: OrderColumns, minutes: WindowedColumns[UserMinute]) -> None:
    """Add each order that is not late to its user's minute."""
    rows = minutes.rows(orders.user_ids, orders.times_ms)
    rows.add("orders", 1)
    rows.add("amount_cents", orders.amounts_cents)
