"""The taking of a worker's tasks, beside its loop: however often Kafka has to be asked, and anew."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from streams.engine import counting
from streams.engine.beside import Beside
from streams.engine.cluster import Bounds, Source
from streams.engine.errors import FencedError, OwnershipError
from streams.engine.giving_up import RETRIED, give_up, text_of
from streams.engine.metrics import FENCES
from streams.engine.records import TopicPartition
from streams.engine.store import StoreMemory
from streams.engine.taking import take
from streams.engine.task import State, Task

log = logging.getLogger(__name__)

_WAITS_S: Final = (0.0, 0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Before each try."""


class Takings:
    """What is being taken: each task at most once at a time."""

    def __init__(
        self,
        memory: StoreMemory,
        partitions: int,
        *,
        beside: Beside,
        turn: asyncio.Lock,
        taken: Callable[[Task], None],
        restored: Callable[[], Awaitable[None]],
    ) -> None:
        """`turn` is held while agents work; `taken` hears of each task that runs from now on.

        `restored` returns when tasks may look things up in global tables.
        """
        self._memory = memory
        self._partitions = partitions
        self._beside = beside
        self._turn = turn
        self._taken = taken
        self._restored = restored
        self._running: dict[str, asyncio.Task[None]] = {}

    def begin(self, task: Task, source: Source) -> None:
        """Begin to take a task; it reads on from `source` once it is taken."""
        task.state = State.TAKING
        work = self._keep_taking(task, source)
        self._running[task.id] = self._beside.start(work, f"take {task.id}")

    def again(self, task: Task, source: Source, error: BaseException) -> None:
        """Begin again from the committed offsets: after an abort, a time-out, an unknown outcome.

        Raises OwnershipError where somebody else has taken the task too often.
        """
        log.warning("%s: %s; it begins again at its committed offsets", task.id, text_of(error))
        give_up(task, error)
        source.pause(task.inputs)
        if isinstance(error, FencedError):
            _fenced(task, error)
            source.rejoin()  # whether the task is still ours, the group knows
        else:
            task.retakes += 1
            self.begin(task, source)

    async def call_off(self) -> None:
        """Take nothing any more; on return nothing is being taken."""
        running, self._running = list(self._running.values()), {}
        await self._beside.call_off_all(running)

    async def _keep_taking(self, task: Task, source: Source) -> None:
        """Take the task, however often Kafka has to be asked."""
        tries = task.retakes
        positions: dict[TopicPartition, Bounds] | None = None
        # A batch may still be on its way through agents though its task was given up.
        async with self._turn:
            task.rewind()
        while positions is None:
            await asyncio.sleep(_WAITS_S[min(tries, len(_WAITS_S) - 1)])
            if task.subtopology.global_tables:
                await self._restored()
            try:
                positions = await take(task, self._memory, self._partitions)
            except RETRIED as error:
                counting.failed(task, error)
                give_up(task, error)
                if isinstance(error, FencedError):
                    _fenced(task, error)
                tries += 1
                log.warning("%s: not taken (%s); trying again", task.id, text_of(error))
        for tp, (offset, end) in positions.items():
            source.seek(tp, offset, end)
        source.resume(positions)
        task.state = State.RUNNING
        log.info("%s: taken, reads on from %s", task.id, _offsets(positions))
        self._running.pop(task.id, None)
        self._taken(task)


def _fenced(task: Task, error: FencedError) -> None:
    task.fences += 1
    task.meters.add(FENCES, 1)
    if task.fences > task.config.fences_tolerated:
        msg = (
            f"{task.id} was taken away {task.fences} times by another producer with the id "
            f"{task.transactional_id}: does another application use HEADRACE_APP_ID "
            f"{task.config.application_id}?"
        )
        raise OwnershipError(msg) from error


def _offsets(positions: dict[TopicPartition, Bounds]) -> str:
    return ", ".join(f"{tp.topic} {bounds.begin}" for tp, bounds in positions.items())
