"""The gauges that are worked out when somebody asks: how an engine stands."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from streams.engine.cluster import Source
from streams.engine.meters import Reading
from streams.engine.metrics import (
    CACHE_ROWS,
    HELD_BACK_RECORDS,
    LAG_RECORDS,
    LAG_SECONDS,
    OPEN_TRANSACTION_AGE,
    RESTORE_REMAINING,
    STORE_SIZE,
    TASKS,
)
from streams.engine.reads import state_of
from streams.engine.records import TopicPartition
from streams.engine.task import Task

_STATES = ("running", "taking", "restoring", "suspended")


def readings(tasks: Sequence[Task], source: Source | None, now_s: float) -> Iterator[Reading]:
    """Yield what these tasks, which read from `source`, stand at; `now_s` is monotonic."""
    states = Counter(map(state_of, tasks))
    yield from ((TASKS, (state,), states[state]) for state in _STATES)
    begun_s = [t.transaction_since_s for t in tasks if t.transaction_since_s is not None]
    yield OPEN_TRANSACTION_AGE, (), now_s - min(begun_s, default=now_s)
    rows: Counter[str] = Counter()
    for task in tasks:
        yield from _of_state(task)
        for part in task.parts.values():
            rows[part.table.name] += part.rows_in_memory
        if source is not None:
            for tp in task.inputs:
                yield from _of_input(task, tp, source)
    yield from ((CACHE_ROWS, (table,), known) for table, known in rows.items())


def _of_state(task: Task) -> Iterator[Reading]:
    for table in task.subtopology.tables:
        restoring = task.restoring.get(table.name)
        remaining = 0 if restoring is None else restoring.remaining
        yield RESTORE_REMAINING, (task.id, table.name), remaining
    if task.store is not None:
        yield STORE_SIZE, (task.id,), _size(task.path)


def _of_input(task: Task, tp: TopicPartition, source: Source) -> Iterator[Reading]:
    extent = source.extent(tp)
    if extent is None:
        return
    labels = (task.config.application_id, tp.topic, str(tp.partition))
    committed = task.position.sources.get(tp.topic, extent.position)
    yield LAG_RECORDS, labels, max(0, extent.end - committed)
    yield HELD_BACK_RECORDS, labels, max(0, extent.end - extent.stable_end)
    oldest_ms = task.oldest_ms(tp)
    lag_ms = 0 if oldest_ms is None else max(0, task.clock.wall_ms() - oldest_ms)
    yield LAG_SECONDS, labels, lag_ms / 1000


def _size(folder: Path) -> int:
    """Return the bytes of a folder's files; RocksDB may delete some of them meanwhile, and people all."""
    size = 0
    with contextlib.suppress(FileNotFoundError):
        for file in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += file.stat().st_size
    return size
