"""Failpoints: nothing happens at a step unless it is armed there."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.engine import failpoints
from streams.engine.failpoints import FailpointError, InjectedFailureError, Step

STEP, OTHER = Step.COMMIT_BEFORE_DISK, Step.COMMIT_BEFORE_END
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def arm(told: str) -> None:
    failpoints.arm_from_environment({failpoints.VARIABLE: told})


def test_nothing_happens_where_nothing_is_armed() -> None:
    failpoints.reach(STEP)
    arm("")
    failpoints.arm_from_environment({})
    failpoints.reach(STEP)


def test_an_armed_step_fails_by_name_and_no_other_does() -> None:
    failpoints.arm(STEP, failpoints.fail)
    failpoints.reach(OTHER)
    for _ in range(2):
        with pytest.raises(InjectedFailureError, match=r"^commit\.before_disk$"):
            failpoints.reach(STEP)


def test_a_step_can_be_disarmed_alone_or_with_all() -> None:
    for step in (STEP, OTHER):
        failpoints.arm(step, failpoints.fail)
    failpoints.disarm(STEP)
    failpoints.reach(STEP)
    with pytest.raises(InjectedFailureError):
        failpoints.reach(OTHER)
    failpoints.disarm()
    failpoints.reach(OTHER)


def test_the_environment_arms_steps_for_one_visit_each() -> None:
    arm(f"{STEP}=fail@2,{OTHER}=fail")
    failpoints.reach(STEP)
    with pytest.raises(InjectedFailureError):
        failpoints.reach(STEP)
    failpoints.reach(STEP)
    with pytest.raises(InjectedFailureError):
        failpoints.reach(OTHER)
    failpoints.reach(OTHER)


@pytest.mark.parametrize(
    "told",
    [
        "nonsense", "commit.before_disk", "commit.before_disk=", "commit.before_disk=explode",
        "commit.nowhere=fail", "commit.before_disk=fail@x",
        "commit.before_disk=fail@-1", "commit.before_disk=fail@0", "commit.before_disk=fail,x",
        "COMMIT_BEFORE_DISK=fail",
    ],
)  # fmt: skip
def test_what_names_no_step_action_or_visit_is_refused_in_one_line(told: str) -> None:
    with pytest.raises(FailpointError) as raised:
        arm(told)
    assert str(raised.value).startswith("HEADRACE_FAILPOINTS: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("step", list(Step), ids=str)
def test_every_step_can_be_armed(step: Step) -> None:
    arm(f"{step}=fail")
    with pytest.raises(InjectedFailureError):
        failpoints.reach(step)


def test_a_crash_is_that_of_kill_9() -> None:
    code = (
        "from streams.engine import failpoints as f\n"
        "f.arm_from_environment({f.VARIABLE: 'commit.before_disk=crash'})\n"
        "try: f.reach(f.Step.COMMIT_BEFORE_DISK)\n"
        "finally: print('cleaned up')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False, timeout=30
    )
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == b""
