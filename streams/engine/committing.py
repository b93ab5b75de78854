"""How a task commits: one Kafka transaction, then one write to disk, in numbered steps."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeAlias

import msgspec

from streams.engine import counting
from streams.engine.cluster import Committed, Producer
from streams.engine.column_part import ChangedColumns
from streams.engine.definitions import Table
from streams.engine.epoch import Epoch
from streams.engine.errors import CommitFailedError, UnwritableRowError
from streams.engine.failpoints import Step, reach
from streams.engine.notes import note
from streams.engine.outgoing import encoded_rows
from streams.engine.records import NO_HEADERS, EncodedRow, Outgoing
from streams.engine.task import Task

Changes: TypeAlias = dict[Any, Any] | ChangedColumns
"""What an epoch changed of a table: rows by key, None deletes; or columns."""
_KEY: Final = itemgetter(0)


def start_commit(task: Task) -> asyncio.Task[None]:
    """Seal the task's epoch and begin to commit it; the next epoch grows meanwhile.

    There must be no other commit of the task in flight.
    """
    epoch, task.epoch = task.epoch, Epoch()
    sources = task.position.sources
    if not epoch.positions:  # rows that expire, and no input: committed beside the same offsets
        epoch.positions = {tp: sources[tp.topic] for tp in task.inputs if tp.topic in sources}
    for flow in task.subtopology.flows:
        for topic in flow.outputs:
            if topic.name in epoch.last:
                epoch.send_last(topic.name, flow.name)
    epoch.index = {part.table.name: part.seal_index() for part in task.fired_parts()}
    changes = {name: part.seal() for name, part in task.parts.items()}
    task.commit = asyncio.create_task(
        _commit(task, epoch, changes, note(task)), name=f"commit {task.id}"
    )
    return task.commit


def why_failed(commit: asyncio.Task[None]) -> BaseException | None:
    """Return what a commit that has ended failed with, if it did.

    Somebody who calls one off gives up its task first. One that was cancelled without that is no
    commit either: some calls of aiokafka end with a CancelledError of its own.
    """
    if commit.cancelled():
        return CommitFailedError("its commit was cancelled from outside")
    return commit.exception()


def _encoded(task: Task, table: Table[Any], changes: Changes) -> list[EncodedRow]:
    """Return changed rows as changelog and disk have them, by key. Raises UnwritableRowError.

    In the order of keys, which the store wants: whoever restores them from the changelog then sorts
    next to nothing, which takes a third of a restore otherwise.
    """
    try:
        if isinstance(changes, ChangedColumns):
            rows = changes.encoded(task.longest)
        else:
            rows = encoded_rows(table, changes, task.longest)
        return sorted(rows, key=_KEY)
    except Exception as error:
        msg = f"a row of {table.name} cannot be written: {error!r}"
        raise UnwritableRowError(msg) from error


async def _commit(task: Task, epoch: Epoch, changes: dict[str, Changes], noted: str) -> None:
    """Commit an epoch: together or not at all (law 2).

    1. Begin the transaction.
    2. Send derived events, dead letters and the last value of each changed key; await every
       acknowledgement: aiokafka's commit succeeds over a batch that was refused. Without a
       transaction the rows go last: one that remembers an event keeps it from being derived again.
    3. Then the source offsets: in flight together with sends they draw 100 ms of back-off each.
    4. End the transaction.
    5. Write the same values and their changelog offsets to disk, in one write batch (law 3).

    Raises CommitFailedError or FencedError when the outcome is not a commit, or not known; the task
    must then be taken anew, which finds out; UnwritableRowError before step 1. StoreError after
    step 4 is final for this worker.
    """
    rows = {t.name: _encoded(task, t, changes[t.name]) for t in task.subtopology.tables}
    changed: dict[str, list[Outgoing]] = {
        topic: [(key, value, NO_HEADERS) for key, value in rows[name]]
        for topic, name in _changelogs(task).items()
        if rows[name]
    }
    with counting.commit_counted(task, epoch, changed):
        try:
            async with asyncio.timeout(task.config.commit_timeout_s):
                ends = await _transact(task, epoch, changed, noted)
        except TimeoutError as error:
            msg = f"{task.id}: no end of the commit within {task.config.commit_timeout_s:g} s"
            raise CommitFailedError(msg) from error
    _write(task, epoch, rows, ends)


async def _transact(
    task: Task, epoch: Epoch, changed: dict[str, list[Outgoing]], noted: str
) -> dict[str, int]:
    """Do steps 1 to 4; return the offset behind the last record sent, by topic."""
    producer, exactly_once = task.producer, task.config.exactly_once
    assert producer is not None  # noqa: S101 - a running task has one
    outputs = {topic: records for topic, records in epoch.outputs.items() if records}
    reach(Step.COMMIT_BEFORE_BEGIN)
    if exactly_once:
        await producer.begin()
    reach(Step.COMMIT_BEFORE_SENDS)
    ends: dict[str, int] = {}
    for records in [outputs | changed] if exactly_once else [outputs, changed]:
        ends |= await _send(task, producer, records)
        counting.sent(task, records)
    reach(Step.COMMIT_BEFORE_OFFSETS)
    await producer.send_offsets(
        {tp: Committed(offset, noted) for tp, offset in epoch.positions.items()}
    )
    reach(Step.COMMIT_BEFORE_END)
    if exactly_once:
        await producer.commit()
    return ends


async def _send(
    task: Task, producer: Producer, records: Mapping[str, Sequence[Outgoing]]
) -> dict[str, int]:
    """Send records: to the task's partition number, or their keys'. Tells the ends of the former."""
    own = dict(records)
    others: defaultdict[int, dict[str, list[Outgoing]]] = defaultdict(dict)
    for topic in task.subtopology.between:
        for record in own.pop(topic.name, ()):
            key, _, _ = record
            partition = topic.partition_of(key or b"", task.position.partitions)
            others[partition].setdefault(topic.name, []).append(record)
    ends, *_ = await asyncio.gather(
        producer.send(task.partition, own),
        *(producer.send(partition, of_keys) for partition, of_keys in others.items()),
    )
    return ends


def _write(
    task: Task,
    epoch: Epoch,
    rows: dict[str, list[EncodedRow]],
    ends: dict[str, int],
) -> None:
    """Do step 5. Raises StoreError."""
    assert task.store is not None  # noqa: S101 - a running task has one
    reach(Step.COMMIT_BEFORE_DISK)
    stand = {name: ends[topic] for topic, name in _changelogs(task).items() if topic in ends}
    task.position = msgspec.structs.replace(
        task.position,
        changelogs=task.position.changelogs | stand,
        sources=task.position.sources | {tp.topic: o for tp, o in epoch.positions.items()},
        commit=task.position.commit + 1,
        written_at_ms=task.clock.wall_ms(),
    )
    task.store.write(rows, task.position, index=epoch.index)
    reach(Step.COMMIT_AFTER_DISK)
    for part in task.parts.values():
        part.committed()


def _changelogs(task: Task) -> dict[str, str]:
    """Return the table of each of the task's changelogs."""
    return {t.changelog(task.config.application_id): t.name for t in task.subtopology.tables}
