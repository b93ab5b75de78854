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
        row = user_orders.get(order.data.user_id)
        new_row = _counted(order, row, at)
        user_orders[order.data.user_id] = new_row
        if new_row.vip and (row is None or not row.vip):
            yield UserVipUpgraded.caused_by(order, order_count=new_row.orders)


def _counted(order: OrderCreated, row: UserOrders | None, at: int) -> UserOrders:
    cents, time_ms = order.data.amount_cents, order.timestamp
    if row is None:
        return UserOrders(1, cents, time_ms, time_ms, vip=at <= 1)
    return UserOrders(
        row.orders + 1,
        row.amount_cents + cents,
        min(row.first_order_at, time_ms),
        max(row.last_order_at, time_ms),
        vip=row.vip or row.orders + 1 >= at,
    )
