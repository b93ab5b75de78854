"""Orders that are sent twice are passed on once, each as it came."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from streams.engine.failpoints import Step
from streams.testing import Driver
from streams.topics import ORDERS, ORDERS_DEDUPLICATED
from streams.topology import DEDUPLICATION
from tables.timed import ORDERS_PASSED
from tests.flows.stories import NOW_MS, KeyValue, counts, event_of, order, orders
from tests.unit.wire import USER
from tests.unit.wire import order as wire_order

HOUR_MS = 3_600_000


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(DEDUPLICATION, settings, max_batch_records=7) as running:
        yield running


def pipe(driver: Driver, *records: KeyValue, partition: int = 0) -> None:
    driver.pipe(ORDERS, records, partition=partition, timestamp_ms=NOW_MS + 24 * HOUR_MS)


def passed(driver: Driver) -> list[KeyValue]:
    return [(sent.key, sent.value) for sent in driver.read(ORDERS_DEDUPLICATED)]


def test_an_event_is_passed_on_as_it_came_byte_by_byte(driver: Driver) -> None:
    odd = [
        (
            b'{ "event_id" : "e-1", "event_type": "order.created", "aggregate_id": "o-1",\n "timestamp": '
            b'"2025-11-21T10:00:00.000900+01:00", "ours": {"x": [1e999]}, "version": null, "data": '
            b'{"order_id": "o-1", "user_id": "ada", "amount": 1.250E+1, "gift": true, "amount": 12.50}}'
        ),
        wire_order(event_id="e-2", event_type="order.shipped", metadata={"trace": "00-4bf9"}),
    ]
    pipe(driver, *((USER, value) for value in odd))
    assert passed(driver) == [(USER, value) for value in odd]
    assert all(sent.headers == () for sent in driver.sent(ORDERS_DEDUPLICATED.name))


def test_all_types_come_in_their_order_and_the_repeated_do_not(driver: Driver) -> None:
    kinds = [event.__struct_config__.tag for event in ORDERS.events]
    events = [(USER, wire_order(event_id=kind, event_type=kind)) for kind in kinds]
    pipe(driver, *events, *events, (USER, wire_order(event_id="new")), *events)
    assert [event_of(sent)["event_id"] for sent in driver.read(ORDERS_DEDUPLICATED)] == [
        *kinds,
        "new",
    ]


def test_what_is_no_valid_event_is_not_passed_on(driver: Driver) -> None:
    good, bad, skipped = (
        order(1),
        (b"ada", b"{"),
        (b"ada", wire_order(event_type="order.dreamt_of")),
    )
    pipe(driver, bad, good, skipped, (b"ada", None), good, order(2))
    assert passed(driver) == [good, order(2)]
    assert [(s.key, s.value) for s in driver.sent("deduplication-dead-letters")] == [bad]
    of_flow = counts(driver)["orders_deduplicated"]
    assert (of_flow.processed, of_flow.dead, of_flow.skipped, of_flow.late) == (3, 1, 2, 0)


def test_equal_ids_of_two_users_and_events_an_hour_apart_are_different_events(
    driver: Driver,
) -> None:
    events = [
        order(1),
        order(1, user="bob"),
        order(1, at_ms=HOUR_MS + 2),
        order(1, at_ms=HOUR_MS + 3),
    ]
    pipe(driver, *events)
    assert passed(driver) == events[:3]


def test_what_comes_too_late_to_be_told_goes_to_the_late_records(driver: Driver) -> None:
    lives_ms = HOUR_MS + 5 * 60_000
    early, now, at_last, late = (
        order(number, at_ms=at_ms) for number, at_ms in ((1, 0), (2, lives_ms), (3, 0), (4, -1))
    )
    pipe(driver, early, now, at_last, late)
    assert passed(driver) == [early, now, at_last]
    [sent] = driver.sent("late-records")
    assert (sent.key, sent.value) == late
    start_ms, end_ms = NOW_MS - 1 - HOUR_MS, NOW_MS + HOUR_MS
    assert dict(sent.headers)["headrace.window"] == f"{start_ms}-{end_ms}".encode()
    assert dict(sent.headers)["headrace.lateness-ms"] == b"1"


def test_ids_are_forgotten_when_nothing_on_time_can_repeat_them(driver: Driver) -> None:
    kept_ms = 2 * HOUR_MS + 5 * 60_000
    pipe(driver, order(1, at_ms=0), order(2, at_ms=kept_ms))
    assert set(driver.table(ORDERS_PASSED)) == {'["ada","event-1"]', '["ada","event-2"]'}
    pipe(driver, order(3, at_ms=kept_ms + 1))
    assert set(driver.table(ORDERS_PASSED)) == {'["ada","event-2"]', '["ada","event-3"]'}
    assert driver.changelog(ORDERS_PASSED).keys() == driver.table(ORDERS_PASSED).keys()


def test_a_partition_knows_nothing_of_another(driver: Driver) -> None:
    pipe(driver, order(1))
    pipe(driver, order(1), partition=1)
    assert [sent.partition for sent in driver.read(ORDERS_DEDUPLICATED)] == [0, 1]


@pytest.mark.parametrize("step", [step for step in Step if step.value.startswith("commit.")])
def test_a_crash_in_a_commit_passes_nothing_on_twice_and_loses_nothing(
    driver: Driver, step: Step
) -> None:
    driver.crash_at(step)
    pipe(driver, *orders(range(20)), *orders(range(10, 30)))
    assert driver.struck == [step]
    driver.restart()
    pipe(driver, *orders(range(35)))
    assert passed(driver) == orders(range(35))


def test_a_worker_that_lost_its_disk_knows_what_was_passed_on(driver: Driver) -> None:
    pipe(driver, *orders(range(10)))
    driver.kill_worker()
    driver.lose_disk()
    driver.start_worker()
    pipe(driver, *orders(range(12)))
    assert passed(driver) == orders(range(12))
