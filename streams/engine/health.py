"""What a worker's orchestrator wants to know of an engine: whether it lives, and whether it is ready."""

from collections.abc import Sequence
from typing import Final

from streams.engine.engine import Engine
from streams.engine.reads import state_of
from streams.engine.task import State, Task

# A turn takes 0.2 s at most, with a batch of slow rules in it some seconds.
_STILL_AFTER_S: Final = 30.0


def why_dead(engine: Engine) -> str:
    """Return why only a restart would help, in one line; empty while the loop turns, or need not."""
    if engine.why_stopped:
        return f"stopped: {engine.why_stopped}"
    still_s = engine.clock.monotonic_s() - engine.turned_s
    if engine.is_turning and still_s > _STILL_AFTER_S:
        return f"the loop has not turned for {still_s:.0f} s"
    return ""


def what_is_missing(engine: Engine) -> Sequence[str]:
    """Return, in a line each, what keeps the worker from being ready; nothing when it is."""
    if engine.why_stopped:
        return [f"stopped: {engine.why_stopped}"]
    if engine.is_leaving:
        return ["leaving the group"]
    if not engine.is_member:
        return ["joining the group"]
    global_tables = [
        f"global table {table} at most {to_go:,} to go"
        for table, to_go in engine.global_tables.missing().items()
    ]
    taken = [_progress(task) for task in engine.tasks.values() if task.state is not State.RUNNING]
    return [*global_tables, *taken]


def _progress(task: Task) -> str:
    tables = [
        f"{table} at most {restoring.remaining:,} to go"
        for table, restoring in task.restoring.items()
        if restoring.remaining
    ]
    return f"{task.id}: {', '.join([state_of(task), *tables])}"
