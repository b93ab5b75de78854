"""Event time runs ahead of the clock, waits for the workers, and has records whose lateness is certain."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from aiokafka import TopicPartition

from demo.event_clock import IN_TIME_MS, LATENESS, LEAD_MS, PACE, PAST_MS, EventClock
from demo.generator import OrderGenerator
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
