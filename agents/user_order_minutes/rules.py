"""What is summed of a user's orders within a minute of event time."""

from collections.abc import Iterable

from streams.events import OrderCreated
from streams.operators.windows import WindowedRows
from tables.definitions import UserMinute


def count_minutes(orders: Iterable[OrderCreated], minutes: WindowedRows[UserMinute]) -> None:
    """Add each order that is not late to its user's minute."""
    for order, start_ms in minutes.on_time(orders):
        data = order.data
        minute = (data.user_id, start_ms)
        cents = round(data.amount * 100)
        row = minutes.get(minute)
        if row is None:
            minutes[minute] = UserMinute(1, cents)
        else:
            minutes[minute] = UserMinute(row.orders + 1, row.amount_cents + cents)
