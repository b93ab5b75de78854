"""Whether an engine lives, and whether it is ready, as it starts, works, stops and ends."""

from streams.engine.engine import Engine
from streams.engine.health import what_is_missing, why_dead
from streams.errors import HeadraceError
from streams.testing import Driver


def engine_of(driver: Driver) -> Engine:
    [running] = driver._workers
    assert running.worker.engine is not None
    return running.worker.engine


def test_a_worker_that_runs_is_alive_and_ready(driver: Driver) -> None:
    driver.settle()
    engine = engine_of(driver)
    assert (why_dead(engine), list(what_is_missing(engine))) == ("", [])


def test_a_worker_that_takes_its_tasks_says_which(driver: Driver) -> None:
    engine = engine_of(driver)  # in the group, and not a step further
    assert list(what_is_missing(engine)) == ["orders-0: taking", "orders-1: taking"]
    assert why_dead(engine) == ""


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
