"""What the oracle says of the group `windows`, told by example, and beside the application's own rules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest

from demo.event_clock import LATENESS
from demo.generator import LIFE_LIKE, Lateness, OrderGenerator
from demo.oracle import (
    WINDOWS_DERIVED,
    Derived,
    Json,
    Late,
    Source,
    WindowsOutcome,
    diff_windows,
    expect_windows,
    parse,
)
from demo.oracle.windows_told import window_stats
from tests.event_time import expected
from tests.unit.wire import NOW_MS

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
START_MS = NOW_MS // HOUR_MS * HOUR_MS - 24 * HOUR_MS

Told = tuple[str, float, Json]
"""A type of event, its minute, and data."""


def order(at_min: float, number: int = 1, amount: float = 10) -> Told:
    return "order.created", at_min, {"order_id": f"o-{number}", "amount": amount}


def payment(at_min: float, number: int = 1, kind: str = "payment.completed") -> Told:
    return kind, at_min, {"order_id": f"o-{number}", "payment_id": f"p-{number}", "amount": 10}


def seen(at_min: float) -> Told:
    return "user.logged_in", at_min, {}


def passed(at_min: float) -> Told:
    """Move stream time of all flows, and do nothing else but in a session of another user."""
    return "order.updated", at_min, {"order_id": "o-99", "user_id": "bob"}


def outcome(*told: Told) -> WindowsOutcome:
    sources: dict[str, dict[int, list[Source]]] = {
        topic: {0: []} for topic in ("orders", "users", "payments")
    }
    for number, (kind, at_min, data) in enumerate(told):
        topic = f"{kind.split('.')[0]}s"
        user_id = data.get("user_id", "ada")
        event = {
            "event_id": f"e-{number}",
            "event_type": kind,
            "aggregate_id": "a",
            "timestamp": START_MS + round(at_min * MINUTE_MS),
            "data": {"user_id": user_id, **data},
        }
        rows = sources[topic][0]
        rows.append(Source(len(rows), NOW_MS, user_id.encode(), json.dumps(event).encode()))
    return expect_windows(sources)


def data_in(found: WindowsOutcome, topic: str, user_id: str = "ada") -> list[Json]:
    told = [one.event["data"] for one in found.derived[topic].get(0, [])]
    return [data for data in told if data["user_id"] == user_id]


def minutes(found: WindowsOutcome, topic: str, *names: str) -> list[tuple[float, ...]]:
    """Return the minutes that fields of what was told say."""
    return [
        tuple((data[name] - START_MS) / MINUTE_MS for name in names)
        for data in data_in(found, topic)
    ]


def late_for(found: WindowsOutcome, flow: str) -> list[tuple[int, int, int]]:
    """Return offset and lateness of what was late for a flow."""
    return [(late.offset, *late[5:]) for late in found.late if late.flow == flow]


# --- order_payments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits_min", "is_paid"), [(-0.1, False), (0, True), (30, True), (30.1, False)]
)
def test_a_payment_matches_within_half_an_hour(waits_min: float, *, is_paid: bool) -> None:
    found = outcome(order(10), payment(10 + waits_min), passed(45.01))
    assert len(data_in(found, "order-payments")) == is_paid
    assert len(data_in(found, "unpaid-orders")) == (not is_paid)


def test_a_match_says_which_two_and_how_long_it_took() -> None:
    [one] = outcome(order(10, amount=12.5), payment(12)).derived["order-payments"][0]
    assert one.key == b"ada"
    assert one.event == {
        "event_id": "e-0:order.payment_matched:e-1",
        "event_type": "order.payment_matched",
        "aggregate_id": "o-1",
        "timestamp": START_MS + 12 * MINUTE_MS,
        "version": 1,
        "correlation_id": "e-0",
        "causation_id": "e-1",
        "data": {
            "order_id": "o-1",
            "user_id": "ada",
            "amount": 12.5,
            "currency": "USD",
            "payment_id": "p-1",
            "paid_amount": 10,
            "waited_ms": 2 * MINUTE_MS,
        },
    }


def test_neither_a_failed_payment_nor_one_of_another_order_pays() -> None:
    found = outcome(order(10), payment(11, kind="payment.failed"), payment(11, 2), passed(46))
    assert data_in(found, "order-payments") == []
    assert [data["order_id"] for data in data_in(found, "unpaid-orders")] == ["o-1"]


def test_an_order_is_open_until_stream_time_is_past_all_that_could_pay_it() -> None:
    assert data_in(outcome(order(10), passed(45)), "unpaid-orders") == []


def test_a_payment_five_minutes_behind_is_used_and_one_beyond_is_late() -> None:
    in_time = outcome(order(10), payment(20), payment(15))
    assert len(data_in(in_time, "order-payments")) == 2
    late = outcome(order(10), payment(20.01), payment(15))
    assert len(data_in(late, "order-payments")) == 1
    assert late_for(late, "order_payments") == [(1, 600, 600)]


# --- user_sessions --------------------------------------------------------------------------------


def test_a_session_is_all_that_is_half_an_hour_apart_and_told_when_it_has_closed() -> None:
    told = [order(0), seen(30), seen(60.1), passed(95.1)]
    assert minutes(outcome(*told), "user-sessions", "started_at", "ended_at") == [(0, 30)]
    found = outcome(*told, passed(95.2))
    assert minutes(found, "user-sessions", "started_at", "ended_at") == [(0, 30), (60.1, 60.1)]
    first, _ = data_in(found, "user-sessions")
    assert (first["duration_ms"], first["events"], first["orders"], first["amount"]) == (
        30 * MINUTE_MS,
        2,
        1,
        10,
    )


def test_what_lies_between_makes_two_sessions_one() -> None:
    found = outcome(seen(0), seen(32), seen(28), passed(68))
    assert minutes(found, "user-sessions", "started_at", "ended_at") == [(0, 32)]


def test_what_is_near_no_open_session_and_behind_all_grace_is_late() -> None:
    found = outcome(passed(60), seen(60), seen(24.9))
    assert late_for(found, "user_sessions") == [(1, 5_999, 5_999)]
    assert outcome(passed(60), seen(60), seen(25)).late == []


# --- order_stats ----------------------------------------------------------------------------------


def test_an_order_is_in_five_windows_of_five_minutes() -> None:
    found = outcome(order(7.5, amount=10), order(8, 2, amount=0.01), passed(13))
    windows = minutes(found, "order-stats", "window_start", "window_end")
    assert windows == [(3, 8), (4, 9), (5, 10), (6, 11), (7, 12)]
    told = data_in(found, "order-stats")
    assert [data["orders"] for data in told] == [1, 2, 2, 2, 2]
    assert told[1] | {"window_start": 0, "window_end": 0} == {
        "user_id": "ada",
        "window_start": 0,
        "window_end": 0,
        "orders": 2,
        "amount": parse(b"10.01"),
        "highest": 10,
        "mean": parse(b"5.01"),  # half a cent up
    }


def test_windows_that_have_closed_are_closed_to_an_order_and_others_are_not() -> None:
    found = outcome(passed(10), order(7.5))
    windows = [
        tuple((int(edge) - START_MS) / MINUTE_MS for edge in late.window.split("-"))
        for late in found.late
    ]
    assert windows == [(3, 8), (4, 9)]
    assert late_for(found, "order_stats") == [(1, MINUTE_MS, MINUTE_MS), (1, 0, 0)]
    assert outcome(passed(10), order(7.5), passed(20)).derived["order-stats"][0] != []


def test_no_window_begins_before_time_did() -> None:
    sources = [Source(0, 0, b"ada", _early(61_000)), Source(1, 0, b"ada", _early(10**6))]
    found = expect_windows({"orders": {0: sources}}, max_ahead_ms=10**9)
    starts = [data["window_start"] for data in data_in(found, "order-stats")]
    assert starts == [0, MINUTE_MS]


def _early(time_ms: int) -> bytes:
    data = {"order_id": f"o-{time_ms}", "user_id": "ada", "amount": 1}
    event = {"event_id": f"e-{time_ms}", "event_type": "order.created", "aggregate_id": "o"}
    return json.dumps({**event, "timestamp": time_ms, "data": data}).encode()


def test_the_mean_is_exact_to_half_a_cent() -> None:
    orders = [
        {"event_type": "order.created", "data": {"user_id": "ada", "amount": parse(amount)}}
        for amount in (b"0.01", b"0.01", b"0.02")
    ]
    assert window_stats(orders, 0, 1)["data"]["mean"] == parse(b"0.01")


# --- spending_spikes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orders", "is_high"),
    [
        ([order(0, amount=5_000)], True),
        ([order(0, amount=4_999.99)], False),
        ([order(n, n) for n in range(5)], True),
        ([order(n, n) for n in range(4)], False),
        ([order(0, amount=2_500), order(60, amount=2_500)], True),
        ([order(0, amount=2_500), order(60.1, amount=2_500)], False),
    ],
)
def test_an_hour_is_high_by_its_sum_or_by_its_orders(orders: list[Told], *, is_high: bool) -> None:
    assert len(data_in(outcome(*orders, passed(70)), "spending-spikes")) == is_high


def test_of_high_hours_that_overlap_the_first_is_told_and_the_next_behind_them() -> None:
    high = [order(at_min, amount=5_000) for at_min in (0, 50, 100, 160, 160.1, 300)]
    found = outcome(*high, passed(301.01))
    told = minutes(found, "spending-spikes", "started_at", "ended_at")
    assert told == [(-60, 0), (240, 300)]


def test_an_hour_that_has_closed_is_judged_as_it_was() -> None:
    found = outcome(order(0, amount=4_000), passed(1.1), order(0, 2, amount=4_000), passed(3))
    assert data_in(found, "spending-spikes") == []
    found = outcome(order(0, amount=4_000), passed(1), order(0, 2, amount=4_000), passed(3))
    assert [data["orders"] for data in data_in(found, "spending-spikes")] == [2]


def test_an_order_for_which_every_hour_has_closed_is_late() -> None:
    assert late_for(outcome(passed(61), order(0)), "spending_spikes") == []
    found = late_for(outcome(passed(61.001), order(0)), "spending_spikes")
    assert found == [(1, 59, 59)]


# --- all of it ------------------------------------------------------------------------------------


def test_what_is_refused_or_skipped_moves_no_time() -> None:
    junk = [("order.dreamt_of", 500.0, {}), ("order.created", 500.0, {"order_id": "o"})]
    found = outcome(order(10), *junk)
    assert found.skipped == {"orders": 1}
    assert [letter.reason for letter in found.dead_letters] == ["invalid-field"]
    assert data_in(found, "order-stats") == []


def _traffic(lateness: Lateness) -> Iterator[tuple[str, bytes, bytes]]:
    times = iter(range(START_MS, NOW_MS, 700))
    generator = OrderGenerator(seed=3, users=150, payments=True, lateness=lateness)
    for topic, key, value in generator.records(lambda: next(times)):
        assert key is not None
        assert value is not None
        yield topic, key, value


@pytest.mark.parametrize("lateness", [LIFE_LIKE, LATENESS], ids=["life-like", "certain"])
def test_it_says_what_the_applications_own_rules_say_event_by_event(lateness: Lateness) -> None:
    values: dict[str, list[bytes]] = {topic: [] for topic in ("orders", "users", "payments")}
    sources: dict[str, dict[int, list[Source]]] = {topic: {0: []} for topic in values}
    for topic, key, value in islice(_traffic(lateness), 6_000):
        sources[topic][0].append(Source(len(values[topic]), NOW_MS, key, value))
        values[topic].append(value)
    said = expect_windows(sources)
    assert all(said.derived[topic] for topic in WINDOWS_DERIVED)
    assert {late.flow for late in said.late} > {"order_stats", "user_sessions"}
    assert diff_windows(said, _as_told(values)) == []


def _as_told(values: dict[str, list[bytes]]) -> WindowsOutcome:
    """Return what the rules make of the values, as the check would read it."""
    theirs = expected(values)
    lies: dict[str, tuple[str, int, int]] = {
        json.loads(value)["event_id"]: (topic, 0, offset)
        for topic, of_topic in values.items()
        for offset, value in enumerate(of_topic)
    }
    return WindowsOutcome(
        derived={topic: {0: _derived(events)} for topic, events in theirs.derived.items()},
        late=[
            Late(flow, window, *lies[event_id], int(late_ms), int(late_ms))
            for flow, window, late_ms, event_id in theirs.late
        ],
    )


def _derived(events: Sequence[Any]) -> list[Derived]:
    return [
        Derived(event["data"]["user_id"].encode(), parse(json.dumps(event).encode()))
        for event in events
    ]
