"""Compares what must agree: local state, changelogs and committed offsets (laws 2 and 3).

It disturbs nobody: stores are opened to be read alone, also while a worker holds them, and Kafka is
only read. Each store tells at which offset of its changelogs it stands. What was changed after that
is called newer and not compared: compaction may have removed what it replaced. A store whose commit
is not the newest is behind, as one is that a crash left: no difference either.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from streams.engine.cluster import Bounds, Cluster
from streams.engine.definitions import Table, Topology
from streams.engine.errors import StoreError
from streams.engine.layout import Subtopology, subtopologies
from streams.engine.notes import noted
from streams.engine.records import TopicPartition
from streams.engine.store import Position, Store, StoreMemory

# Some ms lie between a commit's end and the moments that readers see it and that it is on disk. Looks
# are counted, not seconds: on a busy machine each takes longer, as does what they wait for. 1 s else.
_LOOKS: Final = 20
_LOOK_AGAIN_S: Final = 0.05
_LONGEST_VALUE: Final = 120


class TableReport(msgspec.Struct, kw_only=True):
    """How a task's rows on disk compare to their changelog."""

    table: str
    equal: int = 0
    """Rows that are the same in both; without state on this machine: rows in the changelog."""
    newer: int = 0
    """Keys that were changed after the point where the store stands; they are not compared."""
    differing: int = 0
    differences: list[str] = []
    """The first of them, a line each."""


class TaskReport(msgspec.Struct, kw_only=True):
    """What was found of one task."""

    task: str
    folder: str
    stored: bool
    """Whether this machine has state of the task; if not, the changelog stands for it."""
    tables: list[TableReport] = []
    offsets: dict[str, int] = {}
    """The group's committed offsets, by topic."""
    differences: list[str] = []
    """What contradicts itself beside the tables' rows, a line each."""

    @property
    def is_equal(self) -> bool:
        """Tell whether nothing differs."""
        return not self.differences and not any(table.differing for table in self.tables)


class _Committed(NamedTuple):
    """The group's committed offsets, by topic, and the number of the commit that brought them there."""

    offsets: dict[str, int]
    commit: int


async def verify(
    topology: Topology,
    cluster: Cluster,
    *,
    application_id: str,
    data_dir: Path,
    partitions: int,
    limit: int,
) -> AsyncIterator[TaskReport]:
    """Yield a report for each task, with at most `limit` differences a table told in full.

    The topics must exist. Raises what a Cluster raises.
    """
    memory = StoreMemory()
    for subtopology in subtopologies(topology):
        for partition in range(partitions):
            folder = data_dir / application_id / subtopology.task_id(partition)
            task = _Task(subtopology, partition, cluster, application_id, folder)
            yield await task.report(memory, partitions, limit)


