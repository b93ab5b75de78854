"""What is counted of a user's orders, and when it makes them a VIP."""

from collections.abc import Iterable, Iterator, MutableMapping

from streams.events import OrderCreated, UserVipUpgraded
from tables.definitions import UserOrders


def upgrade_vips(
    orders: Iterable[OrderCreated], user_orders: MutableMapping[str, UserOrders], *, at: int
) -> Iterator[UserVipUpgraded]:
    """Count each order in its user's row; yield the upgrade of a user who reaches `at` orders.

    Once a user, whatever `at` becomes later: a user who has more orders than a lowered `at` is
    upgraded by the next one, a VIP who has fewer than a raised one stays a VIP.
    """
    for order in orders:
        data, time_ms = order.data, order.timestamp
        cents = round(data.amount * 100)
        row = user_orders.get(data.user_id)
        if row is None:
            new_row = UserOrders(1, cents, time_ms, time_ms, vip=at <= 1)
        else:
            first_ms, last_ms = row.first_order_at, row.last_order_at
            # Compared by hand: min() and max() take a fifth of the rule's time.
            new_row = UserOrders(
                row.orders + 1,
                row.amount_cents + cents,
                time_ms if time_ms < first_ms else first_ms,  # noqa: FURB136
                time_ms if time_ms > last_ms else last_ms,  # noqa: FURB136
                row.vip or row.orders + 1 >= at,
            )
        user_orders[data.user_id] = new_row
        if new_row.vip and (row is None or not row.vip):
            yield UserVipUpgraded.caused_by(order, order_count=new_row.orders)
