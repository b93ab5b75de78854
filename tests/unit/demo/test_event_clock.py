"""Event time runs ahead of the clock, waits for the workers, and has records whose lateness is certain."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from aiokafka import TopicPartition

from demo.event_clock import (
    AROUND_MIDNIGHT,
    BELL_AFTER_MS,
    FAST,
    IN_TIME_MS,
    LATENESS,
    LEAD_MS,
    PACE,
    PAST_MS,
    SALES_LATENESS,
    EventClock,
)
from demo.following import Standing
from demo.generator import OrderGenerator, partition_of
from tables.sales import COUNTRY_OF_ORDER
from tables.timed import PAYMENT_OF_ORDER, USER_SESSIONS
from tests.unit.wire import NOW_MS

DAY_MS = 86_400_000
START_MS = NOW_MS - PAST_MS
P0 = TopicPartition("orders", 0)


class Clock:
    """A clock that stands still until it is moved on."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def ticks(event_clock: EventClock, clock: Clock, count: int, records: int = 40) -> None:
    """Let 20 ms pass again and again, in each of which so many records are sent and committed."""
    for _ in range(count):
        clock.now_ms += 20
        event_clock.go_on(records)


def test_it_begins_a_day_ago_and_passes_a_hundred_times_as_fast() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    assert event_clock() == START_MS
    ticks(event_clock, clock, 50)
    assert event_clock() == START_MS + 1_000 * PACE


def test_it_never_goes_beyond_the_present() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    ticks(event_clock, clock, 50 * 900)
    assert event_clock() == clock.now_ms
    ticks(event_clock, clock, 50)
    assert event_clock() == clock.now_ms


def test_neither_a_slow_tick_nor_few_records_make_it_jump() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    clock.now_ms += 60_000
    event_clock.go_on(40)
    assert event_clock() == START_MS + 10_000
    clock.now_ms += 60_000
    event_clock.go_on(1)
    assert event_clock() == START_MS + 12_000
    clock.now_ms += 60_000
    event_clock.go_on(0)
    assert event_clock() == START_MS + 12_000


def test_it_waits_for_workers_that_are_behind() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    event_clock.sent({P0: 40})
    ticks(event_clock, clock, 500)
    assert event_clock() == START_MS + LEAD_MS
    event_clock.sent({P0: 80})
    event_clock.committed({P0: 79})
    ticks(event_clock, clock, 500)
    assert event_clock() == START_MS + 2 * LEAD_MS
    event_clock.committed({P0: 80})
    ticks(event_clock, clock, 500)
    assert event_clock() == START_MS + 2 * LEAD_MS + 500 * 20 * PACE


def test_what_was_sent_at_one_time_is_committed_with_the_last_of_it() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    event_clock.sent({P0: 1})
    event_clock.sent({P0: 2})
    event_clock.committed({P0: 1})
    ticks(event_clock, clock, 500)
    assert event_clock() == START_MS + LEAD_MS


def test_in_time_and_the_lead_are_within_the_grace_of_flows_that_read_two_topics() -> None:
    assert USER_SESSIONS.in_order_ms is not None
    for grace_ms in (PAYMENT_OF_ORDER.grace_ms, USER_SESSIONS.in_order_ms - 1):
        assert grace_ms >= IN_TIME_MS + LEAD_MS


