"""Orders are summed by user and minute of event time, for a day; then the rows go, everywhere."""

from pathlib import Path

import pytest

from config.settings import load_settings
from streams.engine import expiry
from streams.engine.cluster import Committed
from streams.engine.failpoints import Step
from streams.engine.records import TopicPartition
from streams.engine.store import Store
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ENRICHED_ORDERS, ORDERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDER_MINUTES, USER_ORDERS, UserMinute
from tests.flows.stories import NOW_MS, KeyValue, counts, order
from tests.waiting import until_true

MINUTE_MS = 60_000
DAY_MS = 86_400_000
LATER_MS = NOW_MS + 30 * DAY_MS
"""When all records came: no event time of a story is ahead of it."""


def pipe(driver: Driver, *orders: KeyValue, settle: bool = True) -> None:
    driver.pipe(ORDERS, orders, timestamp_ms=LATER_MS, settle=settle)


def minute(at_ms: int, user: str = "ada") -> str:
    return f"{user}@{NOW_MS + at_ms}"


def everywhere(driver: Driver) -> dict[str, UserMinute]:
    """Return the rows, after looking that table and changelog have the same, and the index, too."""
    rows = driver.table(USER_ORDER_MINUTES)
    changelog = driver.changelog(USER_ORDER_MINUTES)
    assert {key: USER_ORDER_MINUTES.decode(value) for key, value in changelog.items()} == rows
    assert indexed(driver) == sorted(rows)
    return rows


def indexed(driver: Driver) -> list[str]:
    stores = [task.store for task in driver.tasks().values() if task.store]
    return sorted(
        key for store in stores for key in store.begun(USER_ORDER_MINUTES.name, 0, 10**15, 10**9)
    )


def stored(driver: Driver) -> dict[str, UserMinute]:
    """Stop the worker; return what lies on its disk, after looking that the index has the same."""
    driver.stop_worker()
    rows = driver.stored(USER_ORDER_MINUTES)
    found: list[str] = []
    for path in sorted((driver.settings.data_dir / driver.settings.app_id).iterdir()):
        store = Store(path)
        found += store.begun(USER_ORDER_MINUTES.name, 0, 10**15, 10**9)
        store.close()
    assert sorted(found) == sorted(rows)
    return rows


def test_orders_are_summed_by_user_and_minute(driver: Driver) -> None:
    pipe(driver, order(1, at_ms=0, amount=0.1), order(2, at_ms=59_999, amount=0.2))
    pipe(driver, order(3, at_ms=60_000, amount=5), order(4, at_ms=7, user="bob@home", amount=7))
    assert everywhere(driver) == {
        minute(0): UserMinute(2, 30),
        minute(60_000): UserMinute(1, 500),
        minute(0, "bob@home"): UserMinute(1, 700),
    }
    assert driver.changelog(USER_ORDER_MINUTES)[minute(0)] == b'{"orders":2,"amount":0.3}'


def test_a_row_lives_until_stream_time_reaches_its_windows_end_and_a_day(driver: Driver) -> None:
    last_ms = MINUTE_MS + DAY_MS - 1
    pipe(driver, order(1, at_ms=0), order(2, at_ms=last_ms, user="bob"))
    pipe(driver, order(3, at_ms=1))
    alive = {minute(0): UserMinute(2, 2_000), minute(DAY_MS, "bob"): UserMinute(1, 1_000)}
    assert everywhere(driver) == alive
    pipe(driver, order(4, at_ms=last_ms + 1, user="bob"))
    del alive[minute(0)]
    alive[minute(DAY_MS + MINUTE_MS, "bob")] = UserMinute(1, 1_000)
    assert everywhere(driver) == alive
    assert stored(driver) == alive


def test_stream_time_is_that_of_a_partition(driver: Driver) -> None:
    pipe(driver, order(1, at_ms=0))
    driver.pipe(
        ORDERS, [order(2, at_ms=2 * DAY_MS, user="bob")], partition=1, timestamp_ms=LATER_MS
    )
    pipe(driver, order(3, at_ms=1))
    assert everywhere(driver)[minute(0)].orders == 2


@pytest.mark.parametrize("together", [True, False], ids=["in one batch", "one by one"])
def test_a_late_order_is_counted_as_late_and_taken_by_all_other_flows(
    driver: Driver, *, together: bool
) -> None:
    orders = [
        order(1, at_ms=0), order(2, at_ms=2 * DAY_MS), order(3, at_ms=1), order(4, at_ms=2),
        order(5, at_ms=DAY_MS + 1),
    ]  # fmt: skip
    for some in [orders] if together else [[one] for one in orders]:
        pipe(driver, *some)
    assert everywhere(driver) == {
        minute(2 * DAY_MS): UserMinute(1, 1_000),
        minute(DAY_MS): UserMinute(1, 1_000),
    }
    assert driver.table(USER_ORDERS)["ada"].orders == 5
    assert len(driver.sent(ENRICHED_ORDERS.name)) == 5
    found = counts(driver)
    assert (found["user_order_minutes"].late, found["user_order_minutes"].processed) == (2, 3)
    assert (found["vip_upgrades"].late, found["vip_upgrades"].processed) == (0, 5)
    assert driver.sent(DEAD_LETTERS) == []


def test_records_that_end_otherwise_are_not_late(driver: Driver) -> None:
    pipe(driver, order(1, at_ms=2 * DAY_MS), order(2, at_ms=0), (b"ada", None), (b"ada", b"?"))
    pipe(driver, (b"eve", order(3, at_ms=0)[1]))
    found = counts(driver)["user_order_minutes"]
    assert (found.processed, found.dead, found.late, found.skipped) == (1, 2, 1, 1)


