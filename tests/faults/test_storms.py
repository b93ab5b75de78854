"""Workers that come, go and die at random, all the time: a storm of rebalances."""

import asyncio
import time

import pytest

from tests.faults.conftest import StartTrial, is_long
from tests.faults.histories import Entry, breaks, two_owners
from tests.faults.trial import APPLICATION, Trial

_STORM_S = 30.0
_LONG_STORM_S = 180.0
_WORKERS = 4


@pytest.mark.timeout(int(_LONG_STORM_S) + 300)
async def test_in_a_storm_of_rebalances_no_task_has_two_owners_and_the_lag_drains(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        standbys, static = trial.chance.randint(0, 1), trial.chance.random() < 0.3
        for n in range(_WORKERS):
            name = {"headrace_instance_id": f"member-{n}"} if static else {}
            trial.new_worker(headrace_standby_replicas=standbys, **name)
        trial.workers[0].start()
        async with trial.load(600):
            await trial.done(0.1)
            over_s = time.monotonic() + (_LONG_STORM_S if is_long(seed) else _STORM_S)
            while time.monotonic() < over_s:
                await _gust(trial)
                await asyncio.sleep(trial.chance.uniform(1, 5))  # the storm itself
        if not trial.running():
            trial.workers[0].start()
        await trial.check()
        assert await two_owners(trial.client, APPLICATION) == []


def test_a_second_owner_shows_in_the_history_of_commits() -> None:
    users, orders = Entry("users", 0, 5, 1, 100), Entry("orders", 0, 10, 1, 100)
    then = Entry("orders", 0, 20, 2, 200)
    assert breaks([users, orders, then]) == []
    assert breaks([users, orders, then, Entry("orders", 0, 25, 2, 201)]) != []  # beside it
    assert breaks([users, orders, then, Entry("users", 0, 8, 2, 201)]) != []
    assert breaks([users, orders, then, Entry("users", 0, 8, 1, 201)]) != []  # from an older state
    assert breaks([users, orders, then, Entry("users", 0, 8, 4, 201)]) != []  # from a lost one
    assert breaks([users, orders, then, Entry("orders", 0, 15, 3, 201)]) != []  # counted anew


async def _gust(trial: Trial) -> None:
    """Start a worker, end one, or kill one."""
    worker = trial.chance.choice(trial.workers)
    if not worker.is_alive():
        await trial.hit("storm: a worker started")
        worker.start()
    elif trial.chance.random() < 0.5:
        await trial.hit("storm: kill -9")
        worker.kill()
    else:
        await trial.hit("storm: SIGTERM")
        has_begun = "connecting to" in worker.said_in_this_life()
        status = await asyncio.to_thread(worker.end)
        assert status == 0 or not has_begun, f"{worker.folder.name}: {status}"
