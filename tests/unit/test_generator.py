"""The generator makes the orders that it promises."""

import json
from collections import Counter
from decimal import Decimal
from itertools import islice, pairwise, product
from random import Random
from typing import Any

import pytest

from demo.generator import OrderGenerator, partition_of
from demo.habits import Crowd
from demo.oracle import DeadLetter, Source, expect, judge
from demo.poison import ODDITIES, OVERSIZED, POISONS, PRODUCT_POISONS, Oddity, Poison, Subject
from demo.visits import Visits
from tests.unit.wire import HOUR_MS, NOW_MS

MANY = 20_000


Record = tuple[str, bytes | None, bytes | None]


def records(**options: Any) -> list[Record]:
    return list(islice(OrderGenerator(seed=7, **options).records(NOW_MS), MANY))


def events(topic: str = "orders", **options: Any) -> list[dict[str, Any]]:
    return [
        json.loads(value or b"{}", parse_float=Decimal)
        for found, _, value in records(**options)
        if found == topic
    ]


def outcome(topic: str, key: bytes | None, value: bytes | None) -> str:
    verdict = judge(topic, Source(0, NOW_MS, key, value), HOUR_MS)
    return verdict if isinstance(verdict, str) else "skipped" if verdict is None else "event"


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert records(poison_share=0.1) == records(poison_share=0.1)
    other = OrderGenerator(seed=8).records(NOW_MS)
    assert {value for _, _, value in records()}.isdisjoint(v for _, _, v in islice(other, MANY))


def test_without_poison_every_record_is_an_event() -> None:
    assert Counter(outcome(*record) for record in records()) == {"event": MANY}


def test_bulk_orders_are_orders_created_alone() -> None:
    made = list(islice(OrderGenerator(seed=7).orders(NOW_MS), MANY))
    assert {json.loads(value)["event_type"] for _, value in made} == {"order.created"}
    assert {outcome("orders", *record) for record in made} == {"event"}


def test_event_ids_are_unique() -> None:
    ids = Counter(event["event_id"] for topic in ("users", "orders") for event in events(topic))
    assert ids.most_common(1)[0][1] == 1


def test_the_amount_is_the_sum_of_the_items() -> None:
    for event in events():
        if event["event_type"] == "order.created":
            items = event["data"]["items"]
            assert event["data"]["amount"] == sum(i["quantity"] * i["unit_price"] for i in items)


def test_an_orders_events_come_after_it_in_their_order() -> None:
    life = ["created", "updated", "confirmed", "paid", "shipped", "completed"]
    lives: dict[str, list[str]] = {}
    for event in events():
        name = str(event["event_type"]).removeprefix("order.")
        lives.setdefault(event["aggregate_id"], []).append(name)
    seen = Counter(name for names in lives.values() for name in names)
    assert set(seen) == {*life, "cancelled"}
    for names in lives.values():
        assert names[0] == "created"
        assert "cancelled" not in names[:-1]
        uncancelled = [name for name in names if name != "cancelled"]
        assert uncancelled == [name for name in life if name in uncancelled]


def test_a_few_users_order_a_lot_and_each_sticks_to_a_currency() -> None:
    created = [event["data"] for event in events() if event["event_type"] == "order.created"]
    by_user = Counter(data["user_id"] for data in created)
    assert by_user.most_common(1)[0][1] > 20 * len(created) / len(by_user)
    assert len(by_user) > 500
    assert len({(d["user_id"], d["currency"]) for d in created}) == len(by_user)


def test_some_orders_are_of_high_value_and_some_come_late_but_none_early() -> None:
    created = [event for event in events() if event["event_type"] == "order.created"]
    high = sum(event["data"]["amount"] > 1000 for event in created) / len(created)
    late = sum(event["timestamp"] < NOW_MS - 60_000 for event in created) / len(created)
    assert 0.01 < high < 0.1
    days_late = sum(e["timestamp"] < NOW_MS - 24 * HOUR_MS for e in created) / len(created)
    assert 0.005 < late < 0.05
    assert 0 < days_late < 0.005
    assert max(event["timestamp"] for event in created) <= NOW_MS


def test_a_clock_is_asked_for_each_order() -> None:
    times = iter(range(10**12, 10**15, 10**6))
    made = islice(OrderGenerator(seed=7).orders(lambda: next(times)), 100)
    event_times = [json.loads(value)["timestamp"] for _, value in made]
    assert event_times == sorted(event_times)


def test_users_register_and_log_in_before_they_order() -> None:
    seen: dict[str, list[str]] = {}
    for topic, key, value in records():
        event = json.loads(value or b"")
        if topic == "users" or event["event_type"] == "order.created":
            seen.setdefault((key or b"").decode(), []).append(event["event_type"])
    guests = [user for user, names in seen.items() if set(names) == {"order.created"}]
    assert 0.01 < len(guests) / len(seen) < 0.06
    for user, names in seen.items():
        if user not in guests:
            assert names[:2] == ["user.registered", "user.logged_in"]
    counts = Counter(name for names in seen.values() for name in names)
    assert set(counts) == {
        "order.created",
        "user.registered",
        "user.logged_in",
        "user.updated",
        "user.password_changed",
        "user.status_changed",
        "user.deleted",
    }
    assert counts["user.logged_in"] > counts["user.registered"] > 20 * counts["user.deleted"]


