"""Named steps of the engine at which a test can make it fail, crash or pause.

The same steps exist in a worker process and in the broker-less driver. Nothing is armed in normal
work: `reach` is then one look at an empty dict, and it stands only where something happens once a
batch, a commit or an assignment, never once a record.
"""

import os
import signal
from collections.abc import Callable, Mapping
from enum import StrEnum

from streams.errors import HeadraceError

VARIABLE = "HEADRACE_FAILPOINTS"


class Step(StrEnum):
    """Every step that can be reached, in the order of a task's life."""

    TAKE_BEFORE_FENCE = "take.before_fence"
    TAKE_AFTER_FENCE = "take.after_fence"
    TAKE_BEFORE_OPEN = "take.before_open"
    RESTORE_BEFORE_READ = "restore.before_read"
    RESTORE_AFTER_RUN = "restore.after_run"
    RESTORE_AFTER_READ = "restore.after_read"
    TAKE_BEFORE_SEEK = "take.before_seek"
    PROCESS_BEFORE_BATCH = "process.before_batch"
    PROCESS_AFTER_AGENTS = "process.after_agents"
    PROCESS_AFTER_BATCH = "process.after_batch"
    COMMIT_BEFORE_BEGIN = "commit.before_begin"
    COMMIT_BEFORE_SENDS = "commit.before_sends"
    COMMIT_BEFORE_OFFSETS = "commit.before_offsets"
    COMMIT_BEFORE_END = "commit.before_end"
    COMMIT_BEFORE_DISK = "commit.before_disk"
    COMMIT_AFTER_DISK = "commit.after_disk"
    REVOKE_BEFORE_COMMIT = "revoke.before_commit"
    REVOKE_AFTER_COMMIT = "revoke.after_commit"
    REVOKE_AFTER_CLOSE = "revoke.after_close"
    STANDBY_BEFORE_OPEN = "standby.before_open"
    STANDBY_AFTER_RUN = "standby.after_run"
    STANDBY_BEFORE_RELEASE = "standby.before_release"


class InjectedFailureError(Exception):
    """What a failpoint raises to make its step fail."""


class FailpointError(HeadraceError):
    """The failpoints variable names no such step or action."""


Action = Callable[[Step], None]
_armed: dict[Step, Action] = {}


def reach(step: Step) -> None:
    """Do what is armed at `step`: mostly nothing."""
    if _armed and step in _armed:
        _armed[step](step)


def arm(step: Step, action: Action) -> None:
    """Have `action` done each time that `step` is reached, until it is disarmed."""
    _armed[step] = action


def disarm(step: Step | None = None) -> None:
    """Disarm one step, or all."""
    if step is None:
        _armed.clear()
    else:
        _armed.pop(step, None)


def fail(step: Step) -> None:
    """Make the step fail with an ordinary error."""
    raise InjectedFailureError(step.value)


def crash(_step: Step) -> None:
    """Kill this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(_step: Step) -> None:
    """Stop this process as SIGSTOP does, until somebody sends SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


ACTIONS: Mapping[str, Action] = {"fail": fail, "crash": crash, "stop": stop}


def on_visit(visit: int, action: Action) -> Action:
    """Return an action that does `action` at that visit alone, counted from 1."""
    visits = 0

    def count(step: Step) -> None:
        nonlocal visits
        visits += 1
        if visits == visit:
            action(step)

    return count


def arm_from_environment(environment: Mapping[str, str]) -> None:
    """Arm what `HEADRACE_FAILPOINTS` says: `step=action[@visit]`, separated by commas.

    Actions: fail, crash (SIGKILL), stop (SIGSTOP). Raises FailpointError for anything else.
    """
    for entry in filter(None, environment.get(VARIABLE, "").split(",")):
        name, _, rest = entry.partition("=")
        action, _, visit = rest.partition("@")
        counts = (visit or "1").isdecimal() and int(visit or "1") > 0
        if name not in list(Step) or action not in ACTIONS or not counts:
            msg = f"{VARIABLE}: {entry!r} is not step=action[@visit]; actions: {', '.join(ACTIONS)}"
            raise FailpointError(msg)
        arm(Step(name), on_visit(int(visit or "1"), ACTIONS[action]))
