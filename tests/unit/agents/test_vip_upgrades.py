"""What is counted of a user's orders, and when it makes them a VIP."""

from agents.vip_upgrades.rules import upgrade_vips
from streams.events import OrderCreated
from tables.definitions import UserOrders
from tests.unit.wire import NOW_MS, USER, decoded, order


def orders(count: int, *, user: str = "ada", first: int = 1) -> list[OrderCreated]:
    values = [
        order(event_id=f"e-{number}", data={"order_id": f"order-{number}", "user_id": user})
        for number in range(first, first + count)
    ]
    return list(decoded(*values, key=user.encode()).events)


def test_a_user_is_upgraded_once_at_the_tenth_order() -> None:
    user_orders: dict[str, UserOrders] = {}
    upgrades = list(upgrade_vips(orders(15), user_orders, at=10))
    assert [event.data.order_id for event in upgrades] == ["order-10"]
    assert user_orders["ada"].orders == 15


def test_the_upgrade_tells_who_by_which_order_and_where_it_came_from() -> None:
    (event,) = upgrade_vips(orders(2), {}, at=2)
    assert (event.event_id, event.aggregate_id) == ("e-2:user.vip_upgraded", "ada")
    assert (event.causation_id, event.correlation_id, event.version) == ("e-2", "e-2", 1)
    assert event.timestamp == NOW_MS
    assert (event.data.user_id, event.data.order_count, event.data.order_id) == (
        "ada",
        2,
        "order-2",
    )


def test_each_user_is_counted_alone() -> None:
    user_orders: dict[str, UserOrders] = {}
    mixed = [o for pair in zip(orders(9), orders(9, user="bob"), strict=True) for o in pair]
    assert list(upgrade_vips(mixed, user_orders, at=10)) == []
    assert {user: row.orders for user, row in user_orders.items()} == {"ada": 9, "bob": 9}


def test_a_row_holds_exact_sums_and_the_first_and_last_event_time() -> None:
    values = [
        order(timestamp=NOW_MS + shift_ms, data={"amount": amount})
        for shift_ms, amount in ((0, 0.1), (-5, 0.2), (7, 0.07))
    ]
    user_orders: dict[str, UserOrders] = {}
    list(upgrade_vips(decoded(*values, key=USER).events, user_orders, at=10))
    assert user_orders == {"ada": UserOrders(3, 37, NOW_MS - 5, NOW_MS + 7, vip=False)}


def test_a_user_is_a_vip_from_the_upgrade_on() -> None:
    user_orders: dict[str, UserOrders] = {}
    vip = []
    for one in orders(4):
        list(upgrade_vips([one], user_orders, at=3))
        vip.append(user_orders["ada"].vip)
    assert vip == [False, False, True, True]


def test_the_very_first_order_may_make_a_vip() -> None:
    user_orders: dict[str, UserOrders] = {}
    upgrades = list(upgrade_vips(orders(3), user_orders, at=1))
    assert [event.data.order_count for event in upgrades] == [1]


def test_a_lowered_bar_upgrades_by_the_next_order_and_a_raised_one_upgrades_nobody_twice() -> None:
    user_orders: dict[str, UserOrders] = {}
    assert list(upgrade_vips(orders(7), user_orders, at=10)) == []
    (upgrade,) = upgrade_vips(orders(2, first=8), user_orders, at=5)
    assert upgrade.data.order_count == 8
    assert list(upgrade_vips(orders(9, first=10), user_orders, at=12)) == []
    assert user_orders["ada"].vip


def test_orders_cut_anywhere_count_the_same() -> None:
    whole: dict[str, UserOrders] = {}
    upgrades = list(upgrade_vips(orders(12), whole, at=10))
    for at in range(13):
        cut: dict[str, UserOrders] = {}
        parts = [
            *upgrade_vips(orders(12)[:at], cut, at=10),
            *upgrade_vips(orders(12)[at:], cut, at=10),
        ]
        assert (parts, cut) == (upgrades, whole)
