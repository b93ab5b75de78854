"""A standby: a task that another worker owns, followed on this worker's disk.

It is the task's store and nothing else: no producer, no positions in the input, no rows in memory.
It takes what everybody may read, the committed records of the changelogs, and what it has on disk
is what a restore would have there by then. So it breaks no law: the disk holds committed state
alone (law 3), and whoever takes the task does all that law 4 says, with less to read. Nobody is
answered from it (decision 0017).
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from streams.engine.catching_up import Changelogs, outdated, store_lifetime_ms
from streams.engine.clock import Clock
from streams.engine.cluster import Bounds
from streams.engine.config import EngineConfig
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


class Standby:
    """One task's store while it follows the task's changelogs; `tables` names them.

    `lifetime_ms` after it had everything, they may have forgotten rows that were removed meanwhile.
    """

    def __init__(
        self,
        task_id: str,
        store: Store,
        position: Position,
        tables: Mapping[TopicPartition, str],
        lifetime_ms: int,
    ) -> None:
        self.id = task_id
        self.store = store
        self.position = position
        self.tables = tables
        self.is_level = False
        """Whether it has been at the end of all changelogs since it was opened."""
        self.level_at_ms = position.written_at_ms
        """When it last had everything (wall time): what it writes is as old as that."""
        self.settled_at_ms = 0
        """Of what is on disk, the same."""
        self._passed_to_ms: dict[str, int] = {}
        self._lifetime_ms = lifetime_ms
        self._is_written = True

    def next_offset(self, changelog: TopicPartition) -> int:
        """Return the offset from which a changelog is read on."""
        return self.position.changelogs[self.tables[changelog]]

    def stored(self) -> int:
        """Return how far it is: the sum of its changelog offsets."""
        return sum(self.position.changelogs.values())

    def write(self, runs: Mapping[TopicPartition, Run]) -> None:
        """Write what was read. Raises StoreError.

        Not logged, and no source offsets: to whoever opens the store it is one half restored.
        """
        ends = {self.tables[tp]: run.next_offset for tp, run in runs.items()}
        changelogs = self.position.changelogs | ends
        self.position = msgspec.structs.replace(
            self.position, sources={}, changelogs=changelogs, written_at_ms=self.level_at_ms
        )
        self._is_written = False
        rows = {self.tables[tp]: run.rows() for tp, run in runs.items() if run.offsets}
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
    """Opens standbys' stores, and makes those anew that cannot be caught up."""

    def __init__(
        self, config: EngineConfig, partitions: int, clock: Clock, memory: StoreMemory
    ) -> None:
        self._config = config
        self._partitions = partitions
        self._clock = clock
        self._memory = memory

    def changelogs(self, subtopology: Subtopology, partition: int) -> dict[TopicPartition, str]:
        """Return the changelogs of a task, and the table of each."""
        return {
            TopicPartition(table.changelog(self._config.application_id), partition): table.name
            for table in subtopology.tables
        }

    def open(
        self,
        subtopology: Subtopology,
        partition: int,
        seen: Seen,
        kept: Store | None,
    ) -> Standby:
        """Open a task's store, if it is not `kept` open already. Raises StoreError."""
        task_id = subtopology.task_id(partition)
        path = self._config.data_dir / self._config.application_id / task_id
        tables = self.changelogs(subtopology, partition)
        changelogs = Changelogs(
            task_id,
            self._partitions,
            topics={table: tp for tp, table in tables.items()},
            ids={table: seen.ids.get(tp.topic, "") for tp, table in tables.items()},
            bounds=seen.bounds,
        )
        lifetime_ms = store_lifetime_ms(
            self._config, (seen.tombstones_kept_ms.get(tp.topic) for tp in tables)
        )
        now_ms = self._clock.wall_ms()
        store, position = kept, None
        try:
            store = store or Store(path, self._memory, tables=subtopology.tables)
            position = store.position()
            flaw = position and _flaw(position, changelogs, now_ms, lifetime_ms)
        except StoreCorruptError as error:
            flaw = str(error)
        except StoreError:
            _close(store)
            raise
        if flaw:
            log.warning("%s: its standby begins anew: %s", task_id, flaw)
            _close(store)
            remove(path)
            store, position = Store(path, self._memory, tables=subtopology.tables), None
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
            task=task_id,
            topics=dict(changelogs.ids),
            written_at_ms=now_ms if changelogs.has_all_of(position) else position.written_at_ms,
        )
        return Standby(task_id, store, position, tables, lifetime_ms)


def _flaw(position: Position, changelogs: Changelogs, now_ms: int, lifetime_ms: int) -> str:
    """Return why a store cannot be caught up, or nothing: taking the task would not use it either."""
    if flaw := changelogs.foreign(position) or changelogs.repartitioned(position):
        return flaw
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
