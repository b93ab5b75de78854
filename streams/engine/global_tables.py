"""Global tables: all rows of tables, of every partition, on each worker whose flows look things up there.

A worker has one copy of them, in a store of its own. It takes what everybody may read, the committed
records of their changelogs, and is no part of any task: no task that looks things up there is taken before
the copy has what the changelogs had as the worker began, and what comes later is seen as soon as it
is here, whatever the time of the events that are processed (decision 0032).
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Generic, NoReturn, TypeVar

from streams.engine.clock import Clock
from streams.engine.cluster import Cluster, Follower
from streams.engine.config import EngineConfig
from streams.engine.definitions import Table, Topology
from streams.engine.errors import (
    DefinitionError,
    GlobalRestoreError,
    GlobalTableDamagedError,
    KafkaUnavailableError,
    StateMismatchError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from streams.engine.failpoints import InjectedFailureError, Step, reach
from streams.engine.following import is_called_off
from streams.engine.records import TopicPartition
from streams.engine.standby import Followed, Opener, Seen, Standby
from streams.engine.store import GLOBAL_FOLDER, Store, StoreMemory, remove
from streams.engine.table import UNREAD

V = TypeVar("V")
log = logging.getLogger(__name__)

_FETCH_TIMEOUT_S: Final = 0.2
_AGAIN_S: Final = 0.5
_TOLD_EACH_S: Final = 10.0
_NAME: Final = "global tables"


class GlobalPart(Mapping[Any, V], Generic[V]):
    """All rows of a table as rules see them: what this worker has heard of, committed rows alone."""

    __slots__ = ("_known", "_store", "table")

    def __init__(self, table: Table[V]) -> None:
        self.table = table
        self._store: Store | None = None
        self._known: dict[Any, V | None] = {}

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the key's row as this worker knows it now, or `default`."""
        row = self._known.get(key, UNREAD)
        if row is UNREAD:
            row = self._read(key)
        return default if row is None else row

    def __getitem__(self, key: Any) -> V:
        row: V | None = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __iter__(self) -> Iterator[Any]:
        try:
            for text, _ in self._opened().scan(self.table.name):
                yield self.table.key_of(text)
        except StoreCorruptError as error:  # the task's own store is not to blame
            raise GlobalTableDamagedError(str(error)) from error

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: Any, row: V) -> NoReturn:
        name = self.table.name
        msg = f"a rule writes {key!r} to table {name}, which is global: the flow that keeps it can"
        raise DefinitionError(msg)

    def use(self, store: Store | None) -> None:
        """Read from this store from now on; None: from none, until there is another."""
        self._store = store
        self._known.clear()

    def changed(self, keys: Iterable[bytes | None]) -> None:
        """Say that rows of these keys are others now."""
        for key in filter(None, keys):
            self._known.pop(self.table.key_of(key.decode()), None)

    def _read(self, key: Any) -> V | None:
        store = self._opened()
        if len(self._known) >= store.known_rows():  # what is asked for often is soon known again
            self._known.clear()
        try:
            value = store.get(self.table.name, self.table.key_text(key))
        except StoreCorruptError as error:
            raise GlobalTableDamagedError(str(error)) from error
        row = self._known[key] = None if value is None else self.table.decode(value)
        return row

    def _opened(self) -> Store:
        if self._store is None:  # no task was taken before there was one
            raise GlobalTableDamagedError(f"global table {self.table.name} is read anew")
        return self._store


