"""Workers come and go: tasks move, and nothing is counted twice or forgotten."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from streams.engine import failpoints
from streams.engine.batch import Batch
from streams.engine.cluster import Source
from streams.engine.errors import KafkaUnavailableError
from streams.engine.failpoints import Step
from streams.engine.records import TopicPartition
from streams.engine.task import Task
from streams.testing import Driver
from streams.topics import HIGH_VALUE_ORDERS, ORDERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS
from tests.flows.stories import orders
from tests.waiting import until_true


def pipe_everywhere(
    driver: Driver, numbers: range, *, amount: float = 10.0, settle: bool = True
) -> None:
    for partition in range(driver.partitions):
        user = f"user-{partition}"
        piped = orders(numbers, user=user, amount=amount)
        driver.pipe(ORDERS, piped, partition=partition, settle=False)
    if settle:
        driver.settle()


def counts(driver: Driver) -> list[int]:
    return [row.orders for row in driver.table(USER_ORDERS).values()]


def owners(driver: Driver) -> list[int]:
    """Return how many tasks each worker has."""
    return [len(r.worker.engine.tasks) for r in driver._workers if r.worker.engine]


def test_a_second_worker_takes_half_of_the_tasks(driver: Driver) -> None:
    pipe_everywhere(driver, range(5))
    driver.start_worker()
    driver.settle()
    assert owners(driver) == [1, 1]
    pipe_everywhere(driver, range(5, 8))
    assert counts(driver) == [8, 8]


def test_work_goes_on_where_a_worker_was_killed(driver: Driver) -> None:
    driver.start_worker()
    pipe_everywhere(driver, range(5))
    driver.kill_worker(0)
    pipe_everywhere(driver, range(5, 8))
    assert owners(driver) == [2]
    assert counts(driver) == [8, 8]


def test_a_stopped_worker_has_committed_all_that_it_did(driver: Driver) -> None:
    driver.start_worker()
    pipe_everywhere(driver, range(5))
    driver.stop_worker(1)
    driver.settle()
    pipe_everywhere(driver, range(5, 8))
    assert counts(driver) == [8, 8]


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_rebalance_in_the_midst_of_a_fetched_run_counts_nothing_twice(
    tmp_path: Path, workers: int
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(TOPOLOGY, settings, partitions=4, workers=workers, max_batch_records=2) as driver:

        def rejoin(_step: Step) -> None:
            for running in driver._workers:
                if running.worker.engine and running.worker.engine._source:
                    running.worker.engine._source.rejoin()

        failpoints.arm(Step.PROCESS_AFTER_BATCH, failpoints.on_visit(2, rejoin))
        pipe_everywhere(driver, range(40))
        assert counts(driver) == [40] * 4


def test_a_failed_commit_takes_the_batch_in_work_with_it(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(TOPOLOGY, settings, max_batch_records=1, max_epoch_records=1) as driver:
        pipe_everywhere(driver, range(1), amount=5000.0)
        for turns in range(25):  # the failure comes at each moment of the next batch once
            driver.delay_answers([turns])
            driver.fail_at(Step.COMMIT_BEFORE_END)
            pipe_everywhere(driver, range(4), amount=5000.0)
        assert counts(driver) == [101, 101]
        assert len(driver.read(HIGH_VALUE_ORDERS)) == 202


def test_a_worker_that_is_stopped_while_tasks_are_taken_away_loses_nothing(driver: Driver) -> None:
    driver.start_worker()
    pipe_everywhere(driver, range(5), settle=False)
    driver.delay_answers([7, 0, 3])
    driver.stop_worker(0)
    driver.settle()
    driver.start_worker()
    pipe_everywhere(driver, range(5, 8))
    assert counts(driver) == [8, 8]


def test_a_stop_in_the_midst_of_a_revocation_waits_for_its_commits(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=30_000)
    with Driver(TOPOLOGY, settings) as driver:
        (running,) = driver._workers
        engine = running.worker.engine
        assert engine is not None
        assert engine._source is not None
        source = engine._source
        stopping: list[asyncio.Future[Any]] = []

        async def stopped() -> None:
            while not stopping:
                await driver.kafka.wait_for_news(0.01)
            await stopping[0]

        failpoints.arm(
            Step.PROCESS_AFTER_BATCH, failpoints.on_visit(2, lambda _step: source.rejoin())
        )
        failpoints.arm(
            Step.REVOKE_BEFORE_COMMIT,
            failpoints.on_visit(
                1, lambda _step: stopping.append(asyncio.ensure_future(running.worker.app.stop()))
            ),
        )
        pipe_everywhere(driver, range(5), settle=False)
        driver.delay_answers([20])
        driver._do(stopped())
        assert not engine.failed.done()
        rows = driver.changelog(USER_ORDERS).values()
        assert [USER_ORDERS.decode(row).orders for row in rows] == [5, 5]


def test_a_commit_that_fails_while_a_revocation_waits_for_the_batch_takes_its_task_once(
    tmp_path: Path,
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(TOPOLOGY, settings, max_batch_records=1) as driver:
        (running,) = driver._workers
        engine = running.worker.engine
        assert engine is not None
        assert engine._source is not None
        source, deliver = engine._source, engine._deliver
        takings, keep_taking = engine._takings, engine._takings._keep_taking
        held: list[TopicPartition] = []
        taken: list[str] = []
        taken_twice: list[str] = []

        async def hold(tp: TopicPartition, batch: Batch) -> None:
            task = engine._owners[tp]
            if not held and task.commit is not None:
                held.append(tp)
                source.rejoin()
                await until_true(lambda: engine._handing_over.locked() and task.commit is None)
            await deliver(tp, batch)

        async def watch(task: Task, source: Source) -> None:
            if task.id in taken:
                taken_twice.append(task.id)
            taken.append(task.id)
            try:
                await keep_taking(task, source)
            finally:
                taken.remove(task.id)

        engine._deliver = hold
        takings._keep_taking = watch  # type: ignore[method-assign]
        driver.delay_answers([20])
        driver.fail_at(Step.COMMIT_BEFORE_END)
        pipe_everywhere(driver, range(40), amount=5000.0)
        assert held
        assert (
            not taken_twice
        )  # two at once, and the later one reads again what the other has committed
        assert counts(driver) == [40, 40]
        assert len(driver.read(HIGH_VALUE_ORDERS)) == 80


def test_commits_that_fail_again_and_again_are_tried_at_a_growing_distance(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.kafka.max_message_bytes = 1  # a topic that takes nothing
    pipe_everywhere(driver, range(5), settle=False)
    driver._do(asyncio.sleep(1.2))
    failures = [r for r in caplog.records if "it begins again" in r.getMessage()]
    assert 4 <= len(failures) <= 8  # two tasks: at once, after 0.2 and 0.5 s
    driver.kafka.max_message_bytes = 1_000_000
    driver.settle()
    assert counts(driver) == [5, 5]


def test_a_worker_without_work_hears_that_it_could_not_join(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.start_worker()
    driver.start_worker()  # the third has no task
    engines = [r.worker.engine for r in driver._workers]
    (idle,) = [e for e in engines if e and not e.tasks]
    assert idle._source is not None
    failures = iter([KafkaUnavailableError("not authorized")])

    def check() -> None:
        if (failure := next(failures, None)) is not None:
            raise failure

    idle._source.check = check  # type: ignore[method-assign]

    told = "the group: not authorized; trying again"
    driver._do(until_true(lambda: told in caplog.text))
    pipe_everywhere(driver, range(5))
    assert counts(driver) == [5, 5]
