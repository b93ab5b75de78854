"""What the oracle itself says, told by example: a second opinion must not be wrong by itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from demo.oracle import Derived, Json, Outcome, Rules, Source, diff, expect, in_any_turns, parse
from demo.oracle.records import written_bytes

NOW_MS = 1_763_715_600_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000


def source(offset: int, event_type: str, at_ms: int = NOW_MS, **data: Any) -> Source:
    event = {
        "event_id": f"{event_type}-{offset}",
        "event_type": event_type,
        "aggregate_id": "a",
        "timestamp": at_ms,
        "data": {"user_id": "ada", **data},
    }
    return Source(offset, NOW_MS, b"ada", json.dumps(event).encode())


def users(*events: tuple[str, Json]) -> list[Source]:
    return [source(n, name, NOW_MS + n, **data) for n, (name, data) in enumerate(events)]


def orders(*times_ms: int, **data: Any) -> list[Source]:
    return [
        source(n, "order.created", at_ms, **{"order_id": f"o-{n}", "amount": 10, **data})
        for n, at_ms in enumerate(times_ms)
    ]


def shown(outcome: Outcome) -> list[Json | None]:
    """Return the user of each enriched order."""
    return [one.event["data"]["user"] for one in outcome.derived["enriched-orders"].get(0, [])]


NOBODY = {
    "username": None,
    "email": None,
    "country": None,
    "status": None,
    "registered_at": None,
    "last_login_at": None,
}


@pytest.mark.parametrize(
    ("events", "row"),
    [
        ([("user.password_changed", {})], NOBODY),
        ([("user.logged_in", {"ip": "::1"})], NOBODY | {"last_login_at": NOW_MS}),
        ([("user.status_changed", {"status": "odd"})], NOBODY | {"status": "odd"}),
        ([("user.updated", {"changes": {"email": "a@b"}})], NOBODY | {"email": "a@b"}),
        (
            [
                ("user.logged_in", {}),
                ("user.updated", {"changes": {"email": "a@b", "country": "GB"}}),
                ("user.registered", {"username": "ada", "email": None}),
            ],
            {
                "username": "ada",
                "email": "a@b",
                "country": "GB",
                "status": "active",
                "registered_at": NOW_MS + 2,
                "last_login_at": NOW_MS,
            },
        ),
        ([("user.registered", {}), ("user.deleted", {})], None),
        ([("user.deleted", {})], None),
        (
            [("user.registered", {"country": "GB"}), ("user.deleted", {}), ("user.logged_in", {})],
            NOBODY | {"last_login_at": NOW_MS + 2},
        ),
    ],
)
def test_a_users_row_after_events(events: list[tuple[str, Json]], row: Json | None) -> None:
    assert expect({"users": {0: users(*events)}}).tables["users"].get("ada") == row


def test_an_order_is_told_with_its_user_as_of_its_turn() -> None:
    registered = [
        source(0, "user.registered", NOW_MS + 10, email="a@b"),
        source(1, "user.status_changed", NOW_MS + 5, status="asleep"),  # takes its turn after 10
        source(2, "user.deleted", NOW_MS + 20),
    ]
    outcome = expect({"users": {0: registered}, "orders": {0: orders(*range(NOW_MS, NOW_MS + 25))}})
    asleep = {"email": "a@b", "country": None, "status": "asleep"}
    assert shown(outcome) == [None] * 10 + [asleep] * 10 + [None] * 5


def test_what_is_refused_or_skipped_takes_no_turn() -> None:
    junk = Source(0, NOW_MS, b"ada", b"?")
    unknown = source(1, "user.dreamt_of", NOW_MS + 99)
    registered = source(2, "user.registered", NOW_MS)
    outcome = expect({"users": {0: [junk, unknown, registered]}, "orders": {0: orders(NOW_MS)}})
    assert shown(outcome) == [{"email": None, "country": None, "status": "active"}]
    assert outcome.skipped == {"users": 1}


def test_a_dropped_event_takes_its_turn_and_does_nothing_else() -> None:
    rules = Rules(fails=lambda event: event["event_id"] == "order.created-0")
    late_ms = NOW_MS - 2 * DAY_MS
    outcome = expect(
        {
            "users": {0: [source(0, "user.registered", late_ms + 1)]},
            "orders": {0: orders(NOW_MS, late_ms)},
        },
        rules,
    )
    assert outcome.refused == {"rule-failed": 1}
    assert shown(outcome) == [{"email": None, "country": None, "status": "active"}]
    assert outcome.late == 0
    assert len(outcome.tables["user_order_minutes"]) == 1


def test_a_minute_is_there_until_a_day_after_its_end() -> None:
    start_ms = NOW_MS // MINUTE_MS * MINUTE_MS - 3 * DAY_MS
    gone_ms = start_ms + MINUTE_MS + DAY_MS
    before = expect({"orders": {0: orders(start_ms, gone_ms - 1, start_ms + MINUTE_MS - 1)}})
    assert before.tables["user_order_minutes"][f"ada@{start_ms}"] == {"orders": 2, "amount": 20}
    assert before.late == 0
    after = expect({"orders": {0: orders(start_ms, gone_ms, start_ms + MINUTE_MS - 1)}})
    assert f"ada@{start_ms}" not in after.tables["user_order_minutes"]
    assert after.late == 1
    assert after.tables["user_orders"]["ada"]["orders"] == 3


def test_a_row_of_a_user_can_be_too_large_as_well() -> None:
    long = "x" * 600_000
    told = users(
        ("user.registered", {"email": long}), ("user.updated", {"changes": {"username": long}})
    )
    outcome = expect({"users": {0: told}})
    assert [letter.offset for letter in outcome.dead_letters] == [1]
    assert outcome.tables["users"]["ada"]["username"] is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ('{"data":{"items":[1, 2]}}', 6),
        (' { "a" : "}" , "data" : { "b" : {} , "items" : "é" } } ', 4),
        ('{"data":{"items":1,"items":{"x":[]}},"data2":0}', 8),
        ('{"data":{"items":1},"data":{"items":123}}', 3),
    ],
)
def test_items_are_as_long_as_they_are_written(text: str, size: int) -> None:
    assert written_bytes(text.encode(), "data", "items") == size


# --- turns that were taken while the input was written --------------------------------------------

STATES = [None, *({"email": None, "country": None, "status": s} for s in ("active", "a", "b"))]


def with_users(outcome: Outcome, users_shown: list[int]) -> Outcome:
    """Return the outcome with other users in the enriched orders: numbers of STATES."""
    enriched = [
        Derived(one.key, {**one.event, "data": {**one.event["data"], "user": STATES[number]}})
        for one, number in zip(outcome.derived["enriched-orders"][0], users_shown, strict=True)
    ]
    derived = {**outcome.derived, "enriched-orders": {0: enriched}}
    return Outcome(outcome.tables, derived, outcome.dead_letters, outcome.skipped, outcome.late)


@pytest.mark.parametrize(
    ("users_shown", "differing"),
    [
        ([3, 3, 3], []),
        ([0, 1, 3], []),
        ([0, 0, 0], []),
        ([2, 2, 3], []),
        ([2, 1, 3], [1]),
        ([3, 3, 0], [2]),
    ],
)
def test_an_order_may_show_any_user_that_there_was_but_none_older_than_before(
    users_shown: list[int], differing: list[int]
) -> None:
    told = users(
        ("user.registered", {}),
        ("user.status_changed", {"status": "a"}),
        ("user.status_changed", {"status": "b"}),
    )
    merged = expect({"users": {0: told}, "orders": {0: orders(*[NOW_MS + 9] * 3)}})
    actual = with_users(merged, users_shown)
    lines = diff(in_any_turns(merged, actual), actual)
    assert [line.split(":")[0] for line in lines] == [
        f"enriched-orders[0] #{number}" for number in differing
    ]


def test_numbers_are_read_as_they_are_written() -> None:
    assert parse(b"[1, 0.1, 1e400]")[2] == parse(b"[10e399]")[0]
    assert str(parse(b"0.10")) == "0.10"
