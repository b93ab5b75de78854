"""What is counted of a user's orders, and when it makes them a VIP."""

from collections.abc import Iterator

import numpy as np

from streams.events import OrderColumns, UserVipUpgraded
from streams.operators.columns import KeyedColumns
from tables.definitions import UserOrders


def upgrade_vips(
    orders: OrderColumns, user_orders: KeyedColumns[UserOrders], *, at: int
) -> Iterator[UserVipUpgraded]:
    """Count each order in its user's row; yield the upgrade of a user who reaches `at` orders.

    Once a user, whatever `at` becomes later: a user who has more orders than a lowered `at` is
    upgraded by the next one, a VIP who has fewer than a raised one stays a VIP.
    """
    rows = user_orders.rows(orders.user_ids)
    rows.add("orders", 1)
    rows.add("amount_cents", orders.amounts_cents)
    rows.lower("first_order_at", orders.times_ms)
    rows.lift("last_order_at", orders.times_ms)

    due = np.flatnonzero((rows["orders"] >= at) & ~rows["vip"])
    if not len(due):
        return
    counts = rows.counts("orders", due)
    upgrading = rows.first_of_each(due[counts >= at])
    rows.set("vip", upgrading, value=True)
    count_at = dict(zip(due.tolist(), counts.tolist(), strict=True))
    for event in upgrading.tolist():
        yield UserVipUpgraded.caused_by(orders.orders[event], order_count=count_at[event])
