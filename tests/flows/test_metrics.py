"""What a worker counts is what the broker has: each record once, however often it was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import load_settings
from streams.engine import expiry
from streams.engine.failpoints import Step
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDERS, USERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDER_MINUTES
from tests.flows.stories import NOW_MS, order, orders, user_event
from tests.scraped import Scraped
from tests.waiting import until_true

DAY_MS = 86_400_000
POISON = [(b"ada", b"no json"), (b"ada", None), (b"ben", order(1)[1])]
APP_ID = load_settings().app_id


def scraped(driver: Driver) -> Scraped:
    """Return what the first worker tells."""
    return Scraped(driver.meters()[0].exposition("")[0].decode())


def check(driver: Driver, read: int) -> Scraped:
    """Check the first worker's counts against what the broker has; `read` orders were sent."""
    seen = scraped(driver)
    for name in [flow.name for flow in TOPOLOGY.flows if ORDERS in flow.reads]:
        assert seen.of("headrace_records_in_total", topic="orders", flow=name) == read
        assert seen.ended(topic="orders", flow=name) == read
    for flow in TOPOLOGY.flows:
        for topic in [t.name for t in flow.outputs]:
            sent = len(driver.sent(topic))
            assert seen.of("headrace_records_out_total", topic=topic, flow=flow.name) == sent
        if flow.keeps:
            log = flow.keeps.changelog(driver.settings.app_id)
            assert seen.of("headrace_records_out_total", topic=log) == len(driver.sent(log))
    letters = len(driver.sent(DEAD_LETTERS))
    assert seen.of("headrace_dead_letters_total") == letters
    assert seen.of("headrace_records_out_total", topic=DEAD_LETTERS) == letters
    return seen


def test_each_record_is_counted_by_how_it_ended(driver: Driver) -> None:
    late = order(8, at_ms=-2 * DAY_MS)
    driver.pipe(USERS, [user_event("registered", country="IS")], timestamp_ms=NOW_MS)
    driver.pipe(ORDERS, [*orders(range(5), amount=2_000.0), *POISON], timestamp_ms=NOW_MS)
    driver.pipe(ORDERS, [late], timestamp_ms=NOW_MS)
    seen = check(driver, read=9)
    assert seen.of("headrace_records_dead_total", flow="high_value_orders") == 2
    assert seen.of("headrace_records_skipped_total", flow="high_value_orders") == 1
    assert seen.of("headrace_records_late_total") == 1
    assert seen.of("headrace_records_late_total", flow="user_order_minutes") == 1
    assert seen.of("headrace_dead_letters_total", reason="undecodable", topic="orders") == 1
    assert seen.of("headrace_dead_letters_total", reason="key-mismatch", agent="") == 1
    assert seen.of("kafka_consumer_messages_total", topic="orders") == 9
    assert seen.of("headrace_aborts_total") == 0


def test_without_transactions_the_same_is_counted(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, processing_guarantee="at_least_once")
    with Driver(TOPOLOGY, settings) as driver:
        driver.pipe(ORDERS, [*orders(range(5), amount=2_000.0), *POISON], timestamp_ms=NOW_MS)
        seen = check(driver, read=8)
        [build] = seen.series("headrace_build_info")
        assert build.labels["guarantee"] == "at_least_once"
        assert seen.of("headrace_commit_duration_seconds_count") > 0


@pytest.mark.parametrize(
    "step",
    [
        Step.COMMIT_BEFORE_BEGIN,
        Step.COMMIT_BEFORE_SENDS,
        Step.COMMIT_BEFORE_OFFSETS,
        Step.COMMIT_BEFORE_END,
    ],
)
def test_what_is_done_again_after_an_abort_is_counted_once(driver: Driver, step: Step) -> None:
    driver.fail_at(step)
    driver.pipe(ORDERS, [*orders(range(5), amount=2_000.0), *POISON], timestamp_ms=NOW_MS)
    assert driver.struck == [step]
    seen = check(driver, read=8)
    assert seen.of("headrace_aborts_total") == 1
    assert seen.of("kafka_consumer_messages_total", topic="orders") > 8
    assert seen.of("headrace_open_transaction_age_seconds") == 0


