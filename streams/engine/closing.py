"""When a task's tables close what is due: behind each step, and in quiet by the clock."""

import asyncio
from typing import Final

from streams.engine.errors import CauselessFailureError, KafkaUnavailableError, TooLargeError
from streams.engine.pane_part import PanePart
from streams.engine.task import Task

_ASKED_EACH_S: Final = 1.0


def fire_due(task: Task) -> None:
    """Close, behind a step, what is due; what that derives is part of the epoch.

    Raises CauselessFailureError, also for a derived event that is too large.
    """
    for flow in task.subtopology.flows:
        part = task.timed_part(flow)
        if isinstance(part, PanePart):
            derived, rows = part.tell(flow, *task.looked_up(flow))
        elif part is not None and flow.fires is not None:
            derived, rows = part.fire(flow, flow.fires, *task.looked_up(flow))
        else:
            continue
        task.epoch.records += rows
        try:
            task.emit(flow, task.encode(flow, derived))
        except TooLargeError as error:
            raise CauselessFailureError(f"{flow.name} closed what is too large: {error}") from error


def is_quiet(task: Task) -> bool:
    """Tell whether nothing has come for so long that stream time may go by the clock."""
    idle_ms = task.config.idle_timeout_ms
    if idle_ms is None or task.clock.monotonic_s() - task.asked_s < _ASKED_EACH_S:
        return False
    return (task.clock.monotonic_s() - task.heard_s) * 1_000 >= idle_ms


async def pass_idle_time(task: Task) -> None:
    """Let stream time go by the clock, if Kafka says that nothing is there to be read.

    Not fetching anything proves nothing: so it is while brokers are silent, and after this process
    stood still. What is closed by the clock is closed elsewhere in a replay.
    """
    task.asked_s = now_s = task.clock.monotonic_s()
    quiet_ms = round((now_s - task.heard_s) * 1_000)
    positions = {tp: task.position.sources.get(tp.topic, 0) for tp in task.inputs}
    positions |= task.epoch.positions
    try:
        async with asyncio.timeout(_ASKED_EACH_S):
            bounds = await task.cluster.bounds(task.inputs)
    except (TimeoutError, KafkaUnavailableError):
        return
    if all(bounds[tp].end <= at for tp, at in positions.items()):
        for part in task.timed_parts():
            part.pass_quiet(quiet_ms)
        task.begin_turns()
