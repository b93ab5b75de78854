"""What runs beside the engine's loop, as asyncio tasks of the same thread."""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from streams.engine.errors import UnexpectedEndError


class Beside:
    """Takings, commits, watches: `failed` hears of an error of theirs that nobody expected."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._running: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Begin something; its error, or its being cancelled by somebody else, is told."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._running.add(task)
        return task

    def keep(self, task: asyncio.Task[Any], ended: Callable[[asyncio.Task[Any]], None]) -> None:
        """Have a task that runs end with all others; `ended` hears how it ended, whatever it was."""
        task.add_done_callback(self._running.discard)
        task.add_done_callback(ended)
        self._running.add(task)

    def call_off(self, task: asyncio.Task[Any]) -> None:
        """Cancel what was started: that it ends is no surprise then."""
        task.remove_done_callback(self._ended)
        task.cancel()

    async def call_off_all(self, tasks: Collection[asyncio.Task[Any]]) -> None:
        """Cancel tasks that were started; return when they have ended."""
        for task in tasks:
            self.call_off(task)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.difference_update(tasks)

    async def end(self) -> None:
        """Call off everything but the caller itself."""
        await self.call_off_all(self._running - {asyncio.current_task()})

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():  # aiokafka lets a CancelledError of its own out here and there
            self._failed(UnexpectedEndError(f"{task.get_name()} was cancelled from outside"))
        elif (error := task.exception()) is not None:
            self._failed(error)
