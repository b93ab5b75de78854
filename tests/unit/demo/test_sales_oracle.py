"""What the oracle says of the group `sales`, told by example, and beside the application's own rules."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from demo.generator import partition_of
from demo.oracle import Json, Outcome, Source, expect_sales
from demo.oracle.estimates import Near, distinct, quantile
from tests.unit.wire import NOW_MS

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
START_MS = NOW_MS // DAY_MS * DAY_MS

Told = tuple[str, float, Json]
"""A type of event, its minute, and data."""


def line(product: str = "pen", quantity: Any = 1, price: Any = 1.5) -> Json:
    return {"product_id": product, "quantity": quantity, "unit_price": price}


def order(at_min: float, *items: Json, user: str = "ada", amount: float = 10) -> Told:
    return "order.created", at_min, {"user_id": user, "amount": amount, "items": list(items)}


def user(at_min: float, what: str, **data: Any) -> Told:
    return f"user.{what}", at_min, {"user_id": "ada", **data}


def product(what: str, at_min: float = 0, **data: Any) -> Told:
    return f"product.{what}", at_min, {"product_id": "pen", **data}


def outcome(*told: Told, partitions: int = 1) -> Outcome:
    sources: dict[str, dict[int, list[Source]]] = {
        topic: {number: [] for number in range(partitions)}
        for topic in ("orders", "users", "products")
    }
    for number, (kind, at_min, data) in enumerate(told):
        topic = f"{kind.split('.')[0]}s"
        whole = {"order_id": f"o-{number}", **data}
        key = whole["product_id" if topic == "products" else "user_id"].encode()
        event = {
            "event_id": f"e-{number}",
            "event_type": kind,
            "aggregate_id": "any",
            "timestamp": START_MS + int(at_min * MINUTE_MS),
            "data": whole,
        }
        rows = sources[topic][partition_of(key, partitions)]
        rows.append(Source(len(rows), -1, key, json.dumps(event).encode()))
    return expect_sales(sources)


def told(found: Outcome, topic: str) -> list[Json]:
    return [one.event["data"] for events in found.derived[topic].values() for one in events]


def test_a_window_tells_what_was_sold_of_a_product_in_five_minutes() -> None:
    found = outcome(
        product("created", name="a pen"),
        order(0, line(quantity=2), line("ink", price=7.25)),
        order(4.9, line(price=2), user="bob"),
        order(20, line("pen"), line("ink")),
    )
    [first] = [
        data
        for data in told(found, "product-sales")
        if (data["product_id"], data["window_start"]) == ("pen", START_MS)
    ]
    assert first == {
        "product_id": "pen",
        "product_name": "a pen",
        "window_start": START_MS,
        "window_end": START_MS + 5 * MINUTE_MS,
        "lines": 2,
        "units": 3,
        "revenue": Decimal(5),
        "buyers": Near(Decimal(2), Decimal(2)),
        "line_amount_p95": Near(Decimal("2.97"), Decimal("3.03")),
    }
    starts = [d["window_start"] for d in told(found, "product-sales") if d["product_id"] == "ink"]
    assert [(start - START_MS) // MINUTE_MS for start in starts] == [-4, -3, -2, -1, 0]


@pytest.mark.parametrize(("at_min", "windows"), [(9.99, 4), (10, 5)])
def test_a_window_closes_when_its_product_s_partition_is_five_minutes_beyond(
    at_min: float, windows: int
) -> None:
    found = outcome(order(0, line()), order(at_min, line()))
    ended = [d for d in told(found, "product-sales") if d["window_start"] <= START_MS]
    assert len(ended) == windows


@pytest.mark.parametrize(("at_min", "windows"), [(22, 0), (23, 2), (24, 3), (26, 5)])
def test_the_top_of_a_window_is_told_when_windows_are_told_that_end_a_quarter_hour_later(
    at_min: float, windows: int
) -> None:
    # Windows with the first order end at 0:01 to 0:05.
    found = outcome(
        product("created", name="a pen"),
        order(0, line(quantity=2), line("ink", price=7.25), line("cap", price=3)),
        order(11, line()),
        *[order(minute, line()) for minute in range(17, int(at_min) + 1)],
    )
    top = told(found, "top-products")
    assert len(top) == windows
    for data in top:
        assert data["window_end"] - data["window_start"] == 5 * MINUTE_MS
        assert [
            (each["rank"], each["product_id"], each["product_name"], each["units"], each["revenue"])
            for each in data["products"]
        ] == [
            (1, "ink", None, 1, Decimal("7.25")),
            (2, "cap", None, 1, Decimal(3)),
            (3, "pen", "a pen", 2, Decimal(3)),
        ]


def test_of_a_window_a_hundred_products_are_told_at_the_most() -> None:
    items = [line(f"p-{number}", price=number) for number in range(130)]
    found = outcome(order(0, *items), order(60, line()), order(120, line()), order(180, line()))
    first = min(told(found, "top-products"), key=lambda data: data["window_start"])
    assert [each["product_id"] for each in first["products"]] == [
        f"p-{number}" for number in range(129, 29, -1)
    ]


def test_what_other_partitions_sell_closes_nothing() -> None:
    products = [f"p-{number}" for number in range(8)]
    assert {partition_of(name.encode(), 2) for name in products} == {0, 1}
    found = outcome(
        *(order(0, line(name)) for name in products),
        order(60, line("p-0")),
        partitions=2,
    )
    here = partition_of(b"p-0", 2)
    sold = {data["product_id"] for data in told(found, "product-sales")}
    assert sold == {name for name in products if partition_of(name.encode(), 2) == here}
    assert found.derived["product-sales"].keys() == {here}


@pytest.mark.parametrize(
    "item",
    [line(quantity=-1), line(price=-0.5), line(product=7), {"product_id": "x"}, "pen"],  # type: ignore[arg-type]
)
def test_an_order_with_items_that_are_none_counts_nowhere(item: Any) -> None:
    found = outcome(order(0, line(), item), order(2 * 24 * 60), user(3 * 24 * 60, "logged_in"))
    assert [letter.reason for letter in found.dead_letters] == ["rule-failed"]
    assert told(found, "product-sales") == []
    assert told(found, "order-value-quantiles") == []


def days(*told_: Told) -> dict[str | None, int]:
    """Return how many orders of the first day are told of each country."""
    found = outcome(*told_, order(26 * 60, user="end"), user(26 * 60 + 1, "logged_in"))
    # The one that ends the day is of nobody's country, as are those of whoever told none.
    return {
        data["country"]: data["orders"]
        for data in told(found, "order-value-quantiles")
        if data["window_start"] == START_MS
    }


def test_an_order_is_of_the_country_of_its_time() -> None:
    moved = [user(0, "registered", country="PT"), user(10, "updated", changes={"country": "BR"})]
    # One partition: the order that ends the day ends it for all countries.
    assert days(*moved, order(5), order(10), order(11)) == {"PT": 1, "BR": 2}
    assert days(order(5), *moved) == {"PT": 1}
    assert days(order(5), order(6, user="guest")) == {None: 2}


def test_nobody_is_anywhere_before_they_came_and_after_they_left() -> None:
    known = user(10, "registered", country="PT"), user(20, "deleted")
    assert days(*known, order(9), order(10), order(20)) == {None: 2, "PT": 1}


def test_what_tells_no_country_changes_none() -> None:
    assert days(
        user(0, "registered", country="PT"),
        user(1, "updated", changes={"username": "x"}),
        user(2, "registered"),
        order(3),
    ) == {"PT": 1}


@pytest.mark.parametrize(("at_min", "orders"), [(0.99, 0), (1, 1)])
def test_an_order_waits_a_minute_for_its_country(at_min: float, orders: int) -> None:
    at = 26 * 60
    found = outcome(order(5), order(at, user="bob"), user(at + at_min, "logged_in"))
    assert len(told(found, "order-value-quantiles")) == orders


def test_a_day_is_told_with_its_quantiles() -> None:
    placed = [order(number, amount=number) for number in range(1, 11)]
    found = outcome(*placed, order(25 * 60), user(25 * 60 + 1, "logged_in"))
    [data] = told(found, "order-value-quantiles")
    assert data == {
        "country": None,
        "window_start": START_MS,
        "window_end": START_MS + DAY_MS,
        "orders": 10,
        "amount": Decimal(55),
        "p50": Near(Decimal("4.95"), Decimal("5.05")),
        "p90": Near(Decimal("8.91"), Decimal("9.09")),
        "p99": Near(Decimal("9.90"), Decimal("10.10")),
    }


def test_few_of_a_product_are_told_once_until_there_are_more() -> None:
    found = outcome(
        product("created", name="pen", price=1.5, stock=10),
        *(product("stock.updated", stock=left) for left in (9, 3, 0, 10, 2)),
        product("price.updated", price=2),
        product("viewed"),
    )
    alerts = told(found, "stock-alerts")
    assert [alert["stock"] for alert in alerts] == [9, 2]
    assert {alert["name"] for alert in alerts} == {"pen"}
    assert found.tables["products"] == {
        "pen": {"name": "pen", "price": Decimal(2), "stock": 2, "is_low": True}
    }
    assert found.tables["product_views"] == {f"pen@{START_MS}": {"views": 1}}


def test_looks_at_an_hour_that_is_gone_are_late() -> None:
    found = outcome(product("viewed"), product("viewed", 25 * 60), product("viewed", 1))
    assert found.tables["product_views"] == {f"pen@{START_MS + 25 * 60 * MINUTE_MS}": {"views": 1}}
    assert found.late == 1


def test_an_estimate_is_exact_where_few_values_are_known_to_be() -> None:
    assert distinct(160) == Near(Decimal(160), Decimal(160))
    assert distinct(1_000) == Near(Decimal(900), Decimal(1_100))
    cents = [Decimal(number) / 100 for number in range(1, 101)]
    assert quantile(cents, 95) == Near(Decimal("0.95"), Decimal("0.95"))
    assert quantile(cents[:1], 50) == Near(Decimal("0.01"), Decimal("0.01"))
    assert not quantile(cents, 95).is_told("0.95")
