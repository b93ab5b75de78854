"""What is summed of a user's orders within a minute."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from agents.user_order_minutes.rules import count_minutes
from streams.events import OrderColumns, OrderCreated
from streams.operators.columns import WindowedColumns
from streams.operators.windows import TumblingWindows
from tables.definitions import USER_ORDER_MINUTES, UserMinute
from tests.unit.wire import HOUR_MS, decoded, order

MINUTE_MS = 60_000
DAY_MS = 86_400_000


def orders(*placed: tuple[int, float], user: str = "ada") -> list[OrderCreated]:
    """Return a user's orders of these times and amounts."""
    values = [
        order(timestamp=time_ms, data={"user_id": user, "amount": amount})
        for time_ms, amount in placed
    ]
    far_ms = max((time_ms for time_ms, _ in placed), default=0)
    return list(decoded(*values, key=user.encode(), kafka_time_ms=far_ms).events)


def counted(
    placed: Sequence[OrderCreated], windows: TumblingWindows = USER_ORDER_MINUTES.windows
) -> WindowedColumns[UserMinute]:
    minutes: WindowedColumns[UserMinute] = WindowedColumns(UserMinute, windows)
    count(placed, minutes)
    return minutes


def count(placed: Sequence[OrderCreated], minutes: WindowedColumns[UserMinute]) -> None:
    """Count a batch, which is accepted."""
    count_minutes(OrderColumns.of(placed), minutes)
    minutes.accept()


def test_windows_are_minutes_with_a_day_of_grace() -> None:
    assert USER_ORDER_MINUTES.windows == TumblingWindows(MINUTE_MS, 24 * HOUR_MS)


def test_orders_of_a_minute_are_summed_in_whole_cents() -> None:
    minutes = counted(orders((0, 0.1), (59_999, 0.2), (30_000, 0.07)))
    assert minutes.as_dict() == {("ada", 0): UserMinute(3, 37)}


def test_a_minute_ends_before_the_next_begins() -> None:
    minutes = counted(orders((59_999, 1), (60_000, 2), (119_999, 3), (120_000, 4)))
    assert minutes.as_dict() == {
        ("ada", 0): UserMinute(1, 100),
        ("ada", 60_000): UserMinute(2, 500),
        ("ada", 120_000): UserMinute(1, 400),
    }


def test_users_are_counted_apart() -> None:
    minutes = counted([*orders((5, 1)), *orders((6, 2), user="bob"), *orders((7, 3))])
    assert minutes.as_dict() == {
        ("ada", 0): UserMinute(2, 400),
        ("bob", 0): UserMinute(1, 200),
    }


def test_an_order_that_is_late_is_counted_as_late_and_not_added() -> None:
    gone_ms = MINUTE_MS + DAY_MS
    minutes = counted(orders((5, 1), (gone_ms - 1, 2), (6, 4), (gone_ms, 8), (7, 16)))
    assert minutes.as_dict()["ada", 0] == UserMinute(2, 500)
    assert minutes.stream_time.late == 1


def test_the_day_is_that_of_all_users_of_the_partition() -> None:
    minutes = counted(
        [*orders((5, 1)), *orders((MINUTE_MS + DAY_MS, 2), user="bob"), *orders((6, 4))]
    )
    assert minutes.as_dict()["ada", 0] == UserMinute(1, 100)
    assert minutes.stream_time.late == 1


def test_no_orders_change_nothing() -> None:
    assert counted([]).as_dict() == {}


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=30), st.integers(0, 30))
def test_orders_cut_anywhere_count_the_same_and_each_is_counted_or_late(
    placed: list[tuple[int, int]], at: int
) -> None:
    windows = TumblingWindows(5, 10)
    all_orders = orders(*((time_ms, float(amount)) for time_ms, amount in placed))
    whole, cut = counted(all_orders, windows), WindowedColumns(UserMinute, windows)
    count(all_orders[:at], cut)
    count(all_orders[at:], cut)
    assert cut.as_dict() == whole.as_dict()
    assert cut.stream_time.late == whole.stream_time.late
    on_time = sum(row.orders for row in whole.as_dict().values())
    assert on_time + whole.stream_time.late == len(placed)
