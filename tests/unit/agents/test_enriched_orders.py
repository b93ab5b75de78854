"""What an order is told with of its user."""

from typing import Any

import msgspec
import pytest

from agents.enriched_orders.rules import enrich
from streams.events import OrderCreated
from tables.definitions import User
from tests.unit.wire import ABSENT, NOW_MS, decoded, order, order_with

ADA = User("ada", "ada@example.org", "GB", "active", NOW_MS, NOW_MS)


def told_of(*values: bytes, users: dict[str, User]) -> list[dict[str, Any]]:
    derived = enrich(decoded(*values).events, users)
    return [msgspec.json.decode(msgspec.json.encode(event)) for event in derived]


def test_an_order_is_told_with_its_data_its_user_and_where_it_came_from() -> None:
    items = [{"product_id": "p", "quantity": 1, "unit_price": 19.99, "note": None}]
    value = order(correlation_id="c-1", data={"currency": "EUR", "items": items})
    assert told_of(value, users={"ada": ADA, "bob": User()}) == [
        {
            "event_id": "e-1:order.enriched",
            "event_type": "order.enriched",
            "aggregate_id": "o-1",
            "timestamp": NOW_MS,
            "version": 1,
            "correlation_id": "c-1",
            "causation_id": "e-1",
            "data": {
                "order_id": "o-1",
                "user_id": "ada",
                "amount": 19.99,
                "currency": "EUR",
                "items": items,
                "user": {"email": "ada@example.org", "country": "GB", "status": "active"},
            },
        }
    ]


@pytest.mark.parametrize(
    ("users", "told"),
    [
        ({}, None),
        ({"bob": ADA}, None),
        ({"ada": User()}, {"email": None, "country": None, "status": None}),
        ({"ada": User(status="")}, {"email": None, "country": None, "status": ""}),
    ],
    ids=["nobody is known", "another is known", "nothing is known of them", "little is known"],
)
def test_a_user_that_nobody_knows_is_null_and_one_of_whom_little_is_known_is_not(
    users: dict[str, User], told: dict[str, Any] | None
) -> None:
    (event,) = told_of(order(), users=users)
    assert event["data"]["user"] == told


def test_what_the_order_leaves_out_is_left_out_or_has_its_default() -> None:
    for nothing in (ABSENT, None):
        (told,) = told_of(
            order(correlation_id=nothing, data={"currency": nothing, "items": nothing}),
            users={"ada": ADA},
        )
        assert told["correlation_id"] == "e-1"
        assert told["data"]["currency"] == "USD"
        assert "items" not in told["data"]


def test_items_are_passed_on_byte_by_byte() -> None:
    (told,) = enrich(decoded(order_with("items", '[ 1.50,"\\u00e9", null ]')).events, {})
    assert b'"items":[ 1.50,"\\u00e9", null ]' in msgspec.json.encode(told)


def test_every_order_is_told_in_their_order_and_looks_its_user_up_in_its_turn() -> None:
    values = [order(event_id=f"e-{n}") for n in range(3)]
    placed: list[OrderCreated] = list(decoded(*values).events)
    users: dict[str, User] = {}
    told = []
    for event in enrich(placed, users):
        told.append((event.causation_id, event.data.user is not None))
        users["ada"] = ADA
    assert told == [("e-0", False), ("e-1", True), ("e-2", True)]


def test_no_orders_tell_nothing() -> None:
    assert told_of(users={"ada": ADA}) == []
