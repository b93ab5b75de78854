"""What happens to disks: found, rebuilt from the changelog, never half read."""

import shutil
from itertools import cycle
from pathlib import Path
from random import Random

import aiohttp
import pytest

from demo.oracle import Json, parse
from demo.readback import CHECKED
from streams.broker import EmbeddedKafka
from tables.questions import MAX_LIMIT
from tables.web.wire import TABLES
from tests.faults.conftest import StartTrial
from tests.faults.damage import DAMAGE
from tests.faults.trial import PARTITIONS, Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until

# Rows in several files, and in the log: a start after a kill writes what the log has to a file.
_USERS = 5_000
_DEADLINE_S = 90.0
_OK, _NOT_NOW = 200, 503


@pytest.mark.timeout(400)
async def test_a_disk_that_was_damaged_while_no_worker_ran_is_rebuilt(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed, users=_USERS) as trial:
        kinds = cycle(trial.chance.sample(list(DAMAGE), len(DAMAGE)))
        await trial.produce(8_000)
        [worker] = trial.start_workers(1)
        for _ in range(5):
            await _kill_at_work(trial, worker)
            for path in _tasks(worker):
                kind = next(kinds)
                await trial.hit(kind)
                DAMAGE[kind](path, trial.chance)
            worker.start()
        await trial.done()
        whole = await until(lambda: _walk(trial), deadline_s=_DEADLINE_S)
        assert await until(lambda: _walk(trial), deadline_s=_DEADLINE_S) == whole
        await trial.check()
        assert "is damaged" in worker.said()
        assert "it is rebuilt from the changelog" in worker.said()


@pytest.mark.timeout(400)
async def test_a_disk_that_is_damaged_under_a_running_worker_is_rebuilt(
    start_trial: StartTrial, seed: int
) -> None:
    kinds = ("bytes of an SST flipped", "the end of an SST flipped", "the folder deleted")
    async with start_trial(seed, users=_USERS) as trial:
        await trial.produce(12_000)
        [worker] = trial.start_workers(1)
        await trial.done(0.5)
        worker.kill()  # the next start has files of rows
        async with trial.load(1_000):
            worker.start()
            for kind in trial.chance.sample(kinds, len(kinds)):
                await until(lambda: _walk(trial), deadline_s=_DEADLINE_S)
                for path in trial.chance.sample(_tasks(worker), 2):
                    await trial.hit(f"{kind}, under a running worker")
                    DAMAGE[kind](path, trial.chance)
                await _walk(trial)
        await trial.done()
        # What its memory still had hid some of it: the next start reads the files again.
        assert worker.end() == 0
        worker.start()
        whole = await until(lambda: _walk(trial), deadline_s=_DEADLINE_S)
        assert await until(lambda: _walk(trial), deadline_s=_DEADLINE_S) == whole
        await trial.check()
        assert "it is rebuilt from the changelog" in worker.said()


async def _kill_at_work(trial: Trial, *workers: WorkerProcess) -> None:
    """Kill workers while they commit, and leave them something to do."""
    async with trial.load(2_000):
        before = await until(trial.progress)

        async def has_committed() -> bool:
            return (await until(trial.progress)).committed > before.committed

        await until(has_committed, deadline_s=_DEADLINE_S)
        for worker in workers:
            worker.kill()
    await trial.produce(100)


async def _walk(trial: Trial) -> dict[str, Json] | None:
    """Return all rows as the web view gives them; None where it says that it cannot tell now."""
    rows: dict[str, Json] = {}
    if not (address := trial.running()[0].web_address()):
        return None
    async with aiohttp.ClientSession(f"http://{address}") as session:
        for table in CHECKED:
            asked = {"limit": str(MAX_LIMIT)}
            while True:
                async with session.get(f"{TABLES}/{table}", params=asked) as answer:
                    page = parse(await answer.read())
                if answer.status != _OK:
                    assert answer.status == _NOT_NOW
                    assert "rows" not in page
                    return None
                rows |= {f"{table} {row['key']}": row["value"] for row in page["rows"]}
                if page["next"] is None:
                    break
                asked["after"] = page["next"]
    return rows


@pytest.mark.timeout(400)
async def test_a_folder_that_belongs_elsewhere_is_rebuilt_not_used(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed, users=_USERS) as trial:
        await trial.produce(8_000)
        one, other = trial.start_workers(2)
        for worker in (one, other):
            await worker.says("taken, reads on")
        await trial.done(0.5)
        one.kill()
        old = trial.folder / "an-older-time"
        shutil.copytree(one.state, old)
        one.start()
        for mix_up in (_an_older_time, _another_task, _another_worker):
            await _kill_at_work(trial, one, other)
            await trial.hit(f"state of {mix_up.__name__.strip('_').replace('_', ' ')}")
            mix_up(one, other, old, trial.chance)
            one.start()
            other.start()
        await trial.check()


def _an_older_time(one: WorkerProcess, _other: WorkerProcess, old: Path, _: Random) -> None:
    shutil.rmtree(one.state)
    shutil.copytree(old, one.state)


def _another_task(one: WorkerProcess, other: WorkerProcess, _old: Path, chance: Random) -> None:
    """Exchange the folders of tasks, on each worker: their positions look plausible."""
    for worker in (one, other):
        names = [path.name for path in _tasks(worker)]
        mixed = worker.state.with_name("mixed")
        worker.state.rename(mixed)
        for name, becomes in zip(names, names[1:] + names[:1], strict=True):
            shutil.copytree(mixed / name, worker.state / becomes)
        shutil.rmtree(mixed)


def _another_worker(one: WorkerProcess, other: WorkerProcess, _old: Path, _: Random) -> None:
    """Exchange the workers' whole states."""
    aside = one.state.with_name("aside")
    one.state.rename(aside)
    other.state.rename(one.state)
    aside.rename(other.state)


@pytest.mark.timeout(400)
async def test_state_of_a_cluster_that_was_made_anew_is_rebuilt(
    start_trial: StartTrial, tmp_path: Path, seed: int
) -> None:
    async with start_trial(seed, users=_USERS) as trial:
        await trial.produce(4_000)
        [former] = trial.start_workers(1)
        await trial.done()
        assert former.end() == 0
    # Another Kafka, other records under the same names: the former offsets are plausible there.
    with EmbeddedKafka(tmp_path / "kafka-anew") as kafka:
        async with start_trial(seed + 1, kafka=kafka, users=_USERS) as trial:
            await trial.produce(12_000)
            worker = trial.new_worker()  # in the former one's folder
            elsewhere = trial.new_worker()
            assert _tasks(worker)
            elsewhere.start()
            await trial.done(0.5)
            elsewhere.kill()
            await trial.hit("state of another cluster")
            worker.start()
            # Not only what is committed: a transaction may have ended after its worker.
            await worker.says("does not belong to changelog ", times=PARTITIONS)
            await trial.done()
            assert worker.said().count("does not belong to changelog ") == PARTITIONS
            await trial.check()


def _tasks(worker: WorkerProcess) -> list[Path]:
    return sorted(worker.state.glob("orders-*"))
