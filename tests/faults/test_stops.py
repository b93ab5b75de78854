"""SIGTERM at any moment: the worker ends in order and soon, also where no Kafka answers any more."""

import asyncio
from collections.abc import Sequence

import pytest

from streams.engine.failpoints import Step
from tests.faults.conftest import StartTrial
from tests.faults.workers import WorkerProcess
from tests.waiting import until_true

_AT_WORK = [step for step in Step if step.startswith(("process.", "commit."))]
_SOON_S = 10.0
_WITHOUT_KAFKA_S = 60.0


@pytest.mark.timeout(400)
async def test_a_worker_that_is_ended_in_mid_batch_or_mid_commit_ends_in_order_within_ten_seconds(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        worker = trial.new_worker()
        await trial.produce(2_000)
        async with trial.load(600):
            worker.start()
            await trial.done(0.1)
            await trial.hit("SIGTERM in mid-work")
            assert await asyncio.to_thread(worker.end, _SOON_S) == 0
            for step in trial.chance.sample(_AT_WORK, 3):
                visit = trial.chance.randint(1, 20)
                worker.start(headrace_failpoints=f"{step}=stop@{visit}")
                await until_true(worker.stands_still, deadline_s=90)
                await trial.hit(f"SIGTERM at {step}")
                worker.process.terminate()
                worker.resume()
                assert await asyncio.to_thread(worker.end, _SOON_S) == 0, step
            worker.start()
        await trial.check()


@pytest.mark.timeout(400)
async def test_workers_that_are_ended_while_kafka_is_down_are_out_within_a_minute_and_lose_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(30_000)
        workers = trial.start_workers(2)
        await trial.done(trial.chance.uniform(0.05, 0.2))
        await trial.hit("SIGTERM while the broker stands still")
        trial.kafka.pause(0)
        await _end_all(workers)
        trial.kafka.resume(0)
        for worker in workers:
            worker.start()
        for worker in workers:
            await worker.says("taken, reads on")
        await trial.hit("SIGTERM while the broker is gone")
        trial.kafka.kill(0)
        await _end_all(workers)
        trial.kafka.start_broker(0)
        for worker in workers:
            worker.start()
        await trial.check()


async def _end_all(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        assert await asyncio.to_thread(worker.end, _WITHOUT_KAFKA_S) == 0, worker.folder.name
