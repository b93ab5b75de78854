"""A worker that is frozen past its session and thawed after another has taken over."""

from pathlib import Path

import pytest

from tests.faults.conftest import StartTrial
from tests.faults.workers import WorkerProcess
from tests.waiting import until_true


@pytest.mark.timeout(300)
async def test_a_frozen_worker_is_refused_when_it_wakes_and_rejoins(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(20_000)
        zombie, heir = trial.new_worker(), trial.new_worker()
        # The zombie freezes in the midst of a commit: what it sent is in an open transaction.
        at = trial.chance.randrange(2, 8)
        zombie.start(headrace_failpoints=f"commit.before_end=stop@{at}")
        await until_true(lambda: _is_stopped(zombie), deadline_s=60)
        await trial.hit("SIGSTOP in mid-commit past the session, SIGCONT after take-over")
        heir.start()
        await trial.done()

        zombie.resume()
        await until_true(
            lambda: "begins again at its committed offsets" in zombie.said(), deadline_s=60
        )
        await trial.produce(20_000)
        await trial.check()
        assert "taken, reads on" in zombie.said().partition("begins again")[2], "it did not rejoin"


def _is_stopped(worker: WorkerProcess) -> bool:
    status = Path(f"/proc/{worker.process.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"