def sent(a_tick: int, records: int) -> Iterator[tuple[int, str, bytes, int]]:
    """Yield event time when it was sent, topic, key and event time of each record."""
    clock = Clock()
    event_clock = EventClock(clock)
    generator = OrderGenerator(seed=3, users=200, payments=True, lateness=LATENESS, poison_share=0)
    made = generator.records(event_clock, clock)
    for _ in range(records // a_tick):
        ticks(event_clock, clock, 1, a_tick)
        for topic, key, value in islice(made, a_tick):
            yield event_clock(), topic, key or b"", json.loads(value or b"")["timestamp"]


def test_records_are_in_time_or_days_late_behind_one_of_their_user_and_topic() -> None:
    for a_tick in (1, 40):
        in_time: dict[str, set[bytes]] = defaultdict(set)
        late: dict[str, int] = defaultdict(int)
        for sent_ms, topic, key, event_ms in sent(a_tick, 80_000):
            assert event_ms <= sent_ms
            if sent_ms - event_ms <= IN_TIME_MS:
                in_time[topic].add(key)
            else:
                assert event_ms <= START_MS - DAY_MS + 3_600_000
                assert key in in_time[topic]
                late[topic] += 1
        assert set(late) == {"orders", "users", "payments"}


LINES = TopicPartition("order-lines", 0)


def test_what_is_handed_on_counts_as_committed_when_that_is_committed_too() -> None:
    clock = Clock()
    event_clock = EventClock(clock)
    event_clock.sent({P0: 10})
    event_clock.committed({P0: 10}, {LINES: Standing(5, 8)})
    ticks(event_clock, clock, 1_000)
    assert event_clock() == START_MS + LEAD_MS
    event_clock.committed({P0: 10}, {LINES: Standing(7, 20)})
    ticks(event_clock, clock, 1)
    assert event_clock() == START_MS + LEAD_MS
    event_clock.committed({P0: 10}, {LINES: Standing(8, 20)})
    ticks(event_clock, clock, 1)
    assert event_clock() == START_MS + LEAD_MS + 20 * PACE


def _at_closing() -> tuple[Clock, EventClock]:
    clock = Clock()
    event_clock = EventClock(clock, AROUND_MIDNIGHT)
    assert (event_clock() + 4 * 60_000) % DAY_MS == 0
    while not event_clock.is_closing:
        ticks(event_clock, clock, 1)
    return clock, event_clock


def test_some_minutes_of_each_day_pass_and_the_next_begin_when_all_is_committed() -> None:
    clock, event_clock = _at_closing()
    closed_ms = event_clock()
    assert closed_ms % DAY_MS == 10 * 60_000
    event_clock.sent({P0: 10})
    event_clock.wait()
    waits = []
    for offset, standing in ((9, Standing(0, 0)), (10, Standing(8, 9)), (10, Standing(9, 9))):
        event_clock.committed({P0: offset}, {LINES: standing})
        waits.append((event_clock.is_waiting, event_clock.is_closing))
    assert waits == [(True, True), (True, True), (False, False)]
    assert event_clock() - closed_ms == DAY_MS - 20 * 60_000
    before_ms = event_clock()
    ticks(event_clock, clock, 1)
    assert event_clock() == before_ms + 20 * PACE


def test_no_part_of_a_day_ends_before_the_present() -> None:
    clock, event_clock = _at_closing()
    clock.now_ms = event_clock() + 3_600_000
    assert not event_clock.is_closing
    ticks(event_clock, clock, 2)
    assert event_clock() % DAY_MS > 10 * 60_000


def test_to_wait_for_what_was_sent_first_changes_no_time() -> None:
    event_clock = EventClock(Clock(), AROUND_MIDNIGHT)
    event_clock.sent({P0: 1})
    event_clock.wait()
    before_ms = event_clock()
    event_clock.committed({P0: 1})
    assert (event_clock.is_waiting, event_clock()) == (False, before_ms)


def test_where_nothing_hangs_on_it_event_time_waits_for_nobody() -> None:
    clock = Clock()
    event_clock = EventClock(clock, FAST)
    event_clock.sent({P0: 1})
    begun_ms = event_clock()
    ticks(event_clock, clock, 450)
    assert event_clock() == begun_ms + 3_600_000


def test_by_the_time_that_an_order_is_settled_what_was_told_of_its_user_was_committed() -> None:
    """Each order of sales is later than what its user told of their country, by more than the lead."""
    clock = Clock()
    event_clock = EventClock(clock, AROUND_MIDNIGHT)
    # Few users in many records: they tell much, and order much.
    generator = OrderGenerator(seed=6, users=40, products=True, lateness=SALES_LATENESS)
    made = generator.records(event_clock, clock)
    opening = list(islice(made, generator.opening))
    assert {topic for topic, *_ in opening} == {"products", "users"}
    settled_after_ms = COUNTRY_OF_ORDER.grace_ms
    told_ms: dict[str, int] = {}
    """By user the clock when they last told, or left."""
    orders = 0
    while orders < 20_000 and not event_clock.is_closing:
        clock.now_ms += 20
        event_clock.go_on(40)
        for topic, _, value in islice(made, 40):
            event = json.loads(value or b"")
            assert -1 < event_clock() - event["timestamp"] <= IN_TIME_MS
            data = event["data"]
            if event["event_type"] == "order.created":
                orders += 1
                sent_ms = told_ms.get(data["user_id"], 0)
                assert event["timestamp"] + settled_after_ms > sent_ms + LEAD_MS
            elif topic == "users" and (
                event["event_type"] in {"user.registered", "user.deleted"}
                or "country" in data.get("changes", ())
            ):
                told_ms[data["user_id"]] = event_clock()
    assert orders > 1_000
    assert len(told_ms) > 10


def test_a_bell_is_in_each_partition_when_the_last_order_is_settled() -> None:
    assert COUNTRY_OF_ORDER.grace_ms < BELL_AFTER_MS
    generator = OrderGenerator(seed=6, users=40, products=True, lateness=SALES_LATENESS)
    rung = list(generator.bell(START_MS, 5))
    assert [partition_of(key, 5) for _, key, _ in rung] == list(range(5))
    assert {json.loads(value or b"")["timestamp"] for *_, value in rung} == {START_MS}
    [(topic, _, value)] = generator.test_order(START_MS, 5)
    event = json.loads(value or b"")
    products = [item["product_id"].encode() for item in event["data"]["items"]]
    assert [partition_of(product, 5) for product in products] == list(range(5))
    assert (topic, event["timestamp"], event["data"]["amount"]) == ("orders", START_MS, 0.05)
