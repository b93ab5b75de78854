"""A standby: a task that another worker owns, followed on this worker's disk.

It is the task's store and nothing else: no producer, no positions in the input, no rows in memory.
It takes what everybody may read, the committed records of the changelogs, and what it has on disk
is what a restore would have there by then. So it breaks no law: the disk holds committed state
alone (law 3), and whoever takes the task does all that law 4 says, with less to read. Nobody is
answered from it (decision 0017).
"""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.engine.catching_up import Changelogs, outdated, store_lifetime_ms
from streams.engine.clock import Clock
from streams.engine.cluster import Bounds, Follower
from streams.engine.config import EngineConfig
from streams.engine.definitions import Table
from streams.engine.errors import StoreCorruptError, StoreError
from streams.engine.layout import Subtopology
from streams.engine.records import Run, TopicPartition
from streams.engine.store import (
    IndexChanges,
    IndexEntry,
    Position,
    Store,
    StoreMemory,
    remove,
)

log = logging.getLogger(__name__)

_PASSED_AT_ONCE: Final = 5_000
_SETTLE_EACH_MS: Final = 3_600_000
"""What lies in RocksDB's buffers for so long is written: a store not written for a day is rebuilt."""


class Followed(NamedTuple):
    """What a store is a copy of: partitions of tables, and so of their changelogs."""

    id: str
    tables: tuple[Table[Any], ...]
    changelogs: Mapping[TopicPartition, str]
    """The table of each."""
    names: Mapping[TopicPartition, str]
    """What the store's position calls each."""

    @classmethod
    def task(cls, subtopology: Subtopology, partition: int, application_id: str) -> "Followed":
        """Return what a task has."""
        tables = subtopology.tables
        of = {TopicPartition(t.changelog(application_id), partition): t.name for t in tables}
        return cls(subtopology.task_id(partition), tables, of, of)

    @classmethod
    def whole(
        cls, id_: str, tables: tuple[Table[Any], ...], partitions: int, application_id: str
    ) -> "Followed":
        """Return all that there is of tables."""
        of = {
            TopicPartition(t.changelog(application_id), n): t.name
            for t in tables
            for n in range(partitions)
        }
        return cls(id_, tables, of, {tp: f"{table}-{tp.partition}" for tp, table in of.items()})


class Standby:
    """A store while it follows changelogs.

    `lifetime_ms` after it had everything, they may have forgotten rows that were removed meanwhile.
    """

    def __init__(
        self,
        followed: Followed,
        store: Store,
        position: Position,
        ends: Mapping[TopicPartition, int],
        lifetime_ms: int,
    ) -> None:
        self.id = followed.id
        self.store = store
        self.position = position
        self.tables = followed.changelogs
        self.ends = dict(ends)
        """Where its changelogs ended when Kafka told last."""
        self.is_level = False
        """Whether it has been at the end of all changelogs since it was opened."""
        self.level_at_ms = position.written_at_ms
        """When it last had everything (wall time): what it writes is as old as that."""
        self.settled_at_ms = 0
        """Of what is on disk, the same."""
        self._names = followed.names
        self._passed_to_ms: dict[str, int] = {}
        self._lifetime_ms = lifetime_ms
        self._is_written = True

    def next_offset(self, changelog: TopicPartition) -> int:
        """Return the offset from which a changelog is read on."""
        return self.position.changelogs[self._names[changelog]]

    def stored(self) -> int:
        """Return how far it is: the sum of its changelog offsets."""
        return sum(self.position.changelogs.values())

    def lag(self) -> int:
        """Return by how many offsets it is behind the readable ends of its changelogs."""
        return sum(max(0, end - self.next_offset(tp)) for tp, end in self.ends.items())

    def hear(self, follower: Follower) -> None:
        """Take note of what a fetch told of its changelogs' ends. Raises as `was_level_at` and `settle`."""
        heard = {tp: follower.heard(tp) for tp in self.tables}
        self.ends |= {tp: end.offset for tp, end in heard.items() if end is not None}
        at_ms = [end.at_ms for end in heard.values() if end is not None]
        if len(at_ms) < len(heard) or self.lag():
            return
        is_first = not self.is_level
        self.was_level_at(min(at_ms))
        if is_first:
            log.info("%s: its copy here is level", self.id)
        if self.level_at_ms - self.settled_at_ms > _SETTLE_EACH_MS:
            self.settle()

    def write(self, runs: Mapping[TopicPartition, Run]) -> None:
        """Write what was read. Raises StoreError.

        Not logged, and no source offsets: to whoever opens the store it is one half restored.
        """
        ends = {self._names[tp]: run.next_offset for tp, run in runs.items()}
        changelogs = self.position.changelogs | ends
        self.position = msgspec.structs.replace(
            self.position, sources={}, changelogs=changelogs, written_at_ms=self.level_at_ms
        )
        self._is_written = False
        found: defaultdict[str, list[Iterable[tuple[bytes, bytes | None]]]] = defaultdict(list)
        for tp, run in runs.items():
            if run.offsets:
                found[self.tables[tp]].append(run.rows())
        rows = {table: chain.from_iterable(of_table) for table, of_table in found.items()}
        if rows:
            timed = [table for table in self.store.timed if table in rows]
            index = {table: IndexChanges(passed=self._passed(table)) for table in timed}
            self.store.write(rows, self.position, logged=False, index=index)
            self._is_written = True

    def _passed(self, table: str) -> list[IndexEntry]:
        """Return what a timed table's index is to lose: its owner, who knows stream time, does without it."""
        found = self.store.stale(table, self._passed_to_ms.get(table, 0), _PASSED_AT_ONCE)
        if found:  # not from 0 the next time: what was removed takes time to pass over
            self._passed_to_ms[table] = found[-1].minute_ms
        return found

    def was_level_at(self, now_ms: int) -> None:
        """Say that it had everything at that moment: so it is not older.

        Raises StoreCorruptError if it had not for so long that it may have missed what was removed.
        """
        if (took_ms := now_ms - self.level_at_ms) > self._lifetime_ms:
            msg = f"{self.store.path} was not level for {took_ms / 1_000:g} s: removed rows may be missed"
            raise StoreCorruptError(msg)
        self.is_level = True
        self.level_at_ms = now_ms

    def note(self) -> None:
        """Have the store say how far it is, and how old. Raises StoreError."""
        if self.position.written_at_ms != self.level_at_ms:
            self.position = msgspec.structs.replace(self.position, written_at_ms=self.level_at_ms)
            self._is_written = False
        if not self._is_written:
            # Still at its owner's commit, whoever takes it flushes nothing before the next one.
            self.store.write({}, self.position, logged=bool(self.position.sources))
            self._is_written = True

    def settle(self) -> None:
        """Have everything on disk, how far it is included. Raises StoreError."""
        self.note()
        self.store.flush()
        self.settled_at_ms = self.level_at_ms

    def close(self) -> None:
        """Have everything on disk and let go of it; what a full disk refuses is in the changelog."""
        try:
            self.settle()
        except StoreError as error:
            log.warning("%s: its standby: %s", self.id, error)
        self.store.close()


