"""Law 4: how a task is taken. Fence, then read the committed offsets, then restore, then seek.

The order is what makes it safe: once the former owner is fenced it can commit nothing more, so the
offsets read after that are final, and so is the changelog that belongs to them.
"""

import asyncio
import logging
from typing import Any

import msgspec

from streams.engine import counting
from streams.engine.cluster import Bounds
from streams.engine.errors import (
    StateMismatchError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from streams.engine.failpoints import Step, reach
from streams.engine.inputs import look_at_inputs, positions
from streams.engine.metrics import RESTORED_RECORDS
from streams.engine.notes import noted
from streams.engine.progress import Restoring
from streams.engine.records import TopicPartition
from streams.engine.store import Position, Store, StoreMemory, remove
from streams.engine.table import part_of
from streams.engine.task import Task

log = logging.getLogger(__name__)

_LOCK_RETRY_S = 0.05


async def take(task: Task, memory: StoreMemory, partitions: int) -> dict[TopicPartition, Bounds]:
    """Make this worker the task's only owner and its state current; return what is to be read.

    Raises StateMismatchError, StoreError (both final), or what a Cluster raises (try again).
    """
    # 1. Fence: every earlier owner's producer is refused from here on, its transaction is over.
    reach(Step.TAKE_BEFORE_FENCE)
    if task.producer is not None:
        task.producer.abandon()
    task.producer = task.cluster.producer(
        task.transactional_id if task.config.exactly_once else None
    )
    async with asyncio.timeout(task.config.take_timeout_s):
        await task.producer.start()
    reach(Step.TAKE_AFTER_FENCE)

    # 2. The committed offsets: nobody can move them now but this owner.
    async with asyncio.timeout(task.config.take_timeout_s):
        committed = await task.cluster.committed(task.inputs)
        topic_ids = await look_at_inputs(task, partitions)
        tables = task.subtopology.tables
        bounds = await task.cluster.bounds([*task.inputs, *map(task.changelog, tables)])
    found = positions(task, committed, bounds, topic_ids)

    # 3. The state that belongs to them.
    reach(Step.TAKE_BEFORE_OPEN)
    await _open(task, memory, partitions)
    sources = {tp.topic: offset.offset for tp, offset in committed.items()}
    newest = noted(committed.values())
    counting.found(task, {tp: c.offset for tp, c in committed.items()}, newest.commit)
    await _restore(
        task, memory, partitions, bounds, Position(0, sources=sources, commit=newest.commit)
    )
    for part in task.windowed_parts():
        part.begin_at(newest.stream_times.get(part.table.name, 0))

    # 4. Read on from there: the caller seeks.
    task.topic_ids = topic_ids
    task.epoch.positions |= found.resets
    reach(Step.TAKE_BEFORE_SEEK)
    return found.bounds


async def _open(task: Task, memory: StoreMemory, partitions: int) -> None:
    """Open the task's store, waiting a moment for a former owner on this machine to let it go.

    One that is damaged is rebuilt, once: what is damaged anew has a cause that only people can find.
    """
    rebuilt = False
    deadline = task.clock.monotonic_s() + task.config.lock_timeout_s
    while task.store is None:
        try:
            use(task, _usable(task, _store(task, memory), memory))
        except StoreLockedError:
            if task.clock.monotonic_s() > deadline:
                raise
            await asyncio.sleep(_LOCK_RETRY_S)
        except StoreCorruptError as error:
            if rebuilt:
                msg = f"{error}; also after it was made anew: check the disk of HEADRACE_DATA_DIR"
                raise StoreError(msg) from error
            rebuilt = True
            log.warning("%s; it is rebuilt from the changelog", error)
            remove(task.path)
    position = task.store.position()
    if position is not None and position.partitions != partitions:
        msg = (
            f"{task.path} was built from topics with {position.partitions} partitions, they have "
            f"{partitions} now: keys lie elsewhere. Start afresh with another HEADRACE_APP_ID"
        )
        raise StateMismatchError(msg)


def _usable(task: Task, store: Store, memory: StoreMemory) -> Store:
    """Return the store, emptied if it is so old that it may hold rows whose deletion is forgotten."""
    try:
        position = store.position()
    except StoreError:
        store.close()
        raise
    if position is None:
        return store
    age_ms = task.clock.wall_ms() - position.written_at_ms
    if age_ms <= task.config.state_lifetime_ms:
        return store
    log.warning("%s was last written %d h ago; it is rebuilt", task.path, age_ms // 3_600_000)
    return _emptied(task, store, memory)


def _emptied(task: Task, store: Store, memory: StoreMemory) -> Store:
    store.close()
    remove(task.path)
    return _store(task, memory)


def _store(task: Task, memory: StoreMemory) -> Store:
    return Store(task.path, memory, tables=task.subtopology.tables)


def use(task: Task, store: Store) -> None:
    """Give the task an open store, such as that of its standby."""
    store.begin_reads()
    task.store = store
    task.parts = {t.name: part_of(t, store) for t in task.subtopology.tables}


async def _restore(
    task: Task,
    memory: StoreMemory,
    partitions: int,
    bounds: dict[TopicPartition, Bounds],
    committed: Position,
) -> None:
    """Bring the store to the committed point: read the changelogs from where it stands to their end."""
    assert task.store is not None  # noqa: S101 - _open has just set it
    changelogs = {table.name: task.changelog(table) for table in task.subtopology.tables}
    position = task.store.position() or _beginning(task, partitions)
    if any(
        not bounds[tp].begin <= position.changelogs.get(name, bounds[tp].begin) <= bounds[tp].end
        for name, tp in changelogs.items()
    ):
        log.warning("%s does not belong to the changelog any more; it is rebuilt", task.path)
        use(task, _emptied(task, task.store, memory))
        position = _beginning(task, partitions)
    task.position = position  # a worker that restores tells the group how far it is
    if (
        task.config.exactly_once
        and committed.sources
        and (position.sources, position.commit) == (committed.sources, committed.commit)
    ):
        # State and offsets move together (law 2): of the same commit there is nothing to read. A
        # store half restored has no sources.
        return
    for part in task.parts.values():
        part.reset()
    reach(Step.RESTORE_BEFORE_READ)
    task.restoring = {
        name: Restoring(
            name,
            begin=max(bounds[tp].begin, position.changelogs.get(name, bounds[tp].begin)),
            end=bounds[tp].end,
        )
        for name, tp in changelogs.items()
    }
    for name, tp in changelogs.items():
        position = await _restore_table(task, task.restoring[name], tp, position)
    task.store.flush()
    task.restoring = {}
    reach(Step.RESTORE_AFTER_READ)
    _check_offsets(task, changelogs, committed.sources)
    task.position = msgspec.structs.replace(
        position,
        sources=committed.sources,
        commit=committed.commit,
        changelogs={name: bounds[tp].end for name, tp in changelogs.items()},
        written_at_ms=task.clock.wall_ms(),
    )
    task.store.write({}, task.position)


def _beginning(task: Task, partitions: int) -> Position:
    """Return the position of a store without rows.

    It stays as old as that until its restore is done: what was deleted meanwhile, and forgotten by
    the time that a restore goes on, is not found missing.
    """
    return Position(partitions=partitions, written_at_ms=task.clock.wall_ms())


async def _restore_table(
    task: Task, restoring: Restoring, changelog: TopicPartition, position: Position
) -> Position:
    store: Any = task.store
    name, now_s = restoring.table, task.clock.monotonic_s
    restoring.start(now_s())
    async for run in task.cluster.read(changelog, Bounds(restoring.begin, restoring.end)):
        position = msgspec.structs.replace(
            position, sources={}, changelogs=position.changelogs | {name: run.next_offset}
        )
        rows = (
            (key, value) for key, value in zip(run.keys, run.values, strict=True) if key is not None
        )
        store.write({name: rows}, position, logged=False)
        task.position = position
        restoring.add(run)
        task.restored_records += len(run.offsets)
        task.meters.add(RESTORED_RECORDS, len(run.offsets), task.id, name)
        if restoring.is_line_due(now_s()):
            told = restoring.so_far(now_s()), restoring.ahead(now_s())
            log.info("restoring %s of %s: %s; %s", name, task.id, *told)
        reach(Step.RESTORE_AFTER_RUN)
    if restoring.records:
        log.info("restored %s of %s: %s", name, task.id, restoring.so_far(now_s()))
    return position


def _check_offsets(
    task: Task, changelogs: dict[str, TopicPartition], sources: dict[str, int]
) -> None:
    """Raise StateMismatchError for rows without committed offsets: counting anew would double them."""
    store: Any = task.store
    if sources or not task.config.exactly_once:
        return
    for name, tp in changelogs.items():
        if next(iter(store.scan(name)), None) is not None:
            msg = (
                f"changelog {tp.topic}-{tp.partition} has rows, but group {task.config.application_id} has "
                f"no committed offsets for {task.id} (expired or deleted): reading from the start would "
                f"count twice. Restore the offsets, or start afresh with another HEADRACE_APP_ID"
            )
            raise StateMismatchError(msg)
