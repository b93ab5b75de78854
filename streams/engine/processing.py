"""A slice of input on its way through the agents, narrowed down to the record that makes one raise."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from streams.engine.batch import Batch, Failure, Interleaved
from streams.engine.errors import CauselessFailureError
from streams.engine.failpoints import Step, reach
from streams.engine.records import TopicPartition
from streams.engine.task import State, Task, first_failure
from streams.engine.turns import Slice, by_turn

log = logging.getLogger(__name__)

Deliver = Callable[[TopicPartition, Batch], Awaitable[None]]
"""Hands a batch to every agent of its topic; the batch tells when they are done."""


class OvertakenError(Exception):
    """The task was given up while a batch's agents worked: nothing of the batch was accepted."""


async def process(
    task: Task,
    source: TopicPartition,
    piece: Slice,
    deliver: Deliver,
    failed: "asyncio.Future[None]",
) -> int:
    """Process a slice; return how many of its records were dropped because a rule raised.

    A slice that raises is undone for all agents and halved, until the record that does it stands
    alone (decision 0012). `failed` ends the wait for agents that will never be done. Raises
    CauselessFailureError if the halves succeed where the whole did not, and OvertakenError.
    """
    if not piece.events:
        task.accept(source, piece, None)
        return 0
    batch = task.batch(source, piece)
    try:
        failure = await _through_agents(task, source, piece, batch, deliver, failed)
        if failure is None:
            task.accept(source, piece, batch)
            return 0
    finally:
        batch.release()
    if len(piece.events) == 1:
        offset = piece.run.offsets[piece.indexes[0]]
        log.warning(
            "dead letter: %s-%d offset %d: %s: %s", *source, offset, failure.flow.name, failure.text
        )
        task.drop(source, piece, failure)
        return 1
    task.undo()
    dropped = 0
    for half in piece.split(len(piece.events) // 2):
        dropped += await process(task, source, half, deliver, failed)
    if not dropped:
        msg = (
            f"{failure.flow.name} failed on {len(piece.events)} records together and on none of them "
            f"alone: {failure.text}; nothing is committed past offset {piece.run.offsets[piece.begin]}"
        )
        raise CauselessFailureError(msg) from failure.error
    return dropped


async def process_together(
    task: Task,
    step: Sequence[tuple[TopicPartition, Slice]],
    deliver: Deliver,
    failed: "asyncio.Future[None]",
) -> list[tuple[TopicPartition, Slice]]:
    """Process a step of several inputs as one; return what is left of it to be processed.

    That is nothing, or, where a rule raised, all of it, undone and cut by turn: so the record that does it
    is found in its own batch. Raises OvertakenError.
    """
    together = Interleaved()
    batches = [task.batch(source, piece, together) for source, piece in step]
    try:
        failure: Failure | None = None
        for (source, piece), batch in zip(step, batches, strict=True):
            failure = failure or await _through_agents(task, source, piece, batch, deliver, failed)
        if failure is None:
            together.run()
            for (_, piece), batch in zip(step, batches, strict=True):
                failure = failure or _failure(task, piece, batch)
        if failure is not None:
            task.undo()
            return by_turn(step)
        for (source, piece), batch in zip(step, batches, strict=True):
            task.accept(source, piece, batch)
        return []
    finally:
        for batch in batches:
            batch.release()


async def _through_agents(  # noqa: PLR0917 - called here alone
    task: Task,
    source: TopicPartition,
    piece: Slice,
    batch: Batch,
    deliver: Deliver,
    failed: "asyncio.Future[None]",
) -> Failure | None:
    """Return what kept the batch from being accepted, if anything did, when every agent is done."""
    await deliver(source, batch)
    if not batch.finished.done():
        await asyncio.wait({batch.finished, failed}, return_when=asyncio.FIRST_COMPLETED)
    if failed.done():
        await failed
    if task.state is not State.RUNNING:  # the commit before failed, and took this with it
        raise OvertakenError
    reach(Step.PROCESS_AFTER_AGENTS)
    return _failure(task, piece, batch)


def _failure(task: Task, piece: Slice, batch: Batch) -> Failure | None:
    if batch.fatal is not None:
        raise batch.fatal
    return first_failure(task.subtopology.flows, batch.failures) or task.unwritable(piece)
