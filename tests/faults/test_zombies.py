"""A worker that is frozen past its session and thawed after another has taken over."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from demo.oracle import diff, expect, in_any_turns
from demo.readback import INPUTS
from streams.broker import EmbeddedKafka
from tests.faults.outcomes import (
    DERIVED,
    ends,
    fill,
    read_input,
    read_outcome,
    wait_until_done,
)
from tests.faults.workers import WorkerProcess

PARTITIONS = 4


async def test_a_frozen_worker_is_refused_when_it_wakes_and_rejoins(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        await fill(kafka.bootstrap, PARTITIONS, 20_000, seed=5, users=2_000)
        workers = [
            WorkerProcess(
                tmp_path / f"worker-{n}",
                kafka.bootstrap,
                "zombies",
                kafka_session_timeout_ms=2_000,
                kafka_heartbeat_interval_ms=300,
            )
            for n in range(2)
        ]
        zombie, heir = workers
        # The zombie freezes in the midst of a commit: what it sent is in an open transaction.
        zombie.start(headrace_failpoints="commit.before_end=stop@3")
        await _until_stopped(zombie)
        first = await ends(kafka.bootstrap, INPUTS, PARTITIONS)
        heir.start()
        await wait_until_done(kafka.bootstrap, "zombies", first, workers=workers, deadline_s=60)

        zombie.resume()
        await _until(lambda: "begins again at its committed offsets" in zombie.said())
        await fill(kafka.bootstrap, PARTITIONS, 20_000, seed=6, users=2_000)
        everything = await ends(kafka.bootstrap, INPUTS, PARTITIONS)
        await wait_until_done(
            kafka.bootstrap, "zombies", everything, workers=workers, deadline_s=60
        )
        statuses = [worker.end() for worker in workers]

        expected = expect(await read_input(kafka.bootstrap, PARTITIONS))
        begins = dict.fromkeys(await ends(kafka.bootstrap, DERIVED, PARTITIONS), 0)
        actual = await read_outcome(kafka.bootstrap, "zombies", begins, expected)
    # The second half of the input came while they worked: with it came users of orders long done.
    assert diff(in_any_turns(expected, actual), actual) == []
    assert statuses == [0, 0]


async def _until_stopped(worker: WorkerProcess) -> None:
    status = Path(f"/proc/{worker.process.pid}/stat")
    await _until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")


async def _until(condition: Callable[[], bool], deadline_s: float = 60) -> None:
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.05)
