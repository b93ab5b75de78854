"""A worker that is frozen past its session and thawed after another has taken over."""

import pytest

from streams.engine.failpoints import Step
from streams.engine.kafka_client import FENCED
from tests.faults.conftest import StartTrial
from tests.faults.histories import two_owners
from tests.faults.trial import APPLICATION
from tests.waiting import until_true

_TAKEN = "taken, reads on"
_AT_WORK = [step for step in Step if step.startswith(("process.", "commit."))]


@pytest.mark.timeout(300)
async def test_a_frozen_worker_is_refused_when_it_wakes_and_rejoins(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(5_000)
        zombie, heir = trial.new_worker(), trial.new_worker()
        # Mostly in the midst of a commit: what it sent is in an open transaction.
        step = trial.chance.choice([*_AT_WORK, *[Step.COMMIT_BEFORE_END] * len(_AT_WORK)])
        heir.start()  # so that there is something committed, however early the other one is frozen
        await trial.done(0.1)
        assert heir.end() == 0
        async with trial.load(600):
            zombie.start(headrace_failpoints=f"{step}=stop@{trial.chance.randint(5, 25)}")
            await until_true(zombie.stands_still, deadline_s=90)
            await trial.hit(f"SIGSTOP at {step} past the session, SIGCONT after take-over")
            before = zombie.said_in_this_life()
            heir.start()
            await heir.says(_TAKEN, times=trial.partitions)
            await trial.goes_on()

            zombie.resume()
            await until_true(
                lambda: any(e.__name__ in zombie.said_in_this_life() for e in FENCED),
                deadline_s=90,
            )
            await zombie.says(_TAKEN, times=before.count(_TAKEN) + 1)
        await trial.check()
        assert not any(error.__name__ in before for error in FENCED), "refused too early"
        assert await two_owners(trial.client, APPLICATION) == []