class _Task:
    """One task, to be looked at."""

    def __init__(
        self,
        subtopology: Subtopology,
        partition: int,
        cluster: Cluster,
        application_id: str,
        folder: Path,
    ) -> None:
        self._subtopology = subtopology
        self._partition = partition
        self._cluster = cluster
        self._application_id = application_id
        self._folder = folder
        self._inputs = subtopology.partitions(partition)

    async def report(self, memory: StoreMemory, partitions: int, limit: int) -> TaskReport:
        """Compare store, changelogs and offsets; without a store, changelogs and offsets."""
        report = TaskReport(
            task=self._subtopology.task_id(self._partition),
            folder=str(self._folder),
            stored=self._folder.is_dir(),
            offsets=(await self._committed()).offsets,
        )
        if not report.stored:
            for table in self._subtopology.tables:
                fold, _ = await self._fold(table, None)
                report.tables.append(TableReport(table=table.name, equal=len(fold)))
            report.offsets = await self._offsets_of_rows(report)
            report.differences += self._rows_without_offsets(report)
        else:
            try:
                await self._compare(report, memory, partitions, limit)
            except StoreError as error:
                report.differences.append(str(error))
        report.differences += await self._impossible_offsets(report.offsets)
        return report

    async def _compare(
        self, report: TaskReport, memory: StoreMemory, partitions: int, limit: int
    ) -> None:
        store, before = await self._settled(memory)
        try:
            position = store.position() or Position(partitions=partitions)
            if position.partitions != partitions:
                report.differences.append(
                    f"the store was built from topics with {position.partitions} partitions, they "
                    f"have {partitions} now"
                )
            for table in self._subtopology.tables:
                stands_at = position.changelogs.get(table.name, 0)
                end = await self._end_from(self._changelog(table), stands_at)
                if end < stands_at:
                    report.differences.append(
                        f"{table.name}: the store stands at offset {stands_at} of its changelog, "
                        f"which ends at {end}"
                    )
                fold, newer = await self._fold(table, stands_at)
                report.tables.append(_compared(table.name, store, fold, newer, limit))
        finally:
            store.close()
        report.offsets = (await self._committed()).offsets
        # A commit that changed no row leaves nothing newer: only its number tells that it was.
        is_behind = position.commit < before.commit or any(t.newer for t in report.tables)
        report.differences += _offset_differences(
            position.sources, {} if is_behind else before.offsets, report.offsets
        )

    async def _settled(self, memory: StoreMemory) -> tuple[Store, _Committed]:
        """Open the store; return it with what was committed before.

        A running worker commits first and writes then: a moment later both agree.

        Raises StoreError.
        """
        looks = 0
        while True:
            looks += 1
            is_last = looks == _LOOKS
            before = await self._committed()
            try:
                store = Store(self._folder, memory, read_only=True)
                position = store.position() or Position(partitions=0)
            except StoreError:  # its files may change while they are opened
                if is_last:
                    raise
            else:
                after = await self._committed()
                if is_last or not _offset_differences(
                    position.sources, before.offsets, after.offsets
                ):
                    return store, before
                store.close()
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _end_from(self, changelog: TopicPartition, offset: int) -> int:
        """Return the changelog's end, once it has reached `offset` or after a moment."""
        end = 0
        for _ in range(_LOOKS):
            end = (await self._cluster.bounds([changelog]))[changelog].end
            if end >= offset:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        return end

    async def _offsets_of_rows(self, report: TaskReport) -> dict[str, int]:
        """Return the committed offsets, once there are any or after a moment; asked after the rows.

        A worker elsewhere may have begun meanwhile: its first rows are not older than its offsets.
        """
        offsets = (await self._committed()).offsets
        for _ in range(_LOOKS - 1):
            if offsets or not any(table.equal for table in report.tables):
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
            offsets = (await self._committed()).offsets
        return offsets

    async def _fold(
        self, table: Table[Any], stands_at: int | None
    ) -> tuple[dict[bytes, bytes], set[bytes]]:
        """Return the changelog's rows as of `stands_at` (None: all), and the keys changed later."""
        changelog = self._changelog(table)
        bounds: Bounds = (await self._cluster.bounds([changelog]))[changelog]
        rows: dict[bytes, bytes] = {}
        newer: set[bytes] = set()
        async for run in self._cluster.read(changelog, bounds):
            for offset, key, value in zip(run.offsets, run.keys, run.values, strict=True):
                if key is None:
                    continue
                if stands_at is not None and offset >= stands_at:
                    newer.add(key)
                elif value is None:
                    rows.pop(key, None)
                else:
                    rows[key] = value
        return rows, newer

    async def _committed(self) -> _Committed:
        found = await self._cluster.committed(self._inputs)
        offsets = {tp.topic: committed.offset for tp, committed in sorted(found.items())}
        return _Committed(offsets, noted(found.values()).commit)

    def _changelog(self, table: Table[Any]) -> TopicPartition:
        return TopicPartition(table.changelog(self._application_id), self._partition)

    def _rows_without_offsets(self, report: TaskReport) -> Iterator[str]:
        if report.offsets:
            return
        for table in report.tables:
            if table.equal:
                yield (
                    f"{table.table}: the changelog has {table.equal:,} rows, but the group "
                    f"{self._application_id} has committed no offsets: they would be counted twice"
                )

    async def _impossible_offsets(self, offsets: dict[str, int]) -> list[str]:
        bounds = await self._cluster.bounds(self._inputs)
        # What was committed meanwhile may be deleted already, of a repartition topic (decision 0031).
        newest = offsets | (await self._committed()).offsets
        return [
            f"{topic}: the committed offset {offset} lies outside of what the topic holds, "
            f"{begin} to {end}"
            for topic, offset in offsets.items()
            for begin, end in [bounds[TopicPartition(topic, self._partition)]]
            if begin > newest[topic] or offset > end
        ]


def _compared(
    table: str, store: Store, fold: dict[bytes, bytes], newer: set[bytes], limit: int
) -> TableReport:
    """Compare a table's stored rows to the fold of its changelog. Raises StoreError."""
    report = TableReport(table=table, newer=len(newer))

    def differs(key: bytes, text: str) -> None:
        report.differing += 1
        if report.differing <= limit:
            report.differences.append(f"{key.decode(errors='replace')}: {text}")

    for text_key, value in store.scan(table):
        key = text_key.encode()
        expected = fold.pop(key, None)
        if key in newer:
            continue
        if expected is None:
            differs(key, f"on disk {_shown(value)}, not in the changelog")
        elif expected != value:
            differs(key, f"on disk {_shown(value)}, in the changelog {_shown(expected)}")
        else:
            report.equal += 1
    for key, expected in fold.items():
        if key not in newer:
            differs(key, f"not on disk, in the changelog {_shown(expected)}")
    return report


def _offset_differences(
    stored: Mapping[str, int], before: Mapping[str, int], after: Mapping[str, int]
) -> list[str]:
    """Return what is wrong with a store's source offsets; a store that is being restored has none.

    They must lie between the offsets that were committed before and after the store was opened.
    """
    if not stored:
        return []
    found = []
    for topic in sorted({*stored, *before}):
        offset, committed = stored.get(topic, 0), after.get(topic, 0)
        if offset > committed:
            found.append(
                f"{topic}: the store is ahead of the committed offset: {offset}, {committed}"
            )
        elif offset < before.get(topic, 0):
            found.append(
                f"{topic}: the store has all of its changelogs, but its offset {offset} is not the "
                f"committed one, {before[topic]}"
            )
    return found


def _shown(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