class GlobalTables:
    """The global tables of a worker's flows, in one store that follows all their changelogs."""

    def __init__(
        self,
        topology: Topology,
        partitions: int,
        *,
        cluster: Cluster,
        config: EngineConfig,
        clock: Clock,
        memory: StoreMemory,
    ) -> None:
        self.parts = {table.name: GlobalPart(table) for table in topology.global_tables}
        self._followed = Followed.whole(
            _NAME, topology.global_tables, partitions, config.application_id
        )
        self._opener = Opener(config, partitions, clock, memory)
        self._cluster = cluster
        self._config = config
        self._clock = clock
        self._copy: Standby | None = None
        self._needed: Mapping[TopicPartition, int] = {}
        """To where the changelogs must be read before any task may look things up."""
        self._restored = asyncio.Event()
        self._is_rebuilt = False
        """Whether it was damaged, and has not been whole since."""
        self._to_go = 0
        """How many offsets of that were to be read yet when it was looked at last."""
        self._moved_s = self._told_s = 0.0
        """When that was another number last, and when there was a line about it."""

    async def restored(self) -> None:
        """Return when everything is here that the changelogs had as the worker began."""
        await self._restored.wait()

    def missing(self) -> dict[str, int]:
        """Return how many offsets of each table are to be read at most before tasks may begin; {}: none."""
        if self._restored.is_set():
            return {}
        to_go = dict.fromkeys(self.parts, 0)
        for tp, offset in self._behind():
            to_go[self._followed.changelogs[tp]] += self._needed[tp] - offset
        return to_go

    def lags(self) -> dict[str, int]:
        """Return by how many offsets each table is behind the readable ends of its changelogs."""
        lags = dict.fromkeys(self.parts, 0)
        if (copy := self._copy) is not None:
            for tp, end in copy.ends.items():
                lags[copy.tables[tp]] += max(0, end - copy.next_offset(tp))
        return lags

    def positions(self) -> dict[TopicPartition, int]:
        """Return from which offset each changelog is read on; {} before anything is known of them."""
        copy = self._copy
        return {} if copy is None else {tp: copy.next_offset(tp) for tp in copy.tables}

    def close(self) -> None:
        """Let go of the store: who looks things up waits from now on until there is another."""
        self._restored.clear()
        for part in self.parts.values():
            part.use(None)
        copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()

    async def run(self) -> None:
        """Follow, until cancelled. Raises HeadraceError where that cannot go on."""
        while True:
            try:
                await self._follow()
            except (KafkaUnavailableError, TimeoutError, InjectedFailureError) as error:
                log.warning("global tables: %s; trying again", str(error) or type(error).__name__)
            except StateMismatchError as error:  # begun anew, or trimmed: opening finds which
                log.warning("global tables: %s", error)
                self.close()
            except StoreCorruptError as error:
                self._throw_away(error)
            except asyncio.CancelledError as error:
                if is_called_off():
                    raise
                log.warning("global tables: %r; trying again", error)  # aiokafka lets out its own
            await asyncio.sleep(_AGAIN_S)

    def _throw_away(self, error: StoreCorruptError) -> None:
        """Have a damaged copy made anew. Raises StoreError where that was no use."""
        copy = self._copy
        self.close()
        if copy is None or self._is_rebuilt:
            msg = f"{error}; also after it was made anew: check the disk of HEADRACE_DATA_DIR"
            raise StoreError(msg) from error
        log.warning("global tables: %s; it is rebuilt", error)
        self._is_rebuilt = True
        remove(copy.store.path)

    async def _follow(self) -> None:
        follower = self._cluster.follower()
        await follower.start()
        try:
            if self._copy is None:
                self._copy = await self._open()
            follower.read_from(self.positions())
            self._moved_s = self._told_s = self._clock.monotonic_s()
            while True:
                await self._follow_portion(self._copy, follower)
        finally:
            await follower.stop()

    async def _follow_portion(self, copy: Standby, follower: Follower) -> None:
        runs = await follower.fetch(_FETCH_TIMEOUT_S)
        if copy.store.damage is not None:  # a rule's look-up found it
            raise copy.store.damage
        copy.write(runs)
        for tp, run in runs.items():
            self.parts[copy.tables[tp]].changed(run.keys)
        if runs:
            reach(Step.STANDBY_AFTER_RUN)
        copy.hear(follower)
        if not self._restored.is_set():
            self._look_how_far()
        await asyncio.sleep(0)  # a portion that is there already is fetched without a wait

    async def _open(self) -> Standby:
        """Open a store, and have the parts read from it."""
        changelogs = list(self._followed.changelogs)
        async with asyncio.timeout(self._config.take_timeout_s):
            topics = await self._cluster.topics(sorted({tp.topic for tp in changelogs}))
            if unknown := {tp.topic for tp in changelogs} - topics.keys():
                raise KafkaUnavailableError(f"no broker knows changelog {min(unknown)}")
            kept_ms = {name: await self._cluster.tombstones_kept_ms(name) for name in topics}
            bounds = await self._cluster.bounds(changelogs)
        seen = Seen(bounds, {name: topic.topic_id for name, topic in topics.items()}, kept_ms)
        folder = self._config.data_dir / self._config.application_id / GLOBAL_FOLDER
        copy = self._open_free(folder, seen)
        copy.store.begin_reads()
        for part in self.parts.values():
            part.use(copy.store)
        self._needed = dict(copy.ends)
        return copy

    def _open_free(self, folder: Path, seen: Seen) -> Standby:
        """Open the first store that no other worker on this disk uses."""
        number = 0
        while True:
            try:
                return self._opener.open(self._followed, folder / str(number), seen, None)
            except StoreLockedError:
                number += 1

    def _behind(self) -> list[tuple[TopicPartition, int]]:
        """Return the changelogs that are to be read further before tasks may begin, and where they are."""
        positions = self.positions()
        return [
            (tp, positions.get(tp, 0))
            for tp, end in self._needed.items()
            if positions.get(tp, 0) < end
        ]

    def _look_how_far(self) -> None:
        """Let tasks begin once all that is needed is here. Raises GlobalRestoreError after a long silence.

        What comes beyond that, of a partition that others write to, is no progress.
        """
        now_s = self._clock.monotonic_s()
        behind = self._behind()
        if (to_go := sum(self.missing().values())) != self._to_go:
            self._to_go, self._moved_s = to_go, now_s
        if not behind:
            log.info("global tables: %s restored", ", ".join(self.parts))
            self._restored.set()
            self._is_rebuilt = False
            return
        still_s = now_s - self._moved_s
        gives_up = still_s > self._config.global_restore_timeout_s
        if not gives_up and now_s - self._told_s < _TOLD_EACH_S:
            return
        self._told_s = now_s
        [(tp, offset), *_] = behind
        where = (
            f"changelog {tp.topic}-{tp.partition} of global table {self._followed.changelogs[tp]} is read to "
            f"{offset:,} of {self._needed[tp]:,}"
        )
        if gives_up:
            raise GlobalRestoreError(
                f"{where}, and nothing has come for {still_s:,.0f} s: has that partition a leader? No task "
                f"that looks things up in the table can begin without it; nothing is lost"
            )
        log.info("global tables: %s; tasks that look things up wait", where)
