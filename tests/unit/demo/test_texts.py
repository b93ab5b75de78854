"""What the demo says of records that came out."""

from __future__ import annotations

from typing import Any

import pytest

from demo.texts import event_text, late_text

AMOUNTS = {"user_id": "ada", "order_id": "o-1", "amount": 1234.5, "currency": "USD"}


@pytest.mark.parametrize(
    ("event_type", "data", "text"),
    [
        ("order.payment_matched", {"waited_ms": 90_000}, "PAID  o-1 of ada after 1.5 min"),
        ("order.payment_matched", {"waited_ms": 900}, "PAID  o-1 of ada after 0.9 s"),
        ("order.unpaid", {}, "UNPAID o-1 of ada 1,234.50 USD"),
        (
            "user.session_closed",
            {"duration_ms": 60_000, "events": 3, "orders": 1},
            "SESSION ada 1.0 min: 3 events, 1 order",
        ),
        ("user.spending_spike", {"orders": 5}, "SPIKE ada 1,234.50 in an hour, by 5 orders"),
        ("user.order_stats", {"orders": 1}, "STATS ada 1 order in 5 min: 1,234.50"),
        (
            "product.sales",
            {"product_id": "p-1", "units": 3, "buyers": 1, "revenue": 4.5},
            "SOLD  p-1: 3 pieces to 1 buyer in 5 min: 4.50",
        ),
        (
            "product.sales",
            {"product_id": "p-1", "product_name": "pen", "units": 1, "buyers": 2, "revenue": 4},
            "SOLD  pen: 1 piece to 2 buyers in 5 min: 4.00",
        ),
        (
            "products.top",
            {"products": [{"product_id": "p-1", "product_name": "pen", "revenue": 1_234.5}]},
            "TOP   pen earned most in 5 min: 1,234.50",
        ),
        (
            "product.stock_low",
            {"product_id": "p-1", "name": None, "stock": 2},
            "LOW   p-1: 2 left",
        ),
        (
            "country.order_value_quantiles",
            {"country": "PT", "orders": 2, "p50": 10},
            "WORTH PT: half of 2 orders of a day 10.00 or less",
        ),
    ],
)
def test_each_event_has_a_word_and_what_it_tells(
    event_type: str, data: dict[str, Any], text: str
) -> None:
    assert event_text({"event_type": event_type, "data": {**AMOUNTS, **data}}) == text


def test_an_event_that_was_passed_on_is_told_by_its_id() -> None:
    event = {"event_id": "o-1-paid", "event_type": "order.paid", "data": AMOUNTS}
    assert event_text(event) == "PASSED o-1-paid of ada"


def test_a_late_record_says_where_it_lies_and_for_what_it_was_late() -> None:
    headers = {"topic": "orders", "partition": "3", "offset": "17", "flow": "order_stats"}
    told = {f"headrace.{name}": text for name, text in headers.items()}
    told["headrace.lateness-ms"] = str(36 * 3_600_000)
    assert late_text(told) == "LATE  orders-3@17 for order_stats by 1.5 days"