def test_who_deleted_the_account_does_not_order_but_may_register_again() -> None:
    has_account: dict[bytes | None, bool] = {}
    returned = 0
    for topic, key, value in islice(OrderGenerator(seed=7, users=50).records(NOW_MS), 3 * MANY):
        name = json.loads(value or b"")["event_type"]
        if topic == "users":
            returned += name == "user.registered" and key in has_account
            if name in ("user.registered", "user.deleted"):
                assert has_account.get(key, False) == (name == "user.deleted")
                has_account[key] = name == "user.registered"
    assert returned > 5


def test_event_times_of_a_visit_rise_towards_its_order() -> None:
    random = Random(7)
    visits = Visits(random, seed=7)
    seen = 0
    for user in 10 * Crowd(random, 500).users:
        visit = visits.before_order(user, NOW_MS)
        times = [json.loads(value)["timestamp"] for value in visit.events]
        assert times == sorted(set(times))
        assert all(NOW_MS - 120_000 <= time_ms < NOW_MS for time_ms in times)
        seen += len(times)
    assert seen > 1_000


def test_users_come_most_in_hours_of_their_own() -> None:
    def busiest(hour: int) -> set[bytes]:
        orders = OrderGenerator(seed=7, users=500).orders(NOW_MS + hour * HOUR_MS)
        return {
            user for user, _ in Counter(key for key, _ in islice(orders, 5_000)).most_common(50)
        }

    assert busiest(0) == busiest(24)
    assert len(busiest(0) & busiest(12)) < 40


def test_users_order_what_they_like_again() -> None:
    created = [e["data"] for e in events() if e["event_type"] == "order.created"]
    (most, orders), *_ = Counter(data["user_id"] for data in created).most_common(1)
    assert orders > 100
    assert len({str(data["items"]) for data in created if data["user_id"] == most}) <= 24


@pytest.mark.parametrize("poison", [*POISONS, *PRODUCT_POISONS], ids=lambda poison: poison.name)
def test_each_poison_does_what_it_says(poison: Poison) -> None:
    made = poison.make(Subject(b"o-1", b"ada", NOW_MS))
    assert outcome(poison.topic, *made) == (poison.reason or "skipped")


def test_every_reason_for_which_a_record_is_refused_alone_is_there_in_both_topics() -> None:
    reasons = [None, "undecodable", "invalid-field", "key-mismatch", "timestamp-ahead"]
    kinds = {(poison.topic, poison.reason) for poison in POISONS}
    assert kinds == set(product(["users", "orders"], reasons))
    assert len({poison.name for poison in POISONS}) == len(POISONS)


@pytest.mark.parametrize("odd", ODDITIES, ids=lambda odd: odd.name)
def test_what_is_odd_is_an_event(odd: Oddity) -> None:
    assert outcome(odd.topic, *odd.make(Subject(b"o-1", b"ada", NOW_MS))) == "event"


@pytest.mark.parametrize("poison", OVERSIZED, ids=lambda poison: poison.name)
def test_what_becomes_too_large_is_not_too_large_itself(poison: Poison) -> None:
    key, value = poison.make(Subject(b"o-1", b"ada", NOW_MS))
    assert len(key or b"") + len(value or b"") <= 1_048_400
    assert outcome(poison.topic, key, value) == "event"
    letters = expect({poison.topic: {0: [Source(0, NOW_MS, key, value)]}}).dead_letters
    assert letters == [DeadLetter(poison.topic, 0, 0, "too-large")]


def test_poison_comes_in_its_share_and_of_every_kind() -> None:
    outcomes = Counter(outcome(*record) for record in records(poison_share=0.2))
    assert set(outcomes) == {
        "event",
        "skipped",
        "undecodable",
        "invalid-field",
        "key-mismatch",
        "timestamp-ahead",
    }
    assert 0.18 < (MANY - outcomes["event"]) / MANY < 0.22


# --- payments -------------------------------------------------------------------------------------


def clocked(count: int, **options: Any) -> list[Record]:
    """Return records of a day: the clock goes on a second with each time that is asked for."""
    times = iter(range(NOW_MS - 24 * HOUR_MS, NOW_MS, 1_000))
    return list(islice(OrderGenerator(seed=7, **options).records(lambda: next(times)), count))


def test_payments_are_events_and_the_same_seed_makes_the_same() -> None:
    made = clocked(MANY, payments=True)
    assert clocked(MANY, payments=True) == made
    paid = [record for record in made if record[0] == "payments"]
    assert {outcome(*record) for record in paid} == {"event"}
    ids = Counter(json.loads(value or b"")["event_id"] for _, _, value in paid)
    assert ids.most_common(1)[0][1] == 1


