"""Whether an engine lives, and whether it is ready, as it starts, works, stops and ends."""

import asyncio

import pytest

from streams.engine import failpoints
from streams.engine.engine import Engine
from streams.engine.failpoints import Step
from streams.engine.health import what_is_missing, why_dead
from streams.engine.records import TopicPartition
from streams.errors import HeadraceError
from streams.testing import Driver
from streams.topics import ORDERS
from tables.definitions import USER_ORDERS
from tests.flows.stories import orders


def engine_of(driver: Driver) -> Engine:
    [running] = driver._workers
    assert running.worker.engine is not None
    return running.worker.engine


def test_a_worker_that_runs_is_alive_and_ready(driver: Driver) -> None:
    driver.settle()
    engine = engine_of(driver)
    assert (why_dead(engine), list(what_is_missing(engine))) == ("", [])


def test_a_worker_that_takes_its_tasks_says_which(driver: Driver) -> None:
    told: list[tuple[str, list[str]]] = []

    def look(_step: Step) -> None:  # in the group, and not a step further
        engine = engine_of(driver)
        told.append((why_dead(engine), list(what_is_missing(engine))))

    driver.kill_worker()
    failpoints.arm(Step.TAKE_BEFORE_FENCE, failpoints.on_visit(1, look))
    driver.start_worker()
    driver.settle()
    assert told == [("", ["orders-0: taking", "orders-1: taking"])]


def test_a_worker_that_leaves_is_alive_and_not_ready(driver: Driver) -> None:
    driver.settle()
    engine = engine_of(driver)
    driver.stop_worker()
    assert (why_dead(engine), list(what_is_missing(engine))) == ("", ["leaving the group"])


def test_a_worker_that_an_error_stopped_is_neither(driver: Driver) -> None:
    driver.settle()
    engine = engine_of(driver)
    engine.fail(HeadraceError("the disk is full"))
    assert why_dead(engine) == "stopped: the disk is full"
    assert list(what_is_missing(engine)) == ["stopped: the disk is full"]


def fail(_step: Step) -> None:
    raise HeadraceError("a right is missing")


def held_up(driver: Driver) -> list[TopicPartition]:
    """Return the partitions in which somebody who reads what is committed waits for an end."""
    logs = driver.kafka.logs
    return [tp for tp, log in logs.items() if driver.kafka.stable_end(tp) < len(log)]


def test_a_worker_that_an_error_stopped_leaves_no_transaction_open(driver: Driver) -> None:
    """Until it timed out, it would hold up all who read what is committed."""

    failpoints.arm(Step.COMMIT_BEFORE_OFFSETS, fail)
    for partition in range(driver.partitions):
        piped = orders(range(5), user=f"user-{partition}")
        driver.pipe(ORDERS, piped, partition=partition, settle=False)
    with pytest.raises(HeadraceError, match="a right is missing"):
        driver.settle()
    assert held_up(driver)
    driver.stop_worker()
    assert held_up(driver) == []


def test_a_worker_whose_last_commit_an_error_ends_leaves_no_transaction_open(
    driver: Driver,
) -> None:
    stopping: list[asyncio.Future[None]] = []

    def stop(_step: Step) -> None:
        failpoints.arm(Step.COMMIT_BEFORE_OFFSETS, fail)
        stopping.append(asyncio.ensure_future(engine_of(driver).stop()))

    failpoints.arm(Step.PROCESS_AFTER_BATCH, failpoints.on_visit(1, stop))
    driver.pipe(ORDERS, orders(range(5)), settle=False)
    driver._do(driver._until(lambda: bool(stopping)))
    with pytest.raises(HeadraceError, match="a right is missing"):
        driver._do(asyncio.wait_for(stopping[0], timeout=20))
    assert held_up(driver) == []


def test_a_last_commit_that_nobody_called_off_and_that_was_cancelled_stops_no_stop(
    driver: Driver,
) -> None:
    stopping: list[asyncio.Future[None]] = []

    def cancel(_step: Step) -> None:
        commit = asyncio.current_task()
        assert commit is not None
        commit.cancel()

    def stop(_step: Step) -> None:
        failpoints.arm(Step.COMMIT_BEFORE_END, failpoints.on_visit(1, cancel))
        stopping.append(asyncio.ensure_future(engine_of(driver).stop()))

    failpoints.arm(Step.PROCESS_AFTER_BATCH, failpoints.on_visit(1, stop))
    driver.pipe(ORDERS, orders(range(5)), settle=False)
    driver._do(driver._until(lambda: bool(stopping)))
    driver._do(asyncio.wait_for(stopping[0], timeout=20))
    driver.restart()
    driver.settle()
    assert driver.table(USER_ORDERS)
