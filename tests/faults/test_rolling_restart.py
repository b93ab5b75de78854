"""Static members (HEADRACE_INSTANCE_ID) that are restarted one after the other: nothing moves."""

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import aiohttp
import pytest

from tables.web.wire import TABLES
from tests.faults.conftest import StartTrial
from tests.faults.histories import generations, two_owners
from tests.faults.trial import APPLICATION, Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until, until_true

_TAKEN = re.compile(r"(\S+): taken, reads on")


class _Taking(NamedTuple):
    timestamp: str
    task: str
    worker: WorkerProcess


@pytest.mark.timeout(500)
async def test_a_rolling_restart_of_static_members_moves_no_task_and_restores_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(8_000)
        workers = [
            trial.new_worker(
                headrace_instance_id=f"member-{n}",
                headrace_web_port=_free_port(),
                kafka_session_timeout_ms=60_000,
            )
            for n in range(3)
        ]
        for worker in workers:
            worker.start()
        await until_true(lambda: set(_owners(workers).values()) == set(workers), deadline_s=90)
        async with trial.load(600):
            await trial.done(0.9)
            before = await generations(trial.client, APPLICATION)
            for worker in trial.chance.sample(workers, len(workers)):
                await _restart(trial, worker)
            assert await generations(trial.client, APPLICATION) == before

            # One that is somewhere else then must be found there.
            moved = trial.chance.choice(workers)
            moved.end()
            moved.start(headrace_web_port=_free_port())
            for worker in workers:
                await until(partial(_tells_of_all_tasks, worker), deadline_s=90)
        await trial.check()
        assert await two_owners(trial.client, APPLICATION) == []


async def _restart(trial: Trial, worker: WorkerProcess) -> None:
    """Restart a worker; its tasks are its tasks again, and nobody else takes any."""
    owners, taken = _owners(trial.workers), _takings(trial.workers)
    own = [task for task, owner in owners.items() if owner is worker]
    in_order = trial.chance.random() < 0.7
    how = "SIGTERM" if in_order else "kill -9"
    await trial.hit(f"{how} of a static member that is started again")
    if in_order:
        assert await asyncio.to_thread(worker.end) == 0
    else:
        worker.kill()
    worker.start()
    await worker.says("taken, reads on", times=len(own))
    await trial.goes_on()
    taken_since = _takings(trial.workers)[len(taken) :]
    assert sorted(taking.task for taking in taken_since) == sorted(own)
    assert {taking.worker for taking in taken_since} == {worker}
    if in_order:  # one that was killed may have to read its last commit
        assert "restored " not in worker.said_in_this_life()


async def _tells_of_all_tasks(worker: WorkerProcess) -> bool:
    """Tell whether a worker knows where to ask for the rows of all tasks."""
    if not worker.web_address():
        return False
    async with aiohttp.ClientSession() as session:
        url = f"http://{worker.web_address()}{TABLES}/users?limit=1"
        async with session.get(url) as answer:
            return answer.status == 200


def _takings(workers: Sequence[WorkerProcess]) -> list[_Taking]:
    """Return who has taken which task, in order."""
    takings = []
    for worker in workers:
        for line in worker.said().splitlines(keepends=True):
            said = json.loads(line) if line.endswith("}\n") else {}
            if found := _TAKEN.search(said.get("message", "")):
                takings.append(_Taking(said["timestamp"], found[1], worker))
    return sorted(takings, key=lambda taking: taking.timestamp)


def _owners(workers: Sequence[WorkerProcess]) -> dict[str, WorkerProcess]:
    """Return who has taken each task last."""
    return {taking.task: taking.worker for taking in _takings(workers)}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
