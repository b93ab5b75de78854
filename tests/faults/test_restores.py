"""kill -9 while a worker restores its tables from their changelogs."""

import time
from collections.abc import Iterator
from functools import partial

import pytest

from demo.generator import TopicKeyValue
from demo.poison import Subject, event
from streams.topics import USERS
from streams.topology import TOPOLOGY
from tests.faults.conftest import StartTrial
from tests.faults.trial import Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until_true

_TABLES = len(TOPOLOGY.tables)
_KILLS = 3
# More than the 4 MB that a task's store keeps in memory before it writes a file.
_USERS, _NAME_BYTES = 8_000, 4_600


@pytest.mark.timeout(400)
async def test_a_worker_killed_again_and_again_while_it_restores_loses_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(8_000)
        await trial.send(_users_with_long_names(trial))
        (owner,) = trial.start_workers(1)
        await trial.done(0.9)
        heir = trial.new_worker()
        alone = trial.chance.random() < 0.5
        tasks = trial.partitions if alone else trial.partitions // 2
        if alone:
            owner.kill()
        async with trial.load(600):
            while trial.faults.total() < _KILLS:
                heir.start()
                restored = trial.chance.randrange(1, tasks * _TABLES)
                await until_true(partial(_is_far, heir, restored, tasks), deadline_s=90)
                heir.kill()
                if _is_far(heir, tasks * _TABLES, tasks):  # it was quicker
                    heir.lose_state()
                else:
                    await trial.hit("kill -9 during restore")
            heir.start()
            await heir.says("taken, reads on", times=tasks)
        await trial.check()


def _is_far(worker: WorkerProcess, restored: int, taken: int) -> bool:
    """Tell whether a worker has said of so many tables that they are whole, or has all its tasks."""
    said = worker.said_in_this_life()
    return said.count("restored ") >= restored or said.count("taken, reads on") >= taken


def _users_with_long_names(trial: Trial) -> Iterator[TopicKeyValue]:
    for n in range(_USERS):
        user_id, name = b"long-%d" % n, trial.chance.randbytes(_NAME_BYTES).hex().encode()
        who = Subject(b"", user_id, time.time_ns() // 1_000_000)
        yield USERS.name, user_id, event(who, "user.registered", {}, {"username": b'"%b"' % name})