@pytest.mark.parametrize("step", [Step.COMMIT_BEFORE_DISK, Step.COMMIT_AFTER_DISK])
def test_what_was_committed_before_a_failure_is_counted_once(driver: Driver, step: Step) -> None:
    driver.fail_at(step)
    driver.pipe(ORDERS, orders(range(5), amount=2_000.0), timestamp_ms=NOW_MS)
    assert driver.struck == [step]
    assert check(driver, read=5).of("headrace_aborts_total") == 0


def test_a_commit_whose_answer_is_lost_is_counted_when_it_is_found(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = driver.kafka.commit
    lost: list[object] = []

    def answer_lost(*of: object) -> None:
        ended(*of)  # type: ignore[arg-type]
        if not lost:
            lost.append(of)
            raise TimeoutError

    monkeypatch.setattr(driver.kafka, "commit", answer_lost)
    driver.pipe(ORDERS, orders(range(5), amount=2_000.0), timestamp_ms=NOW_MS)
    driver.pipe(ORDERS, orders(range(5, 7), amount=2_000.0), timestamp_ms=NOW_MS)
    assert lost
    seen = check(driver, read=7)
    assert seen.of("headrace_aborts_total") == 1
    assert seen.of("kafka_producer_errors_total") == 1


def test_a_commit_without_input_that_failed_is_not_found_by_its_offsets(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 1)
    minutes = [order(n, at_ms=n * 60_000) for n in range(5)]
    driver.pipe(ORDERS, minutes, timestamp_ms=NOW_MS)
    log = USER_ORDER_MINUTES.changelog(APP_ID)
    driver.fail_at(Step.COMMIT_BEFORE_END, visit=3)  # the first has input, the others remove rows
    driver.pipe(ORDERS, [order(9, at_ms=7 * DAY_MS)], timestamp_ms=NOW_MS + 7 * DAY_MS)
    driver._do(until_true(lambda: sum(r.value is None for r in driver.sent(log)) == 5))
    driver.settle()
    assert driver.struck == [Step.COMMIT_BEFORE_END]
    seen = check(driver, read=6)
    assert seen.of("headrace_aborts_total") == 1
    succeeded = seen.of("headrace_commit_duration_seconds_count")
    assert seen.of("headrace_commits_total") == succeeded > 5


def test_all_that_is_sent_is_committed_when_there_is_no_lag(driver: Driver) -> None:
    driver.settle()
    before = scraped(driver)
    assert before.of("headrace_rebalances_total") == 1
    assert before.of("headrace_tasks", state="running") == driver.partitions
    driver.pipe(ORDERS, orders(range(5)), partition=1, timestamp_ms=NOW_MS)
    seen = scraped(driver)
    labels = {"consumergroup": APP_ID, "topic": "orders", "partition": "1"}
    for name in ("consumer_lag_records", "consumer_lag_seconds", "input_held_back_records"):
        [sample] = seen.series(f"headrace_{name}", **labels)
        assert sample.value == 0
    commits = seen.of("headrace_commits_total")
    assert seen.of("headrace_commit_duration_seconds_count") == commits > 0
    latencies = seen.of("headrace_end_to_end_latency_seconds_count", topic="orders")
    assert 0 < latencies <= commits
    assert seen.of("headrace_store_size_bytes", task="orders-1") > 0
    assert seen.of("headrace_store_memory_bytes", part="write_buffers") > 0


def test_a_row_is_asked_for_once_and_then_known(driver: Driver) -> None:
    for number in range(4):
        driver.pipe(ORDERS, orders([number]), timestamp_ms=NOW_MS)
    seen = scraped(driver)
    assert seen.of("headrace_cache_misses_total", table="user_orders") == 1
    assert seen.of("headrace_cache_hits_total", table="user_orders") == 3
    assert seen.of("headrace_cache_rows", table="user_orders") == 1


def test_what_is_restored_is_counted(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(5)), timestamp_ms=NOW_MS)
    driver.kill_worker()
    driver.lose_disk()
    driver.start_worker()
    driver.settle()
    log = driver.sent(f"{APP_ID}-user_orders-changelog")
    seen = scraped(driver)
    assert seen.of("headrace_restored_records_total", table="user_orders") == len(log) > 0
    assert len(seen.series("headrace_restore_remaining_records", task="orders-0")) == len(
        TOPOLOGY.tables
    )
    assert seen.of("headrace_restore_remaining_records") == 0
