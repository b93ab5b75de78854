"""The rules of the flows whose results event time closes: what they tell, and in which form."""

from decimal import Decimal
from typing import Any

import msgspec

from agents.order_payments import rules as order_payments
from agents.order_stats import rules as order_stats
from agents.user_sessions import rules as user_sessions
from streams.events import (
    OrderCreated,
    OrderCreatedData,
    PaymentCompleted,
    PaymentData,
    UserData,
    UserPasswordChanged,
    amount_of,
)
from streams.operators.panes import PaneDict
from streams.operators.timed import TimedDict
from tables.timed import STATS

MINUTE_MS = 60_000
START_MS = 1_763_715_600_000


def order(number: int, at_min: float, amount: float = 10.0, **data: Any) -> OrderCreated:
    return OrderCreated(
        event_id=f"e-{number}",
        aggregate_id=f"o-{number}",
        timestamp=START_MS + round(at_min * MINUTE_MS),
        data=OrderCreatedData(order_id=f"o-{number}", user_id="ada", amount=amount, **data),
    )


def payment(number: int, at_min: float, **data: Any) -> PaymentCompleted:
    return PaymentCompleted(
        event_id=f"p-{number}",
        aggregate_id=f"o-{number}",
        timestamp=START_MS + round(at_min * MINUTE_MS),
        data=PaymentData(order_id=f"o-{number}", user_id="ada", **data),
    )


def as_json(event: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(event))


def test_a_payment_in_time_is_matched_whichever_comes_first() -> None:
    #  order |----- 30 min -----| a payment at either end is in time
    for first in (True, False):
        rows: TimedDict[Any] = TimedDict()
        placed, paid = [order(1, 0, currency="EUR")], [payment(1, 30, payment_id="x", amount=9.5)]
        if first:
            matched = [
                *order_payments.take_orders(placed, rows),
                *order_payments.take_payments(paid, rows),
            ]
        else:
            matched = [
                *order_payments.take_payments(paid, rows),
                *order_payments.take_orders(placed, rows),
            ]
        assert [as_json(event) for event in matched] == [
            {
                "event_type": "order.payment_matched",
                "event_id": "e-1:order.payment_matched:p-1",
                "aggregate_id": "o-1",
                "timestamp": START_MS + 30 * MINUTE_MS,
                "version": 1,
                "correlation_id": "e-1",
                "causation_id": "p-1",
                "data": {
                    "order_id": "o-1",
                    "user_id": "ada",
                    "amount": 10.0,
                    "currency": "EUR",
                    "payment_id": "x",
                    "paid_amount": 9.5,
                    "waited_ms": 30 * MINUTE_MS,
                },
            }
        ]


def test_an_order_is_unpaid_once_nothing_in_time_can_come_any_more() -> None:
    rows: TimedDict[Any] = TimedDict()
    assert list(order_payments.take_orders([order(1, 0), order(2, 0)], rows)) == []
    assert list(order_payments.take_payments([payment(2, 31), payment(1, 35)], rows)) == []
    assert rows.fire(order_payments.unpaid) == []
    rows.now_ms += 1
    told = rows.fire(order_payments.unpaid)
    assert [event.event_id for event in told] == ["e-1:order.unpaid", "e-2:order.unpaid"]
    assert as_json(told[0]) == {
        "event_type": "order.unpaid",
        "event_id": "e-1:order.unpaid",
        "aggregate_id": "o-1",
        "timestamp": START_MS,
        "version": 1,
        "correlation_id": "e-1",
        "causation_id": "e-1",
        "data": {"order_id": "o-1", "user_id": "ada", "amount": 10.0, "currency": "USD"},
    }


def test_a_currency_is_as_the_order_has_it_and_usd_where_it_has_none() -> None:
    rows: TimedDict[Any] = TimedDict()
    orders = [order(1, 0, currency=""), order(2, 0, currency=None), order(3, 0)]
    assert list(order_payments.take_orders(orders, rows)) == []
    rows.now_ms += 36 * MINUTE_MS
    told = rows.fire(order_payments.unpaid)
    assert [event.data.currency for event in told] == ["", "USD", "USD"]


def test_a_session_is_told_with_all_that_was_done_in_it() -> None:
    #  0 .. 30 .... | 61    the last is more than 30 minutes from the one before
    rows: TimedDict[Any] = TimedDict()
    changed = UserPasswordChanged(
        event_id="u", aggregate_id="ada", timestamp=START_MS + 30 * MINUTE_MS, data=UserData("ada")
    )
    user_sessions.take_events([order(1, 0, 12.5), changed, order(2, 61)], rows)
    rows.now_ms = START_MS + 65 * MINUTE_MS
    assert rows.fire(user_sessions.close) == []
    rows.now_ms += 1
    assert [as_json(event) for event in rows.fire(user_sessions.close)] == [
        {
            "event_type": "user.session_closed",
            "event_id": f"user_sessions:ada:{START_MS}-{START_MS + 30 * MINUTE_MS}",
            "aggregate_id": "ada",
            "timestamp": START_MS + 30 * MINUTE_MS,
            "version": 1,
            "correlation_id": f"user_sessions:ada:{START_MS}-{START_MS + 30 * MINUTE_MS}",
            "causation_id": None,
            "data": {
                "user_id": "ada",
                "started_at": START_MS,
                "ended_at": START_MS + 30 * MINUTE_MS,
                "duration_ms": 30 * MINUTE_MS,
                "events": 2,
                "orders": 1,
                "amount": 12.5,
            },
        }
    ]


def test_a_window_is_told_with_its_orders_and_their_mean_half_a_cent_up() -> None:
    rows = PaneDict(STATS)
    order_stats.take_orders([order(1, 0, 0.01), order(2, 4, 0.02), order(3, 11)], rows)
    told = list(order_stats.tell(rows.fire()))
    assert [(e.data.window_start - START_MS) // MINUTE_MS for e in told] == list(range(-4, 5))
    whole = told[4]
    assert as_json(whole) == {
        "event_type": "user.order_stats",
        "event_id": f"order_stats:ada:{START_MS}-{START_MS + 5 * MINUTE_MS}",
        "aggregate_id": "ada",
        "timestamp": START_MS + 5 * MINUTE_MS - 1,
        "version": 1,
        "correlation_id": f"order_stats:ada:{START_MS}-{START_MS + 5 * MINUTE_MS}",
        "causation_id": None,
        "data": {
            "user_id": "ada",
            "window_start": START_MS,
            "window_end": START_MS + 5 * MINUTE_MS,
            "orders": 2,
            "amount": 0.03,
            "highest": 0.02,
            "mean": 0.02,
        },
    }


def test_sums_beyond_a_double_are_exact() -> None:
    assert amount_of(10**15) == 1e13
    assert amount_of(10**17 + 1) == Decimal("1000000000000000.01")