def test_what_is_late_is_so_after_a_restart_with_a_lost_disk(driver: Driver) -> None:
    pipe(driver, order(1, at_ms=2 * DAY_MS))
    driver.kill_worker()
    driver.lose_disk()
    driver.start_worker()
    pipe(driver, order(2, at_ms=0), order(3, at_ms=DAY_MS))
    assert everywhere(driver).keys() == {minute(2 * DAY_MS), minute(DAY_MS)}
    (late,) = [
        t.counts["user_order_minutes"].late for t in driver.tasks().values() if t.partition == 0
    ]
    assert late == 1


def test_what_a_tool_writes_beside_an_offset_is_no_stream_time_and_stops_nobody(
    driver: Driver,
) -> None:
    pipe(driver, order(1, at_ms=2 * DAY_MS))
    driver.kill_worker()
    group, tp = driver.settings.app_id, TopicPartition(ORDERS.name, 0)
    driver.kafka.offsets[group, tp] = Committed(1, "moved by hand")
    driver.start_worker()
    pipe(driver, order(2, at_ms=0))
    assert everywhere(driver).keys() == {minute(2 * DAY_MS), minute(0)}
    assert driver.table(USER_ORDERS)["ada"].orders == 2


@pytest.mark.parametrize("loses_disk", [False, True], ids=["disk kept", "disk lost"])
@pytest.mark.parametrize("step", [s for s in Step if s.value.startswith("commit.")])
def test_a_crash_in_the_commit_that_removes_rows_leaves_none_and_takes_no_other(
    driver: Driver, step: Step, *, loses_disk: bool
) -> None:
    pipe(driver, order(1, at_ms=0), order(2, at_ms=MINUTE_MS), order(3, at_ms=0, user="bob"))
    driver.crash_at(step)
    pipe(driver, order(4, at_ms=MINUTE_MS + DAY_MS), order(5, at_ms=0))
    assert driver.struck == [step]
    if loses_disk:
        driver.kill_worker()
        driver.lose_disk()
        driver.start_worker()
        driver.settle()
    else:
        driver.restart()
    alive = {
        minute(MINUTE_MS): UserMinute(1, 1_000),
        minute(MINUTE_MS + DAY_MS): UserMinute(1, 1_000),
    }
    assert everywhere(driver) == alive
    assert stored(driver) == alive
    assert driver.changelog(USER_ORDER_MINUTES).keys() == alive.keys()


# -- a silence of days ----------------------------------------------------------------------------


@pytest.fixture
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a commit remove three rows at most."""
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 3)
    return 3


def after_a_silence(driver: Driver) -> None:
    """Fill ten rows; then an order of days later ends their windows."""
    pipe(driver, *(order(n, at_ms=0, user=f"user-{n}") for n in range(10)))
    pipe(driver, order(99, at_ms=7 * DAY_MS), settle=False)


LAST = {minute(7 * DAY_MS): UserMinute(1, 1_000)}


def swept(driver: Driver) -> None:
    """Wait, without input, until all rows of gone windows are removed from disk and changelog."""
    driver.settle()
    driver._do(until_true(lambda: indexed(driver) == sorted(LAST)))
    driver.settle()
    assert everywhere(driver) == LAST


@pytest.mark.usefixtures("few_at_once")
def test_rows_that_one_commit_does_not_come_to_are_removed_without_input(driver: Driver) -> None:
    after_a_silence(driver)
    swept(driver)
    assert stored(driver) == LAST


@pytest.mark.usefixtures("few_at_once")
@pytest.mark.parametrize("visit", [1, 2])
@pytest.mark.parametrize("loses_disk", [False, True], ids=["disk kept", "disk lost"])
@pytest.mark.parametrize("step", [Step.COMMIT_BEFORE_END, Step.COMMIT_BEFORE_DISK])
def test_they_are_removed_without_input_by_whoever_goes_on(
    driver: Driver, step: Step, visit: int, *, loses_disk: bool
) -> None:
    pipe(driver, *(order(n, at_ms=0, user=f"user-{n}") for n in range(10)))
    driver.crash_at(step, visit)
    pipe(driver, order(99, at_ms=7 * DAY_MS), settle=False)
    driver._do(until_true(lambda: driver.struck == [step]))
    driver.kill_worker()
    if loses_disk:
        driver.lose_disk()
    driver.start_worker()
    swept(driver)
    assert stored(driver) == LAST


@pytest.mark.usefixtures("few_at_once")
def test_a_worker_that_is_stopped_meanwhile_leaves_the_rest_to_the_next_one(
    tmp_path: Path,
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=200)
    with Driver(TOPOLOGY, settings, partitions=1) as driver:
        after_a_silence(driver)
        driver.settle()
        driver.stop_worker()
        assert len(driver.stored(USER_ORDER_MINUTES)) > len(LAST)
        driver.start_worker()
        swept(driver)


@pytest.mark.usefixtures("few_at_once")
def test_commits_that_only_remove_rows_move_no_offset_and_stop_when_none_is_left(
    driver: Driver,
) -> None:
    after_a_silence(driver)
    swept(driver)
    task = driver.tasks()["orders-0"]
    assert not task.has_to_commit()
    assert task.position.sources == {ORDERS.name: 11}
    commits = task.position.commit
    pipe(driver, order(100, at_ms=7 * DAY_MS))
    assert task.position.commit == commits + 1


@pytest.mark.usefixtures("few_at_once")
def test_a_late_order_for_a_row_that_is_still_to_be_removed_is_late(driver: Driver) -> None:
    after_a_silence(driver)
    pipe(driver, order(100, at_ms=1, user="user-9"))
    swept(driver)
    assert counts(driver)["user_order_minutes"].late == 1
