"""What the live view shows of each group, from the records that it sees."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from typing import Any, NamedTuple

from demo.generator import OrderGenerator, partition_of
from demo.oracle import Source, expect_deduplicated
from demo.panel import Sights, counts
from demo.repeats import repeated
from demo.sights import DeduplicationSights, MainSights, SalesSights, WindowsSights
from tests.unit.wire import NOW_MS

MINUTE_MS = 60_000
LATE = Counter(order_stats=3, user_sessions=5)


class Record(NamedTuple):
    """What a sight sees of aiokafka's ConsumerRecord."""

    key: bytes | None
    value: bytes | None
    partition: int = 0


def told(key: str, **data: Any) -> Record:
    return Record(key.encode(), json.dumps({"data": data}).encode())


def test_of_no_group_in_particular_there_is_nothing_to_see() -> None:
    sights = Sights()
    sights.see_record("any", Record(b"k", b"v"))
    sights.see_row("any", Record(b"k", b"v"))
    assert (sights.panels(LATE), dict(sights.news)) == ([], {})


def test_of_the_main_group_the_users_are_shown_who_have_spent_most() -> None:
    sights = MainSights()
    for user, amount in (("ada", 12.5), ("bob", 99.99)):
        row = {"orders": 1, "amount": amount, "first_order_at": 1, "last_order_at": 1, "vip": True}
        sights.see_row("user_orders", Record(user.encode(), json.dumps(row).encode()))
    sights.see_row("users", Record(b"cy", b"{}"))
    sights.see_row("user_orders", Record(b"dan", None))
    [panel] = sights.panels(LATE)
    assert [user for user, _ in panel.rows] == ["bob", "ada"]
    assert panel.rows[0][1].split() == ["★", "VIP", "1", "99.99"]


def test_of_windows_what_was_late_is_counted() -> None:
    [panel] = WindowsSights().panels(LATE)
    assert panel == counts("late records", LATE)
    assert panel.end == "8"
    assert panel.rows[0] == ("user_sessions", "5")


def sold(product: str, minute: int, revenue: float) -> Record:
    end_ms = NOW_MS // MINUTE_MS * MINUTE_MS + minute * MINUTE_MS
    return told(product, product_id=product, window_end=end_ms, units=2, buyers=1, revenue=revenue)


def test_of_sales_the_best_of_the_last_window_that_all_partitions_have_told_are_shown() -> None:
    sights = SalesSights()
    assert [panel.rows for panel in sights.panels(LATE)] == [
        [("no window has closed yet", "")],
        [("no day has ended yet", "")],
        [],
    ]
    row = {"name": "oak chair", "price": 1, "stock": 40, "is_low": False}
    sights.see_row("products", Record(b"p-1", json.dumps(row).encode()))
    for record in (sold("p-2", 1, 7), sold("p-1", 1, 1_234), sold("p-3", 2, 5_000)):
        sights.see_record("product-sales", record)
    best = sights.panels(LATE)[0]
    assert best.title == "best to 09:01"
    assert [(name, end.split()) for name, end in best.rows] == [
        ("oak chair", ["2", "1", "1,234"]),
        ("p-2", ["2", "1", "7"]),
    ]
    for minute in range(3, 9):
        sights.see_record("product-sales", sold("p-4", minute, minute))
    assert sights.panels(LATE)[0].title == "best to 09:07"


def test_of_sales_a_day_s_order_values_are_shown_by_country() -> None:
    sights = SalesSights()
    for country, orders in (("PT", 3), (None, 1), ("BR", 20)):
        day = {"country": country, "window_end": NOW_MS, "orders": orders}
        record = told(country or "", **day, p50=1.5, p90=20, p99=1_234.4)
        sights.see_record("order-value-quantiles", record)
    worth = sights.panels(LATE)[1]
    assert [country for country, _ in worth.rows] == ["BR", "PT", "??"]
    assert worth.rows[0][1].split() == ["2", "20", "1,234"]


def test_of_sales_products_are_low_until_there_are_more() -> None:
    sights = SalesSights()

    def put(product: bytes, stock: int) -> None:
        row = {"name": None, "price": 1, "stock": stock, "is_low": stock < 10}
        sights.see_row("products", Record(product, json.dumps(row).encode()))

    for product, stock in ((b"p-1", 9), (b"p-2", 3), (b"p-1", 7), (b"p-3", 1), (b"p-3", 90)):
        put(product, stock)
    low = sights.panels(LATE)[2]
    assert (low.end, low.rows) == ("2", [("p-1", "7"), ("p-2", "3")])


def test_of_deduplication_all_is_counted_however_what_is_passed_on_is_seen() -> None:
    now = [NOW_MS]

    def clock() -> int:
        now[0] += 1_500
        return now[0]

    generator = OrderGenerator(seed=5, users=60, poison_share=0.05)
    made = (each for each in generator.records(clock, NOW_MS) if each[0] == "orders")
    orders: dict[int, list[Record]] = {0: [], 1: []}
    for _, key, value in islice(repeated(made, clock, 5), 8_000):
        partition = partition_of(key, 2)
        orders[partition].append(Record(key, value, partition))
    expected = expect_deduplicated(
        {n: [Source(at, -1, *r[:2]) for at, r in enumerate(rows)] for n, rows in orders.items()}
    )
    sights = DeduplicationSights()
    assert dict(sights.news) == {}
    for partition, rows in orders.items():
        passed = [Record(*one, partition) for one in expected.passed[partition]]
        # In one partition what was passed on is seen first, in the other what it came of.
        both = [("orders-deduplicated", passed), ("orders", rows)]
        for topic, records in both if partition else reversed(both):
            for record in records:
                sights.see_record(topic, record)
    sights.see_record("late-records", Record(None, None))
    [panel] = sights.panels(Counter(orders_deduplicated=len(expected.late)))
    shown = dict(panel.rows)
    assert shown["passed on"] == f"{sum(map(len, expected.passed.values())):,}"
    # Behind the last event that was passed on nothing is known yet.
    left_out = int(shown["repeated, left out"].replace(",", ""))
    assert expected.left_out - 5 <= left_out <= expected.left_out
    assert int(shown["of these ids used again"]) > 10
    assert shown["too late"] == f"{len(expected.late):,}"
    assert sights.news["left out"].startswith("TWICE ord-5-")
