"""Standbys: whoever goes on where a killed worker ended reads only what it had not read yet."""

import re
from collections import Counter
from functools import partial

import aiohttp
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.store import Position, Store
from streams.topology import TOPOLOGY
from tests.faults.conftest import StartTrial
from tests.faults.trial import APPLICATION, Trial, answer_of
from tests.faults.workers import WorkerProcess
from tests.waiting import until

_LAG = re.compile(r'^headrace_standby_lag_records\{task="([^"]+)"\} (\S+)$', re.MULTILINE)
_RESTORED = re.compile(r"restored \w+ of (\S+): ([\d,]+) records")
_RUNNING = re.compile(r'^headrace_tasks\{state="running"\} (\S+)$', re.MULTILINE)
_SCRAPED_EACH_S = 0.2
_LEVEL_WITHIN = 500
"""Records: what is committed while a standby is asked how far it is."""
_TAIL = 0.5
"""Of what a task's changelogs have: more is no tail."""


async def _all_level(trial: Trial, *, replicas: int = 1) -> dict[WorkerProcess, set[str]]:
    """Return who follows which tasks, when every task is followed by so many workers, and closely."""

    async def are_level(session: aiohttp.ClientSession) -> dict[WorkerProcess, set[str]] | None:
        lags = {
            w: dict(_LAG.findall(await answer_of(session, w, "/metrics"))) for w in trial.running()
        }
        told = [float(lag) for by_task in lags.values() for lag in by_task.values()]
        is_all = len(told) == replicas * trial.partitions and max(told) <= _LEVEL_WITHIN
        return {worker: set(by_task) for worker, by_task in lags.items()} if is_all else None

    async with aiohttp.ClientSession() as session:
        return await until(partial(are_level, session), deadline_s=120, each_s=_SCRAPED_EACH_S)


async def _all_run(trial: Trial) -> None:
    """Return when the workers that are left run all tasks."""

    async def do_run(session: aiohttp.ClientSession) -> bool:
        told = [await answer_of(session, worker, "/metrics") for worker in trial.running()]
        running = sum(float(tasks) for text in told for tasks in _RUNNING.findall(text))
        return running == trial.partitions

    async with aiohttp.ClientSession() as session:
        await until(partial(do_run, session), deadline_s=120, each_s=_SCRAPED_EACH_S)


async def _changes(trial: Trial) -> Counter[str]:
    """Return how many offsets the changelogs of each task have."""
    topics = [table.changelog(APPLICATION) for table in TOPOLOGY.tables]
    tps = [TopicPartition(topic, p) for topic in topics for p in range(trial.partitions)]
    consumer = AIOKafkaConsumer(**trial.client)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(tps)
    finally:
        await consumer.stop()
    changes: Counter[str] = Counter()
    for tp, end in ends.items():
        changes[f"orders-{tp.partition}"] += end
    return changes


def _restored(said: str) -> Counter[str]:
    """Return how many records a worker has read of each task's changelogs before it went on."""
    restored: Counter[str] = Counter()
    for task, records in _RESTORED.findall(said):
        restored[task] += int(records.replace(",", ""))
    return restored


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [2, 3])
async def test_who_follows_a_killed_worker_s_tasks_goes_on_at_once_and_exactly(
    start_trial: StartTrial, seed: int, count: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(25_000)
        workers = trial.start_workers(count, headrace_standby_replicas=1)
        async with trial.load(600):
            for _ in range(3):
                await trial.done(0.5)
                for worker in workers:  # one that has just come takes tasks, and restores them
                    await worker.says("taken, reads on")
                followed = await _all_level(trial)
                victim = trial.chance.choice(workers)
                del followed[victim]
                before = {worker: len(worker.said()) for worker in followed}
                await trial.hit("kill -9 of a worker whose tasks are followed")
                victim.kill()
                await _all_run(trial)
                changes = await _changes(trial)
                for worker, tasks in followed.items():
                    restored = _restored(worker.said()[before[worker] :])
                    # Also who has an older copy may get a task, where that is near: it reads more.
                    assert all(restored[task] < _TAIL * changes[task] for task in tasks)
                await trial.goes_on()
                victim.start()
        await trial.check()


@pytest.mark.timeout(400)
async def test_two_standbys_outlive_two_workers_killed_at_once(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(15_000)
        workers = trial.start_workers(3, headrace_standby_replicas=2)
        async with trial.load(600):
            await trial.done(0.5)
            await _all_level(trial, replicas=2)
            heir, *victims = trial.chance.sample(workers, 3)
            begun = len(heir.said())
            await trial.hit("kill -9 of two workers of three")
            for victim in victims:
                victim.kill()
            await _all_run(trial)
            restored, changes = _restored(heir.said()[begun:]), await _changes(trial)
            assert all(restored[task] < _TAIL * changes[task] for task in changes)
            await trial.goes_on()
        await trial.check()


@pytest.mark.timeout(400)
async def test_the_disk_of_a_standby_has_what_the_disk_of_the_owner_has(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(10_000)
        one, other = trial.start_workers(2, headrace_standby_replicas=1)
        await trial.done()
        await _all_level(trial)
        # A worker that ends hands over first: killed together, each leaves what it had.
        await trial.check()
        tables = [table.name for table in TOPOLOGY.tables]
        for path in sorted(one.state.iterdir()):
            mine, theirs = (
                Store(path, read_only=True),
                Store(other.state / path.name, read_only=True),
            )
            try:
                ends = [(store.position() or Position(0)).changelogs for store in (mine, theirs)]
                assert ends[0].keys() == ends[1].keys()
                for table in tables:
                    assert list(mine.scan(table)) == list(theirs.scan(table)), (path.name, table)
            finally:
                mine.close()
                theirs.close()
