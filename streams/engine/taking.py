"""Law 4: how a task is taken. Fence, then read the committed offsets, then restore, then seek.

The order is what makes it safe: once the former owner is fenced it can commit nothing more, so the
offsets read after that are final, and so is the changelog that belongs to them.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from streams.engine import counting
from streams.engine.catching_up import FOREVER_MS, Changelogs, outdated, store_lifetime_ms
from streams.engine.changelogs import AFRESH, check_noted, look_at_changelogs
from streams.engine.cluster import Bounds, Committed
from streams.engine.errors import (
    StateMismatchError,
    StoreCorruptError,
    StoreError,
    StoreLockedError,
)
from streams.engine.failpoints import Step, reach
from streams.engine.inputs import look_at_inputs, positions, refuse_twins
from streams.engine.metrics import RESTORED_RECORDS
from streams.engine.notes import Note, Stand, noted
from streams.engine.parts import part_of
from streams.engine.progress import Restoring
from streams.engine.records import TopicPartition
from streams.engine.store import Position, Store, StoreMemory, remove
from streams.engine.task import Task

log = logging.getLogger(__name__)

_LOCK_RETRY_S = 0.05
_OLD_ENDS_S = 2.0


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
        await refuse_twins(task, committed, partitions)
        topic_ids = await look_at_inputs(task, partitions)
        changelog_ids = await look_at_changelogs(task)
        newest = noted(committed.values())
        bounds = await _bounds(task, committed, newest)
    found = positions(task, committed, bounds, topic_ids)
    check_noted(task, newest, changelog_ids, bounds)

    # 3. The state that belongs to them; nothing else, as another owner may have done it since.
    task.drop_open()
    reach(Step.TAKE_BEFORE_OPEN)
    await _open(task, memory)
    sources = {tp.topic: offset.offset for tp, offset in committed.items()}
    counting.found(task, {tp: c.offset for tp, c in committed.items()}, newest.commit)
    target = Position(partitions, {}, sources, newest.commit, task=task.id, topics=changelog_ids)
    topics = {table.name: task.changelog(table) for table in task.subtopology.tables}
    known = Changelogs(task.id, partitions, topics, changelog_ids, bounds)
    await _restore(task, memory, known, target)
    for part in task.time_bound_parts():
        part.begin_at(newest.stream_times.get(part.table.name, 0))
    for pane_part in task.pane_parts():
        if (telling := newest.telling.get(pane_part.table.name)) is not None:
            pane_part.go_on_telling(telling)
    task.begin()

    # 4. Read on from there: the caller seeks.
    task.topic_ids = topic_ids
    task.epoch.positions |= found.resets
    reach(Step.TAKE_BEFORE_SEEK)
    return found.bounds


async def _bounds(
    task: Task, committed: Mapping[TopicPartition, Committed], newest: Note
) -> dict[TopicPartition, Bounds]:
    """Return begin and end of the task's inputs and changelogs.

    They are asked for twice where offsets tell of more: a broker that was frozen, or cut off, gives
    old ends as long as it has not heard that another leads. What is still missing then is gone.
    """
    reached = {tp: at.offset for tp, at in committed.items()} | {
        task.changelog(table): newest.changelogs.get(table.name, Stand()).end
        for table in task.subtopology.tables
    }
    asked = list({*task.inputs, *reached})
    bounds = await task.cluster.bounds(asked)
    if any(offset > bounds[tp].end for tp, offset in reached.items()):
        await asyncio.sleep(_OLD_ENDS_S)
        bounds = await task.cluster.bounds(asked)
    return bounds


async def _open(task: Task, memory: StoreMemory) -> None:
    """Open the task's store, waiting a moment for a former owner on this machine to let it go.

    One that is damaged is rebuilt, once: what is damaged anew has a cause that only people can find.
    """
    rebuilt = False
    deadline = task.clock.monotonic_s() + task.config.lock_timeout_s
    while task.store is None:
        try:
            use(task, _store(task, memory))
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


async def _restore(task: Task, memory: StoreMemory, known: Changelogs, target: Position) -> None:
    """Bring the store to the committed point: read the changelogs from where it stands to their end.

    `target` is that point, but for the offsets of changelogs, which are their ends.
    """
    assert task.store is not None  # noqa: S101 - _open has just set it
    position = task.store.position() or _beginning(task, target)
    if why := known.foreign(position):
        position = _rebuilt(task, memory, target, why)
    if why := known.repartitioned(position):
        msg = f"{task.path}: {why}: keys lie elsewhere. Start afresh with another HEADRACE_APP_ID"
        raise StateMismatchError(msg)
    position = msgspec.structs.replace(position, task=task.id, topics=target.topics)
    task.position = position  # a worker that restores tells the group how far it is
    if (
        task.config.exactly_once
        and target.sources
        and (position.sources, position.commit) == (target.sources, target.commit)
    ):
        # State and offsets move together (law 2): of the same commit there is nothing to read. A
        # store half restored has no sources.
        return
    lifetime_ms = await _lifetime_ms(task, position, known)
    if why := outdated(_age_ms(task, position), lifetime_ms):
        position = _rebuilt(task, memory, target, why)
    if why := known.lost(position):
        msg = (
            f"{why} (cleanup.policy must be compact alone); nothing was changed. Bring back a "
            f"HEADRACE_DATA_DIR that reaches so far, or: {AFRESH}"
        )
        raise StateMismatchError(msg)
    position = await _read_changelogs(task, position, known)
    if outdated(_age_ms(task, position), lifetime_ms):
        position = _rebuilt(task, memory, target, "reading its changelogs took too long")
        position = await _read_changelogs(task, position, known)
        if outdated(took_ms := _age_ms(task, position), lifetime_ms):
            raise _outlived(task, took_ms, lifetime_ms)
    reach(Step.RESTORE_AFTER_READ)
    _check_offsets(task, target.sources)
    task.position = msgspec.structs.replace(
        target, changelogs=position.changelogs, written_at_ms=task.clock.wall_ms()
    )
    task.store.write({}, task.position)


async def _read_changelogs(task: Task, position: Position, known: Changelogs) -> Position:
    """Read the changelogs from a position to their ends; return the position there."""
    assert task.store is not None  # noqa: S101 - _open has set it
    for part in task.parts.values():
        part.reset()
    reach(Step.RESTORE_BEFORE_READ)
    ends = known.ends
    task.restoring = {
        name: Restoring(name, begin=position.changelogs.get(name, 0), end=end)
        for name, end in ends.items()
    }
    for name, tp in known.topics.items():
        position = await _restore_table(task, task.restoring[name], tp, position)
    task.store.flush()
    task.restoring = {}
    return msgspec.structs.replace(position, changelogs=ends)


def _age_ms(task: Task, position: Position) -> int:
    return task.clock.wall_ms() - position.written_at_ms


def _outlived(task: Task, took_ms: int, lifetime_ms: int) -> StateMismatchError:
    names = ", ".join(task.changelog(table).topic for table in task.subtopology.tables)
    return StateMismatchError(
        f"{task.id}: reading its changelogs took {took_ms / 1_000:.1f} s, and they tell of removed rows "
        f"for {lifetime_ms / 1_000:g} s alone: raise delete.retention.ms of {names}"
    )


def _beginning(task: Task, target: Position) -> Position:
    """Return the position of a store without rows.

    It stays as old as that until its restore is done: what was deleted meanwhile, and forgotten by
    the time that a restore goes on, is not found missing.
    """
    return msgspec.structs.replace(target, sources={}, commit=0, written_at_ms=task.clock.wall_ms())


def _rebuilt(task: Task, memory: StoreMemory, target: Position, why: str) -> Position:
    """Begin with an empty store; return its position."""
    assert task.store is not None  # noqa: S101 - _open has set it
    log.warning("%s: %s; it is rebuilt", task.path, why)
    use(task, _emptied(task, task.store, memory))
    return _beginning(task, target)


async def _lifetime_ms(task: Task, position: Position, known: Changelogs) -> int:
    """Return how old a store may be that is caught up: what was removed since must still be told."""
    if known.has_all_of(position):
        return FOREVER_MS
    topics = [tp.topic for tp in known.topics.values()]
    kept_ms = [await task.cluster.tombstones_kept_ms(topic) for topic in topics]
    return store_lifetime_ms(task.config, kept_ms)


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
        store.write({name: run.rows()}, position, logged=False)
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


def _check_offsets(task: Task, sources: dict[str, int]) -> None:
    """Raise StateMismatchError for rows without committed offsets: counting anew would double them."""
    store: Any = task.store
    if sources or not task.config.exactly_once:
        return
    for table in task.subtopology.tables:
        if next(iter(store.scan(table.name)), None) is not None:
            tp = task.changelog(table)
            msg = (
                f"changelog {tp.topic}-{tp.partition} has rows, but group {task.config.application_id} has "
                f"no committed offsets for {task.id} (expired or deleted): reading from the start would "
                f"count twice. Restore the offsets, or start afresh with another HEADRACE_APP_ID"
            )
            raise StateMismatchError(msg)
