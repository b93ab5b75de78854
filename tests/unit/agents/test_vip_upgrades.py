"""What is counted of a user's orders, and when it makes them a VIP."""

from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from agents.vip_upgrades.rules import upgrade_vips
from streams.events import OrderColumns, OrderCreated, UserVipUpgraded
from streams.operators.columns import KeyedColumns
from tables.definitions import UserOrders
from tests.unit.wire import NOW_MS, USER, decoded, order


def orders(count: int, *, user: str = "ada", first: int = 1) -> list[OrderCreated]:
    values = [
        order(event_id=f"e-{number}", data={"order_id": f"order-{number}", "user_id": user})
        for number in range(first, first + count)
    ]
    return list(decoded(*values, key=user.encode()).events)


def no_rows() -> KeyedColumns[UserOrders]:
    return KeyedColumns(UserOrders)


def upgraded(
    placed: Sequence[OrderCreated], user_orders: KeyedColumns[UserOrders], *, at: int
) -> list[UserVipUpgraded]:
    """Return the upgrades of a batch that is accepted."""
    upgrades = list(upgrade_vips(OrderColumns.of(placed), user_orders, at=at))
    user_orders.accept()
    return upgrades


def test_a_user_is_upgraded_once_at_the_tenth_order() -> None:
    user_orders = no_rows()
    upgrades = upgraded(orders(15), user_orders, at=10)
    assert [event.data.order_id for event in upgrades] == ["order-10"]
    assert user_orders.as_dict()["ada"].orders == 15


def test_the_upgrade_tells_who_by_which_order_and_where_it_came_from() -> None:
    (event,) = upgraded(orders(2), no_rows(), at=2)
    assert (event.event_id, event.aggregate_id) == ("e-2:user.vip_upgraded", "ada")
    assert (event.causation_id, event.correlation_id, event.version) == ("e-2", "e-2", 1)
    assert event.timestamp == NOW_MS
    assert (event.data.user_id, event.data.order_count, event.data.order_id) == (
        "ada",
        2,
        "order-2",
    )


def test_each_user_is_counted_alone() -> None:
    user_orders = no_rows()
    mixed = [o for pair in zip(orders(9), orders(9, user="bob"), strict=True) for o in pair]
    assert upgraded(mixed, user_orders, at=10) == []
    assert {user: row.orders for user, row in user_orders.as_dict().items()} == {"ada": 9, "bob": 9}


def test_users_who_are_upgraded_together_are_told_in_the_order_of_their_orders() -> None:
    user_orders = no_rows()
    mixed = [*orders(1), *orders(3, user="bob"), *orders(2, first=2), *orders(1, user="cyd")]
    upgrades = upgraded(mixed, user_orders, at=3)
    assert [event.data.user_id for event in upgrades] == ["bob", "ada"]
    assert {user: row.vip for user, row in user_orders.as_dict().items()} == {
        "ada": True,
        "bob": True,
        "cyd": False,
    }


def test_a_row_holds_exact_sums_and_the_first_and_last_event_time() -> None:
    values = [
        order(timestamp=NOW_MS + shift_ms, data={"amount": amount})
        for shift_ms, amount in ((0, 0.1), (-5, 0.2), (7, 0.07))
    ]
    user_orders = no_rows()
    upgraded(decoded(*values, key=USER).events, user_orders, at=10)
    assert user_orders.as_dict() == {"ada": UserOrders(3, 37, NOW_MS - 5, NOW_MS + 7, vip=False)}


def test_a_user_is_a_vip_from_the_upgrade_on() -> None:
    user_orders = no_rows()
    vip = []
    for one in orders(4):
        upgraded([one], user_orders, at=3)
        vip.append(user_orders.as_dict()["ada"].vip)
    assert vip == [False, False, True, True]


def test_the_very_first_order_may_make_a_vip() -> None:
    upgrades = upgraded(orders(3), no_rows(), at=1)
    assert [event.data.order_count for event in upgrades] == [1]


def test_a_lowered_bar_upgrades_by_the_next_order_and_a_raised_one_upgrades_nobody_twice() -> None:
    user_orders = no_rows()
    assert upgraded(orders(7), user_orders, at=10) == []
    (upgrade,) = upgraded(orders(2, first=8), user_orders, at=5)
    assert upgrade.data.order_count == 8
    assert upgraded(orders(9, first=10), user_orders, at=12) == []
    assert user_orders.as_dict()["ada"].vip


def test_no_orders_change_nothing() -> None:
    user_orders = no_rows()
    assert upgraded([], user_orders, at=1) == []
    assert user_orders.as_dict() == {}


def test_orders_cut_anywhere_count_the_same() -> None:
    whole = no_rows()
    upgrades = upgraded(orders(12), whole, at=10)
    for at in range(13):
        cut = no_rows()
        parts = [
            *upgraded(orders(12)[:at], cut, at=10),
            *upgraded(orders(12)[at:], cut, at=10),
        ]
        assert (parts, cut.as_dict()) == (upgrades, whole.as_dict())


# -- laws ------------------------------------------------------------------------------------------


def one_by_one(
    placed: Iterable[OrderCreated], rows: dict[str, UserOrders], *, at: int
) -> list[UserVipUpgraded]:
    """Do as the rule does, order by order and with a new row for each."""
    upgrades = []
    for one in placed:
        user, cents = one.data.user_id, round(one.data.amount * 100)
        row = rows.get(user, UserOrders(0, 0, one.timestamp, one.timestamp, vip=False))
        rows[user] = UserOrders(
            row.orders + 1,
            row.amount_cents + cents,
            min(row.first_order_at, one.timestamp),
            max(row.last_order_at, one.timestamp),
            row.vip or row.orders + 1 >= at,
        )
        if rows[user].vip and not row.vip:
            upgrades.append(UserVipUpgraded.caused_by(one, order_count=rows[user].orders))
    return upgrades


@st.composite
def placed_orders(draw: st.DrawFn) -> list[OrderCreated]:
    """Draw orders of few users, at any times and of any amounts."""
    drawn = st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 10**15))
    return [
        decoded(
            order(
                event_id=f"e-{number}",
                timestamp=NOW_MS + shift_ms,
                data={"order_id": f"o-{number}", "user_id": user, "amount": cents / 100},
            ),
            key=user.encode(),
        ).events[0]
        for number, (user, shift_ms, cents) in enumerate(draw(st.lists(drawn, max_size=25)))
    ]


@given(placed=placed_orders(), at=st.integers(1, 12), bars=st.tuples(*[st.integers(1, 6)] * 2))
def test_any_orders_cut_anywhere_count_as_they_do_one_by_one(
    placed: list[OrderCreated], at: int, bars: tuple[int, int]
) -> None:
    user_orders, rows = no_rows(), dict[str, UserOrders]()
    for some, bar in ((placed[:at], bars[0]), (placed[at:], bars[1])):
        assert upgraded(some, user_orders, at=bar) == one_by_one(some, rows, at=bar)
        assert user_orders.as_dict() == rows
