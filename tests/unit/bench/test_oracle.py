"""The oracle knows what must come of orders, and tells each way in which it did not."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from bench.oracle import Oracle, TableCheck, Told, event_differences
from bench.orders import SIZES, Orders
from bench.work import HIGH_VALUE, TABLES, VIPS, Row, TableName
from streams.events import OrderCreated

END_MS = 1_763_715_600_000


def order(number: int, user: int, amount: float, *, at_ms: int = END_MS) -> bytes:
    """Return an order's event."""
    data = {"order_id": f"o-{number}", "user_id": f"user-{user}", "amount": amount}
    return json.dumps({"timestamp": at_ms, "data": data}).encode()


def after(events: Iterable[bytes], users: int = 10) -> Oracle:
    """Return an oracle that has seen them."""
    oracle = Oracle(users)
    for event in events:
        oracle.add(event)
    return oracle


def table_differences(oracle: Oracle, table: TableName, rows: dict[str, Row]) -> list[str]:
    """Return what the check says of these rows."""
    check = TableCheck(oracle, table)
    check.add(rows.items())
    return list(check.differences())


def test_orders_are_counted_by_user_and_by_minute() -> None:
    oracle = after([order(1, 7, 10.1), order(2, 7, 0.2, at_ms=END_MS + 60_000)])
    assert oracle.tables["user_orders"] == {"user-7": Row(2, 1030)}
    assert oracle.tables["user_order_minutes"] == {
        f"user-7@{END_MS}": Row(1, 1010),
        f"user-7@{END_MS + 60_000}": Row(1, 20),
    }


def test_strictly_above_a_thousand_is_of_high_value() -> None:
    oracle = after([order(1, 1, 1000), order(2, 1, 1000.01)])
    assert list(oracle.events[HIGH_VALUE]) == ["o-2"]


def test_the_tenth_order_makes_a_vip_and_the_twentieth_does_not() -> None:
    oracle = after(order(number, 1, 1) for number in range(1, 25))
    assert list(oracle.events[VIPS]) == ["o-10"]


def test_what_is_equal_has_no_differences() -> None:
    oracle = after(order(number, number % 5, 999.5 + number) for number in range(100))
    for table in TABLES:
        assert table_differences(oracle, table, dict(oracle.tables[table])) == []
    for topic in (HIGH_VALUE, VIPS):
        assert list(event_differences(oracle, topic, oracle.events[topic].values())) == []


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"user-1": Row(2, 100)}, "should be Row(orders=1"),
        ({}, "0 rows where 1 should be"),
        ({"user-1": Row(1, 100), "user-2": Row(1, 100)}, "no such row"),
    ],
    ids=["counted twice", "lost", "made up"],
)
def test_a_wrong_table_is_told(rows: dict[str, Row], said: str) -> None:
    oracle = after([order(1, 1, 1)])
    assert said in "; ".join(table_differences(oracle, "user_orders", rows))


def test_an_event_that_is_missing_other_or_twice_is_told() -> None:
    oracle = after([order(1, 1, 2000), order(2, 1, 3000)])
    right, other = Told("o-1", "user-1", 200_000), Told("o-2", "user-1", 1)
    said = "; ".join(event_differences(oracle, HIGH_VALUE, [right, right, other]))
    assert "o-1: told twice" in said
    assert "o-2: Told" in said
    missing = list(event_differences(oracle, HIGH_VALUE, [right]))
    assert missing == ["high-value-orders: 1 of 2 events are missing"]


def test_of_very_many_users_a_lost_order_of_any_is_found() -> None:
    events = [order(number, number, 1) for number in range(1, 33)]
    oracle = after(events, users=3_000_000)
    assert list(oracle.tables["user_orders"]) == ["user-16", "user-32"]
    rows = {f"user-{number}": Row(1, 100) for number in range(1, 33)}
    assert table_differences(oracle, "user_orders", rows) == []
    rows.pop("user-5")
    [said] = table_differences(oracle, "user_orders", rows)
    assert said.startswith("user_orders: Row(orders=31, amount_cents=3100) in all, where ")


@pytest.mark.parametrize("size", SIZES)
def test_made_up_orders_are_valid_of_their_size_and_in_time(size: int) -> None:
    made = list(Orders(seed=1, users=50, event_bytes=size).history(2_000, END_MS))
    values = [value for _, value in made]
    assert sum(map(len, values)) / len(values) == pytest.approx(size, rel=0.2)
    for key, value in made:
        event = json.loads(value)
        assert event["event_type"] == OrderCreated.__struct_config__.tag
        assert event["data"]["user_id"].encode() == key
        assert END_MS - 4_000 <= event["timestamp"] <= END_MS
        items = event["data"].get("items", [])
        cents = sum(round(item["unit_price"] * 100) for item in items)
        assert not items or cents == round(event["data"]["amount"] * 100)
    high = len(after(values).events[HIGH_VALUE]) / len(values)
    assert 0.01 < high < 0.1


def test_the_same_seed_makes_the_same_orders() -> None:
    first, second = (Orders(seed=3, users=9, event_bytes=400).history(50, END_MS) for _ in "ab")
    assert list(first) == list(second)
    assert list(Orders(seed=4, users=9, event_bytes=400).history(50, END_MS)) != list(first)