def test_payments_come_between_the_others_and_change_none_of_them() -> None:
    options: dict[str, Any] = {"poison_share": 0.1}
    made = islice(OrderGenerator(seed=7, payments=True, **options).records(NOW_MS), MANY)
    assert list(made) == records(**options)  # at a time that stands still none is due
    others = [record for record in clocked(MANY, payments=True) if record[0] != "payments"]
    assert [json.loads(value or b"")["event_id"] for _, _, value in others] == [
        json.loads(value or b"")["event_id"] for _, _, value in clocked(len(others))
    ]


def test_most_orders_are_paid_some_at_the_second_try_some_late_and_some_never() -> None:
    ordered: dict[str, int] = {}
    paid: dict[str, int] = {}
    refused: set[str] = set()
    strays = 0
    for topic, key, value in clocked(2 * MANY, payments=True):
        event = json.loads(value or b"")
        data, time_ms = event["data"], event["timestamp"]
        if event["event_type"] == "order.created":
            ordered[data["order_id"]] = time_ms
        elif event["event_type"] == "payment.failed":
            assert data["order_id"] not in paid
            refused.add(data["order_id"])
        elif topic == "payments":
            assert (key or b"").decode() == data["user_id"]
            strays += data["order_id"] not in ordered
            paid[data["order_id"]] = time_ms
    old = list(ordered)[: len(ordered) // 2]
    never = sum(order_id not in paid for order_id in old) / len(old)
    assert 0.06 < never < 0.11
    assert 0.005 < strays / len(paid) < 0.02
    assert 0.05 < len(refused & paid.keys()) / len(paid) < 0.15
    waits_ms = [paid[order_id] - ordered[order_id] for order_id in old if order_id in paid]
    assert 0.01 < sum(wait_ms > HOUR_MS / 2 for wait_ms in waits_ms) / len(waits_ms) < 0.15


# --- products -------------------------------------------------------------------------------------


def test_products_come_first_and_their_names_never_change() -> None:
    made = clocked(MANY, products=True)
    assert clocked(MANY, products=True) == made
    opening = OrderGenerator(seed=7, products=True).opening
    assert {(topic, outcome(topic, key, value)) for topic, key, value in made[:opening]} == {
        ("products", "event")
    }
    created = [json.loads(value or b"")["data"] for _, _, value in made[:opening]]
    assert len({data["name"] for data in created}) == opening
    assert all(data["price"] > 0 and data["stock"] > 0 for data in created)
    told = [json.loads(value or b"") for topic, _, value in made[opening:] if topic == "products"]
    assert Counter(event["event_type"] for event in told).keys() == {
        "product.viewed",
        "product.stock.updated",
        "product.price.updated",
    }
    known = {data["product_id"] for data in created}
    assert {event["data"]["product_id"] for event in told} <= known


def test_orders_are_of_products_that_there_are_and_a_few_sell_best() -> None:
    made = clocked(MANY, products=True)
    prices = {}
    sold: Counter[str] = Counter()
    for _, _, value in made:
        event = json.loads(value or b"", parse_float=Decimal)
        data = event["data"]
        if event["event_type"] == "product.created":
            prices[data["product_id"]] = data["price"]
        elif event["event_type"] == "order.created":
            for item in data["items"]:
                assert item["unit_price"] == prices[item["product_id"]]
                sold[item["product_id"]] += item["quantity"]
    assert len(sold) > 80
    best = sum(count for _, count in sold.most_common(6))
    assert best > 0.3 * sold.total()


def test_stock_goes_down_and_up_again() -> None:
    stocks: dict[str, list[int]] = {}
    for topic, _, value in clocked(3 * MANY, products=True):
        data = json.loads(value or b"")["data"]
        if topic == "products" and "stock" in data:
            stocks.setdefault(data["product_id"], []).append(data["stock"])
    assert sum(min(told) < 10 for told in stocks.values()) > 5
    restocked = [told for told in stocks.values() if any(b > a for a, b in pairwise(told))]
    assert len(restocked) > 5
    assert all(stock >= 0 for told in stocks.values() for stock in told)


def test_with_poison_some_items_are_none_and_products_are_poisoned_too() -> None:
    made = clocked(MANY, products=True, poison_share=0.2)
    assert any(b'"quantity":-' in (value or b"") for topic, _, value in made if topic == "orders")
    refused = {outcome(*record) for record in made if record[0] == "products"}
    assert refused >= {"event", "undecodable", "invalid-field", "key-mismatch", "skipped"}


def test_poison_is_made_by_the_clock_of_kafkas_timestamps() -> None:
    generator = OrderGenerator(seed=7, poison_share=0.2)
    made = islice(generator.records(NOW_MS - 24 * HOUR_MS, NOW_MS), MANY)
    assert "timestamp-ahead" in {outcome(*record) for record in made}


def test_senseless_options_are_refused() -> None:
    with pytest.raises(ValueError, match="users"):
        OrderGenerator(seed=1, users=0)
    with pytest.raises(ValueError, match="poison_share"):
        OrderGenerator(seed=1, poison_share=1.1)


def test_a_partition_is_the_crc_32_of_the_key() -> None:
    assert partition_of(b"123456789", 2**32) == 0xCBF43926
    assert {partition_of(b"user-%d" % n, 4) for n in range(100)} == {0, 1, 2, 3}
    assert partition_of(None, 4) == 0
