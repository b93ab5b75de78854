"""All standbys of a worker: one reader follows their changelogs, beside the worker's own tasks.

Those come first: it reads a bounded portion, writes it, and lets them work for a multiple of the
time that took. Whatever goes wrong here, they go on (decision 0017).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Final

from streams.engine.clock import Clock
from streams.engine.cluster import Cluster, Follower
from streams.engine.config import EngineConfig
from streams.engine.errors import (
    KafkaUnavailableError,
    StateMismatchError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from streams.engine.failpoints import InjectedFailureError, Step, reach
from streams.engine.layout import Subtopology
from streams.engine.records import Run, TopicPartition
from streams.engine.standby import Followed, Opener, Seen, Standby
from streams.engine.store import Store, StoreMemory, discard
from streams.errors import HeadraceError

log = logging.getLogger(__name__)

_FETCH_TIMEOUT_S: Final = 0.2
_AGAIN_S: Final = 0.5
_REST_S: Final = 30.0
"""How long a task is not followed whose disk, or whose changelogs, refused something."""
_OTHERS_SHARE: Final = 3
"""How much longer than for a portion the worker's own tasks have the loop, while they have work."""


class Standbys:
    """All standbys of a worker, read by one reader."""

    def __init__(
        self,
        subtopologies: Iterable[Subtopology],
        partitions: int,
        *,
        cluster: Cluster,
        config: EngineConfig,
        clock: Clock,
        memory: StoreMemory,
        is_busy: Callable[[], bool],
    ) -> None:
        """`is_busy` tells whether the worker's own tasks have work, which goes first."""
        followed = [
            Followed.task(each, partition, config.application_id)
            for each in subtopologies
            for partition in range(partitions)
        ]
        self._parts = {each.id: each for each in followed}
        self._folder = config.data_dir / config.application_id
        self._opener = Opener(config, partitions, clock, memory)
        self._cluster = cluster
        self._clock = clock
        self._is_busy = is_busy
        self._wanted: set[str] = set()
        self._open: dict[str, Standby] = {}
        self._kept: dict[str, Store] = {}
        """Open stores of tasks that were owned until now and are to be followed."""
        self._left: dict[str, int] = {}
        """How far the stores are that had to be closed, since `follow`."""
        self._resting: dict[str, float] = {}
        """Until when tasks are not followed whose store or changelogs could not be used."""
        self._told: dict[str, str] = {}
        """Why a task is not followed, as the log has it."""
        self._looking: asyncio.Task[None] | None = None
        self._seen: dict[str, Seen] = {}
        """What the brokers tell of tasks that are to be opened."""
        self._changed = asyncio.Event()

    # -- what the engine uses -------------------------------------------------------------------

    def follow(self, task_ids: Iterable[str]) -> None:
        """Follow these tasks, and no others, from now on."""
        self._wanted = set(task_ids) & self._parts.keys()
        self._look_no_more()
        for task_id in self._open.keys() - self._wanted:
            self._open.pop(task_id).close()
        for task_id in self._kept.keys() - self._wanted:
            self._kept.pop(task_id).close()
        self._resting.clear()
        self._left.clear()
        self._changed.set()
        if self._wanted:
            log.info("follows %s", ", ".join(sorted(self._wanted)))

    def keep(self, task_id: str, store: Store | None) -> None:
        """Go on with the open store of a task that was owned until now; `follow` comes next."""
        if store is not None:
            self._kept[task_id] = store

    def release(self, task_id: str) -> Store | None:
        """Stop following a task; return its open store, for the one who takes it, if there is one."""
        self._wanted.discard(task_id)
        if task_id not in self._open:
            return self._kept.pop(task_id, None)
        reach(Step.STANDBY_BEFORE_RELEASE)
        standby = self._open.pop(task_id)
        try:
            standby.note()
        except StoreError as error:  # taking the task opens it anew, and finds out
            log.warning("%s: its standby: %s", task_id, error)
            standby.store.close()
            return None
        return standby.store

    def stored(self) -> dict[str, int]:
        """Return how far each task is that is followed."""
        return {task_id: standby.stored() for task_id, standby in self._open.items()}

    def reached(self) -> dict[str, int]:
        """Return how far the store is of each task that is followed, or was since `follow`."""
        return self._left | self.stored()

    def lags(self) -> dict[str, int]:
        """Return by how many offsets each followed task is behind the readable ends of its changelogs."""
        return {task_id: standby.lag() for task_id, standby in self._open.items()}

    def are_open(self) -> bool:
        """Tell whether everything is followed that can be now."""
        return not self._wanted or not (self._missing() or self._changed.is_set())

    def positions(self) -> dict[TopicPartition, int]:
        """Return from which offset each followed changelog is read on."""
        return {
            tp: standby.next_offset(tp) for standby in self._open.values() for tp in standby.tables
        }

    def stores(self) -> list[tuple[str, Store]]:
        """Return the open store of each task that is followed."""
        return [(task_id, standby.store) for task_id, standby in self._open.items()]

    def close(self) -> None:
        """Let go of everything; `run` must have ended."""
        self.follow(())

    async def run(self) -> None:
        """Follow, until cancelled. Whatever goes wrong, the worker's own tasks go on."""
        while True:
            try:
                await self._follow()
            except (KafkaUnavailableError, TimeoutError, InjectedFailureError) as error:
                log.warning("following: %s; trying again", str(error) or type(error).__name__)
            except StateMismatchError as error:  # begun anew, or trimmed: opening them finds which
                log.warning("following: %s", error)
                self._close_all()
            except asyncio.CancelledError as error:
                if is_called_off():
                    raise
                log.warning("following: %r; trying again", error)  # aiokafka lets out its own
            except Exception:
                log.exception(
                    "following failed; the worker's own tasks go on, and it is tried again"
                )
                self._close_all()
                await asyncio.sleep(_REST_S)
            await asyncio.sleep(_AGAIN_S)

    # -- following ------------------------------------------------------------------------------

    async def _follow(self) -> None:
        follower = self._cluster.follower()
        await follower.start()
        try:
            self._changed.set()
            while True:
                await self._follow_portion(follower)
        finally:
            self._look_no_more()
            await follower.stop()

    async def _follow_portion(self, follower: Follower) -> None:
        if self._changed.is_set() or self._is_rested():
            self._changed.clear()
            self._open_seen()
            self._look_at_missing()
            follower.read_from(self.positions())
        if not self._open:
            await self._wait_for_change()
            return
        runs = await follower.fetch(_FETCH_TIMEOUT_S)
        if self._changed.is_set():  # what was read may belong to a store that is elsewhere now
            return
        begun_s = self._clock.monotonic_s()
        for standby, read in self._by_standby(runs):
            self._guarded(standby, partial(standby.write, read))
            reach(Step.STANDBY_AFTER_RUN)
        for standby in list(self._open.values()):
            self._guarded(standby, partial(standby.hear, follower))
        took_s = self._clock.monotonic_s() - begun_s
        await asyncio.sleep(took_s * _OTHERS_SHARE if self._is_busy() else 0)

    def _by_standby(
        self, runs: Mapping[TopicPartition, Run]
    ) -> list[tuple[Standby, dict[TopicPartition, Run]]]:
        read: dict[str, dict[TopicPartition, Run]] = defaultdict(dict)
        for standby in self._open.values():
            for tp in standby.tables.keys() & runs.keys():
                read[standby.id][tp] = runs[tp]
        return [(self._open[task_id], of_task) for task_id, of_task in read.items()]

    async def _wait_for_change(self) -> None:
        try:
            async with asyncio.timeout(_AGAIN_S):
                await self._changed.wait()
        except TimeoutError:
            pass

    # -- stores ---------------------------------------------------------------------------------

    def _missing(self) -> set[str]:
        now_s = self._clock.monotonic_s()
        resting = {task_id for task_id, until_s in self._resting.items() if now_s < until_s}
        return self._wanted - self._open.keys() - resting

    def _is_rested(self) -> bool:
        return self._looking is None and bool(self._resting) and bool(self._missing())

    def _look_at_missing(self) -> None:
        """Have the brokers asked about what is not followed yet, beside what is. Raises as a Cluster does."""
        if self._looking is not None and self._looking.done():
            looked, self._looking = self._looking, None
            looked.result()
        missing = self._missing()
        if missing and self._looking is None:
            self._looking = asyncio.create_task(self._look(missing), name="looking at changelogs")
            self._looking.add_done_callback(self._has_looked)

    def _has_looked(self, looking: asyncio.Task[None]) -> None:
        if looking is self._looking:
            self._changed.set()

    def _look_no_more(self) -> None:
        """Forget what was asked: a store that is given meanwhile may stand above these ends."""
        looking, self._looking = self._looking, None
        if looking is not None and not looking.cancel() and not looking.cancelled():
            looking.exception()  # asyncio would report what nobody asks for
        self._seen = {}

    async def _look(self, task_ids: Collection[str]) -> None:
        """Ask about tasks' changelogs; each is opened when the answers are there, whatever others lack."""
        seen = self._seen
        changelogs = {task_id: [*self._parts[task_id].changelogs] for task_id in task_ids}
        names = {tp.topic for of_task in changelogs.values() for tp in of_task}
        topics = await self._cluster.topics(sorted(names))
        ids = {name: topic.topic_id for name, topic in topics.items()}
        kept_ms = {name: await self._cluster.tombstones_kept_ms(name) for name in topics}

        async def look(task_id: str) -> None:
            of_task = changelogs[task_id]
            if unknown := {tp.topic for tp in of_task} - topics.keys():
                self._rest(task_id, f"no broker knows changelog {min(unknown)}")
                return
            try:
                bounds = await self._cluster.bounds(of_task)
            except (KafkaUnavailableError, TimeoutError, HeadraceError) as error:
                self._rest(task_id, str(error) or type(error).__name__)
            else:
                seen[task_id] = Seen(bounds, ids, kept_ms)
                self._changed.set()

        await asyncio.gather(*map(look, sorted(task_ids)))

    def _open_seen(self) -> None:
        """Open what is to be followed and is not yet, as far as its changelogs are known."""
        for task_id in sorted(self._seen.keys() & self._missing()):
            seen = self._seen.pop(task_id)
            try:
                reach(Step.STANDBY_BEFORE_OPEN)
                kept = self._kept.pop(task_id, None)
                path = self._folder / task_id
                self._open[task_id] = self._opener.open(self._parts[task_id], path, seen, kept)
                self._resting.pop(task_id, None)
                self._told.pop(task_id, None)
            except StoreLockedError:  # its former owner on this disk closes it in a moment
                log.debug("%s: its folder is still held; it is followed later", task_id)
                self._resting[task_id] = self._clock.monotonic_s() + _AGAIN_S
            except StoreError as error:
                self._rest(task_id, str(error))

    def _guarded(self, standby: Standby, write: Callable[[], None]) -> None:
        """Write to a standby's store; one that fails is not followed for a while."""
        try:
            write()
        except StoreError as error:
            self._open.pop(standby.id, None)
            standby.store.close()
            self._left[standby.id] = standby.stored()
            if isinstance(error, StoreCorruptError):
                discard(standby.store.path)
                self._left[standby.id] = 0
            self._rest(standby.id, str(error))

    def _rest(self, task_id: str, why: str) -> None:
        if self._told.get(task_id) != why:
            self._told[task_id] = why
            log.warning("%s: not followed (%s); tried again each %d s", task_id, why, _REST_S)
        self._resting[task_id] = self._clock.monotonic_s() + _REST_S
        self._changed.set()

    def _close_all(self) -> None:
        self._left |= self.stored()
        for standby in self._open.values():
            standby.close()
        self._open.clear()


def is_called_off() -> bool:
    """Tell whether somebody wants the running task to end."""
    running = asyncio.current_task()
    return running is not None and running.cancelling() > 0
