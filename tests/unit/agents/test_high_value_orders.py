"""Which orders are of high value, and what is told of them."""

from typing import Any

import msgspec

from agents.high_value_orders.rules import high_value
from tests.unit.wire import ABSENT, NOW_MS, decoded, order, order_with


def told_of(*values: bytes, above_cents: int = 100_000) -> list[dict[str, Any]]:
    derived = high_value(decoded(*values).events, above_cents=above_cents)
    return [msgspec.json.decode(msgspec.json.encode(event)) for event in derived]


def test_only_amounts_strictly_above_are_of_high_value() -> None:
    amounts = [999.99, 1000, 1000.0, 1000.01, 5000]
    told = told_of(*(order(data={"amount": amount}) for amount in amounts))
    assert [event["data"]["amount"] for event in told] == [1000.01, 5000]


def test_an_order_of_high_value_is_told_with_its_data_and_where_it_came_from() -> None:
    items = [{"product_id": "p", "quantity": 1, "unit_price": 1299.5, "note": None}]
    value = order(correlation_id="c-1", data={"amount": 1299.5, "currency": "EUR", "items": items})
    assert told_of(value) == [
        {
            "event_id": "e-1:order.high_value",
            "event_type": "order.high_value",
            "aggregate_id": "o-1",
            "timestamp": NOW_MS,
            "version": 1,
            "correlation_id": "c-1",
            "causation_id": "e-1",
            "data": {
                "order_id": "o-1",
                "user_id": "ada",
                "amount": 1299.5,
                "currency": "EUR",
                "items": items,
                "category": "HIGH_VALUE",
                "alert_sent": True,
            },
        }
    ]


def test_what_the_order_leaves_out_is_left_out_or_has_its_default() -> None:
    for nothing in (ABSENT, None):
        data = {"amount": 2000, "currency": nothing, "items": nothing}
        (told,) = told_of(order(correlation_id=nothing, data=data))
        assert told["correlation_id"] == "e-1"
        assert told["data"]["currency"] == "USD"
        assert "items" not in told["data"]


def test_items_are_passed_on_byte_by_byte() -> None:
    (event,) = decoded(
        order_with("items", '[ 1.50,"\\u00e9", null ]').replace(b"19.99", b"9999")
    ).events
    (told,) = high_value([event], above_cents=0)
    assert b'"items":[ 1.50,"\\u00e9", null ],' in msgspec.json.encode(told)


def test_no_orders_tell_nothing() -> None:
    assert told_of() == []
