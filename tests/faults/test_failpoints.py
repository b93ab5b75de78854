"""A crash at every step that the engine names: whoever comes next goes on from there."""

import signal
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from streams.engine.failpoints import Step
from tests.faults.conftest import StartTrial
from tests.faults.trial import Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until_true

_DEADLINE_S = 90.0


@pytest.mark.timeout(600)
async def test_a_crash_at_every_step_loses_and_doubles_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    # By each step's name: one of a phase that is not here fails the test before it begins.
    crashes = {step: _CRASHES[step.partition(".")[0]] for step in Step}
    async with start_trial(seed) as trial:
        # Static members are back at once, others wait for the end of their former life's session.
        static = trial.chance.random() < 0.5
        names = [{"headrace_instance_id": name} if static else {} for name in ("one", "other")]
        workers = [trial.new_worker(**name) for name in names]
        await trial.produce(5_000)
        workers[0].start()
        await trial.done(0.1)
        workers[0].kill()
        async with trial.load(600):
            for step in trial.chance.sample(list(Step), len(Step)):
                victim, heir = trial.chance.sample(workers, 2)
                await crashes[step](trial, step, victim, heir)
        workers[0].start()
        await trial.check()


async def _crash_at_work(
    trial: Trial, step: Step, victim: WorkerProcess, _heir: WorkerProcess
) -> None:
    """Crash a worker that is alone; the next one of the trial takes over."""
    _arm(trial, step, victim, visits=20)
    await _died(trial, step, victim)


async def _crash_while_taking(
    trial: Trial, step: Step, victim: WorkerProcess, _heir: WorkerProcess, *, from_nothing: bool
) -> None:
    """Crash at one of its four tasks, or four runs of changelogs, as it begins."""
    if from_nothing:
        victim.lose_state()
    _arm(trial, step, victim, visits=4)
    await _died(trial, step, victim)


async def _crash_while_revoked(
    trial: Trial, step: Step, victim: WorkerProcess, heir: WorkerProcess
) -> None:
    """Crash while tasks are handed over, as another worker comes or this one ends."""
    _arm(trial, step, victim, visits=1)
    # A static member that is back is given its former tasks, and may have to hand them over at once.
    await until_true(
        lambda: (
            not victim.is_alive()
            or victim.said_in_this_life().count("taken, reads on") >= trial.partitions
        ),
        deadline_s=_DEADLINE_S,
    )
    if not victim.is_alive():
        await _died(trial, step, victim)
        return
    if step is not Step.REVOKE_AFTER_CLOSE and trial.chance.random() < 0.5:
        victim.process.send_signal(signal.SIGTERM)
        await _died(trial, step, victim)
        return
    heir.start()
    await _died(trial, step, victim)
    await trial.goes_on()
    heir.kill()


async def _crash_as_standby(
    trial: Trial, step: Step, victim: WorkerProcess, heir: WorkerProcess
) -> None:
    """Crash while tasks of another worker are followed, or as they are taken over after its death."""
    heir.start(headrace_standby_replicas=1)
    await heir.says("taken, reads on", times=trial.partitions)
    _arm(trial, step, victim, visits=1, standby_replicas=1)
    if step is Step.STANDBY_BEFORE_RELEASE:
        await victim.says("its copy here is level")
        heir.kill()
    await _died(trial, step, victim)
    heir.kill()


_CRASHES: dict[str, Callable[[Trial, Step, WorkerProcess, WorkerProcess], Awaitable[None]]] = {
    "take": partial(_crash_while_taking, from_nothing=False),
    "restore": partial(_crash_while_taking, from_nothing=True),
    "process": _crash_at_work,
    "commit": _crash_at_work,
    "revoke": _crash_while_revoked,
    "standby": _crash_as_standby,
}


def _arm(
    trial: Trial, step: Step, victim: WorkerProcess, *, visits: int, standby_replicas: int = 0
) -> None:
    """Start a worker that crashes at one of its first visits of a step."""
    failpoint = f"{step}=crash@{trial.chance.randint(1, visits)}"
    victim.start(headrace_failpoints=failpoint, headrace_standby_replicas=standby_replicas)


async def _died(trial: Trial, step: Step, victim: WorkerProcess) -> None:
    """Wait until the worker has died where it was told to: nobody else kills it."""
    await until_true(lambda: not victim.is_alive(), deadline_s=_DEADLINE_S)
    assert victim.process.returncode == -signal.SIGKILL, f"{step}: {victim.process.returncode}"
    await trial.hit(f"crash at {step}")