class Seen(NamedTuple):
    """What the brokers tell of changelogs."""

    bounds: Mapping[TopicPartition, Bounds]
    ids: Mapping[str, str]
    """By topic: a store remembers what it was read from."""
    tombstones_kept_ms: Mapping[str, int | None]
    """By topic: no store may be older."""


class Opener:
    """Opens copies' stores, and makes those anew that cannot be caught up."""

    def __init__(
        self, config: EngineConfig, partitions: int, clock: Clock, memory: StoreMemory
    ) -> None:
        self._config = config
        self._partitions = partitions
        self._clock = clock
        self._memory = memory

    def open(self, followed: Followed, path: Path, seen: Seen, kept: Store | None) -> Standby:
        """Open a copy's store, if it is not `kept` open already. Raises StoreError."""
        changelogs = Changelogs(
            followed.id,
            self._partitions,
            topics={name: tp for tp, name in followed.names.items()},
            ids={name: seen.ids.get(tp.topic, "") for tp, name in followed.names.items()},
            bounds=seen.bounds,
        )
        lifetime_ms = store_lifetime_ms(
            self._config, (seen.tombstones_kept_ms.get(tp.topic) for tp in followed.names)
        )
        now_ms = self._clock.wall_ms()
        store, position = kept, None
        try:
            store = store or Store(path, self._memory, tables=followed.tables)
            position = store.position()
            flaw = position and _flaw(position, changelogs, now_ms, lifetime_ms)
        except StoreCorruptError as error:
            flaw = str(error)
        except StoreError:
            _close(store)
            raise
        if flaw:
            log.warning("%s: its copy begins anew: %s", followed.id, flaw)
            _close(store)
            remove(path)
            store, position = Store(path, self._memory, tables=followed.tables), None
        assert store is not None  # noqa: S101 - without one there is a flaw
        store.end_reads()
        if position is None:
            position = Position(self._partitions, written_at_ms=now_ms)
        lost = changelogs.lost(position)
        if lost:
            store.close()
            raise StoreError(lost)
        position = msgspec.structs.replace(
            position,
            changelogs=dict.fromkeys(changelogs.topics, 0) | position.changelogs,
            task=followed.id,
            topics=dict(changelogs.ids),
            written_at_ms=now_ms if changelogs.has_all_of(position) else position.written_at_ms,
        )
        ends = {tp: seen.bounds[tp].end for tp in followed.names}
        return Standby(followed, store, position, ends, lifetime_ms)


def _flaw(position: Position, changelogs: Changelogs, now_ms: int, lifetime_ms: int) -> str:
    """Return why a store cannot be caught up, or nothing: taking the task would not use it either."""
    if flaw := changelogs.foreign(position) or changelogs.repartitioned(position):
        return flaw
    left = (position.changelogs.keys() & changelogs.topics.keys()) - position.topics.keys()
    if left and position.topics:  # an earlier release told of none
        return f"it did not follow {min(left)} for a while, and has old rows of that"
    if changelogs.has_all_of(position):
        return ""
    return outdated(now_ms - position.written_at_ms, lifetime_ms)


def _close(store: Store | None) -> None:
    if store is not None:
        store.close()


def disk_name(data_dir: Path) -> str:
    """Return a name of the disk below a folder: the same to all workers that share it, to no others.

    Raises StoreError. It is told by a file that whoever comes first makes: so it is the same in
    containers that share a volume, and another one for a copy.
    """
    path = data_dir / "disk"
    try:
        with contextlib.suppress(FileExistsError):
            path.touch(exist_ok=False)
        found = path.stat()
    except OSError as error:
        msg = f"HEADRACE_DATA_DIR={data_dir}: cannot be written: {error.strerror}"
        raise StoreError(msg) from error
    return f"{found.st_ino}-{found.st_mtime_ns}"
