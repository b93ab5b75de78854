"""How tasks are let go of: with a last commit where there is time for one."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Final

from streams.engine.committing import start_commit, why_failed
from streams.engine.giving_up import RETRIED, give_up, text_of
from streams.engine.task import Task

log = logging.getLogger(__name__)

_ABORT_TIMEOUT_S: Final = 5.0


async def commit_last(tasks: Iterable[Task]) -> None:
    """Commit all that suspended tasks have done; what cannot be committed in time is done again.

    Raises what one of them raised that taking it anew does not mend, once all have ended.
    """
    last = map(_commit_last, tasks)
    for outcome in await asyncio.gather(*last, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def _commit_last(task: Task) -> None:
    try:
        async with asyncio.timeout(task.config.revoke_timeout_s()):
            if task.commit is not None:
                await _end_of(task.commit)
            if task.has_to_commit():
                await _end_of(start_commit(task))
    except RETRIED as error:
        why = text_of(error)
        log.warning("%s: not committed before the hand-over (%s); it is done again", task.id, why)
        await _cancel(task.commit)
        give_up(task, error)
    finally:
        task.commit = None


async def _end_of(commit: asyncio.Task[None]) -> None:
    """Wait for a commit. Raises what it failed with; one that was cancelled would else cancel who waits."""
    await asyncio.wait({commit})
    if (error := why_failed(commit)) is not None:
        raise error


async def _cancel(commit: asyncio.Task[None] | None) -> None:
    if commit is not None and not commit.done():
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)


async def abort_all(tasks: Iterable[Task]) -> None:
    """Abort what a stopped worker's tasks have open, within seconds. Raises nothing.

    Left to its time-out, an open transaction holds up all who read what is committed until then.
    """
    await asyncio.gather(*(_abort(task) for task in tasks if task.config.exactly_once))


async def _abort(task: Task) -> None:
    await _cancel(task.commit)
    if task.producer is None:
        return
    try:
        async with asyncio.timeout(_ABORT_TIMEOUT_S):
            await task.producer.abort()
    except Exception as error:  # noqa: BLE001 - the worker stops for another reason, which is told
        log.warning("%s: not aborted (%s): Kafka does it later", task.id, text_of(error))


async def close_task(task: Task) -> None:
    """Close a task that has nothing in flight: producer and store."""
    if task.producer is not None:
        await task.producer.close()
        task.producer = None
    task.close()
