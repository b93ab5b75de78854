"""kill -9 at random moments: nothing lost, nothing doubled, wherever it hits."""

import asyncio

import pytest

from tests.faults.conftest import StartTrial


@pytest.mark.timeout(400)
async def test_killed_workers_lose_and_double_nothing(start_trial: StartTrial, seed: int) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(40_000)
        workers = trial.start_workers(2, headrace_standby_replicas=trial.chance.randint(0, 1))
        for share in sorted(trial.chance.uniform(0.02, 0.7) for _ in range(4)):
            await trial.done(share)
            victim = trial.chance.choice(workers)
            await trial.hit("kill -9 of one worker of two")
            victim.kill()
            victim.start()
        await trial.check()


@pytest.mark.timeout(400)
async def test_all_workers_killed_at_once_lose_and_double_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(30_000)
        workers = trial.start_workers(2)
        for share in (0.1, 0.5):
            await trial.done(share)
            await trial.hit("kill -9 of all workers")
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.start()
        await trial.check()


@pytest.mark.timeout(400)
async def test_five_kills_two_seconds_apart_lose_and_double_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        (worker,) = trial.start_workers(1)
        async with trial.load(1_000):
            await trial.done(0.1)
            for _ in range(5):
                await asyncio.sleep(2)  # the fault itself: before it has come to itself again
                await trial.hit("kill -9, two seconds after the last")
                worker.kill()
                worker.start()
        await trial.check()
