"""A Kafka in memory, as far as the engine uses one: transactions, fencing, groups, read_committed.

It is the broker of the driver (streams/testing.py), and passes the same suite as a real one:
tests/broker/test_cluster_contract.py. `MemoryKafka` is the broker and outlives workers;
`MemoryCluster` is one worker's connection to it and can be cut off at any moment.
"""

import asyncio
import itertools
import uuid
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

from streams.engine.cluster import (
    Bounds,
    Committed,
    Extent,
    Grouping,
    Heard,
    Listener,
    TopicState,
    out_of_range,
    refused_size,
)
from streams.engine.errors import CommitFailedError, FencedError
from streams.engine.notes import LONGEST
from streams.engine.records import Outgoing, Record, Run, TopicPartition


class _Outcome(Enum):
    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class _Transaction:
    transactional_id: str
    outcome: _Outcome = _Outcome.OPEN
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    """The offset of its first record, by partition."""
    offsets: dict[TopicPartition, Committed] = field(default_factory=dict)


class Entry(NamedTuple):
    """A record in the log; a control record (the end of a transaction) has record None."""

    offset: int
    timestamp_ms: int
    record: Record | None
    transaction: _Transaction | None


class MemoryKafka:
    """The broker: logs, committed offsets, transactional ids, groups."""

    def __init__(self, *, max_message_bytes: int = 1_048_588) -> None:
        self.max_message_bytes = max_message_bytes
        self.logs: dict[TopicPartition, list[Entry]] = {}
        self.begins: dict[TopicPartition, int] = {}
        self.offsets: dict[tuple[str, TopicPartition], Committed] = {}
        self.run_lengths: Iterator[int] = itertools.repeat(1_000_000)
        """How many records the next runs have at the most: where the input is cut."""
        self.delays: Iterator[int] = itertools.repeat(1)
        """How many turns of the event loop the next answers take: what may come in between."""
        self.tombstones_kept_ms: dict[str, int] = {}
        """The `delete.retention.ms` of topics: nothing is compacted here, but it may be asked for."""
        self._topic_ids: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._open: dict[str, _Transaction] = {}
        self._groups: dict[str, _Group] = {}
        self._news = asyncio.Event()

    def create_topic(self, name: str, partitions: int) -> None:
        """Make a topic, if it is not there; or give it more partitions."""
        self._topic_ids.setdefault(name, str(uuid.uuid4()))
        for partition in range(partitions):
            self.logs.setdefault(TopicPartition(name, partition), [])

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records, and every group's offsets of it."""
        del self._topic_ids[name]
        self.logs = {tp: log for tp, log in self.logs.items() if tp.topic != name}
        self.begins = {tp: begin for tp, begin in self.begins.items() if tp.topic != name}
        self.offsets = {at: found for at, found in self.offsets.items() if at[1].topic != name}

    def topic(self, name: str) -> TopicState | None:
        """Return what a topic is; None where there is none."""
        if name not in self._topic_ids:
            return None
        return TopicState(sum(tp.topic == name for tp in self.logs), self._topic_ids[name])

    def append(
        self,
        tp: TopicPartition,
        record: Record | None,
        timestamp_ms: int,
        transaction: _Transaction | None = None,
    ) -> int:
        """Append a record; return its offset."""
        log = self.logs[tp]
        log.append(Entry(len(log), timestamp_ms, record, transaction))
        news, self._news = self._news, asyncio.Event()
        news.set()
        return len(log) - 1

    def stable_end(self, tp: TopicPartition) -> int:
        """Return the offset behind the last record that a read_committed reader may see."""
        begins = [t.begins[tp] for t in self._open.values() if tp in t.begins]
        return min(begins, default=len(self.logs[tp]))

    def read(self, tp: TopicPartition, offset: int, limit: int) -> Run | None:
        """Return at most `limit` committed records from `offset` on, as one run; None at the end."""
        end = self.stable_end(tp)
        found: list[Entry] = []
        position = max(offset, self.begins.get(tp, 0))
        while position < end and len(found) < limit:
            entry = self.logs[tp][position]
            aborted = entry.transaction and entry.transaction.outcome is _Outcome.ABORTED
            if entry.record is not None and not aborted:
                found.append(entry)
            position += 1
        if position == offset:
            return None
        rows = [(e.offset, e.timestamp_ms, e.record) for e in found if e.record]
        return Run(
            position,
            [offset for offset, _, _ in rows],
            [timestamp_ms for _, timestamp_ms, _ in rows],
            [record.key for _, _, record in rows],
            [record.value for _, _, record in rows],
        )

    def check_position(self, tp: TopicPartition, offset: int) -> None:
        """Raise StateMismatchError for a position that the partition does not hold."""
        if not self.begins.get(tp, 0) <= offset <= len(self.logs[tp]):
            raise out_of_range(tp, offset)

    async def wait_for_news(self, timeout_s: float) -> None:
        """Wait until something was appended, committed or aborted."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            pass

    def fence(self, transactional_id: str) -> int:
        """Give the id a new epoch, refuse older ones and abort what they left open."""
        self._epochs[transactional_id] = self._epochs.get(transactional_id, -1) + 1
        if transactional_id in self._open:
            self._end(self._open.pop(transactional_id), _Outcome.ABORTED)
        return self._epochs[transactional_id]

    def check_epoch(self, transactional_id: str, epoch: int) -> None:
        """Raise FencedError for an epoch that is not the id's newest."""
        if self._epochs[transactional_id] != epoch:
            raise FencedError(transactional_id)

    def open(self, transaction: _Transaction) -> None:
        """Hear of a transaction: that it has begun, the broker learns from its first request."""
        self._open[transaction.transactional_id] = transaction

    def commit(self, group: str, transaction: _Transaction) -> None:
        """End a transaction: its records and offsets appear together."""
        self._open.pop(transaction.transactional_id, None)
        self.offsets |= {(group, tp): offset for tp, offset in transaction.offsets.items()}
        self._end(transaction, _Outcome.COMMITTED)

    def abort(self, transaction: _Transaction) -> None:
        """End a transaction: nothing of it appears."""
        self._open.pop(transaction.transactional_id, None)
        self._end(transaction, _Outcome.ABORTED)

    def _end(self, transaction: _Transaction, outcome: _Outcome) -> None:
        transaction.outcome = outcome
        for tp in transaction.begins:
            self.append(tp, None, 0, None)

    def group(self, name: str) -> "_Group":
        """Return a consumer group."""
        return self._groups.setdefault(name, _Group())


class _Group:
    """A consumer group with eager rebalances: everything is revoked, then everything assigned."""

    def __init__(self) -> None:
        self._members: dict[str, MemorySource] = {}
        self._numbers = itertools.count()
        self._rebalance = asyncio.Lock()

    async def join(self, source: "MemorySource") -> None:
        async with self._rebalance:
            await self._revoke()
            self._members[f"member-{next(self._numbers)}"] = source
            await self._assign()

    async def leave(self, source: "MemorySource") -> None:
        async with self._rebalance:
            left = [name for name, member in self._members.items() if member is source]
            for name in left:
                del self._members[name]
            if left:
                await self._revoke()
                await self._assign()

    async def rejoin(self, source: "MemorySource | None" = None) -> None:
        async with self._rebalance:
            if source is not None and source not in self._members.values():
                self._members[f"member-{next(self._numbers)}"] = source
            await self._revoke()
            await self._assign()

    async def evict(self, worker: "MemoryCluster") -> None:
        """Go on without a member, as after a session time-out: it does not hear of it."""
        async with self._rebalance:
            self._members = {n: m for n, m in self._members.items() if m.cluster is not worker}
            await self._revoke()
            await self._assign()

    async def _revoke(self) -> None:
        for member in self._alive():
            await self._call(member, member.revoke())

    async def _assign(self) -> None:
        members = self._alive()
        if members:
            leader = members[0]
            names = {name: m for name, m in self._members.items() if m in members}
            told = {name: member.grouping.describe() for name, member in names.items()}
            partitions, owners, standbys = leader.grouping.assign(told)
            for name, assigned in partitions.items():
                names[name].grouping.hear(owners, standbys.get(name, ()))
                await self._call(names[name], names[name].assign(assigned))

    @staticmethod
    async def _call(member: "MemorySource", callback: Coroutine[Any, Any, None]) -> None:
        # What a callback starts is the member's; what its caller starts later is not.
        caller = _CURRENT.set(member.cluster)
        try:
            await callback
        except BaseException:
            if not member.cluster.is_cut:  # a crash within the callback is the member's own
                raise
        finally:
            _CURRENT.reset(caller)

    def _alive(self) -> list["MemorySource"]:
        self._members = {n: m for n, m in self._members.items() if not m.cluster.is_cut}
        return list(self._members.values())


_CURRENT: ContextVar["MemoryCluster | None"] = ContextVar("worker", default=None)


class MemoryCluster:
    """One worker's connection. After `cut` nothing that it asks is ever answered."""

    def __init__(self, kafka: MemoryKafka, group: str, wall_ms: Callable[[], int]) -> None:
        self.kafka = kafka
        self.group = group
        self.wall_ms = wall_ms
        self.is_cut = False

    def enter(self) -> None:
        """Mark what the current asyncio task starts from now on as this worker's."""
        _CURRENT.set(self)

    def is_current(self) -> bool:
        """Tell whether the running asyncio task is this worker's."""
        return _CURRENT.get() is self

    def cut(self) -> None:
        """Cut the worker off, as its death does."""
        self.is_cut = True

    async def answered(self) -> None:
        """Return when the broker has been reached: never, once cut off."""
        for _ in range(next(self.kafka.delays)):
            await asyncio.sleep(0)
        if self.is_cut:
            await asyncio.Event().wait()

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    def producer(self, transactional_id: str | None) -> "MemoryProducer":
        """Return a new producer, not started."""
        return MemoryProducer(self, transactional_id)

    def source(
        self, topics: Collection[str], listener: Listener, grouping: Grouping
    ) -> "MemorySource":
        """Return the group's member of this process, not started."""
        del topics
        return MemorySource(self, listener, grouping)

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Return the group's committed offsets, of those partitions that have one."""
        await self.answered()
        known = self.kafka.offsets
        return {tp: known[self.group, tp] for tp in partitions if (self.group, tp) in known}

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return begin and end of each partition."""
        await self.answered()
        return {
            tp: Bounds(self.kafka.begins.get(tp, 0), self.kafka.stable_end(tp)) for tp in partitions
        }

    async def topics(self, names: Collection[str]) -> dict[str, TopicState]:
        """Return what those topics are that exist; asking makes none."""
        await self.answered()
        return {name: found for name in names if (found := self.kafka.topic(name)) is not None}

    async def tombstones_kept_ms(self, topic: str) -> int | None:
        """Return for how long a compacted topic tells of a removed key; None where nobody may know."""
        await self.answered()
        if self.kafka.topic(topic) is None:
            return None
        return self.kafka.tombstones_kept_ms.get(topic, 86_400_000)

    async def read(self, partition: TopicPartition, bounds: Bounds) -> AsyncIterator[Run]:
        """Yield the committed records from `bounds.begin` on until everything below `bounds.end` was read."""
        position = bounds.begin
        while position < bounds.end:
            await self.answered()
            run = self.kafka.read(partition, position, next(self.kafka.run_lengths))
            assert run is not None  # noqa: S101 - below the end there is something
            position = run.next_offset
            yield run

    def follower(self) -> "MemoryFollower":
        """Return a new follower, not started."""
        return MemoryFollower(self)


class MemoryFollower:
    """Reads partitions outside of the group."""

    def __init__(self, cluster: MemoryCluster) -> None:
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Connect."""
        await self._cluster.answered()

    async def stop(self) -> None:
        """Disconnect."""

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions and no others from now on, each from its offset on."""
        self._positions = dict(positions)

    async def fetch(self, timeout_s: float) -> dict[TopicPartition, Run]:
        """Return a bounded portion of what came, a run a partition; nothing after `timeout_s` without any."""
        await self._cluster.answered()
        runs = self._fetch_now()
        if not runs:
            await self._cluster.kafka.wait_for_news(timeout_s)
            runs = self._fetch_now()
        return runs

    def _fetch_now(self) -> dict[TopicPartition, Run]:
        kafka = self._cluster.kafka
        runs = {}
        for tp, position in self._positions.items():
            kafka.check_position(tp, position)
            run = kafka.read(tp, position, next(kafka.run_lengths))
            if run is not None:
                runs[tp] = run
        self._positions |= {tp: run.next_offset for tp, run in runs.items()}
        return runs

    def heard(self, partition: TopicPartition) -> Heard | None:
        """Return where a partition ended when it was last asked; None as long as it was not."""
        if partition not in self._positions:
            return None
        return Heard(self._cluster.kafka.stable_end(partition), self._cluster.wall_ms())


class MemoryProducer:
    """A task's producer."""

    def __init__(self, cluster: MemoryCluster, transactional_id: str | None) -> None:
        self._cluster = cluster
        self._kafka = cluster.kafka
        self._id = transactional_id
        self._epoch = -1
        self._transaction: _Transaction | None = None
        self._abandoned = False

    async def start(self) -> None:
        """Fence all earlier producers of the same transactional id; on return their transactions are over."""
        await self._cluster.answered()
        if self._id is not None:
            self._epoch = self._kafka.fence(self._id)

    async def begin(self) -> None:
        """Begin a transaction."""
        if self._id is not None:
            self._transaction = _Transaction(self._id)

    async def send(
        self, partition: int, records: Mapping[str, Sequence[Outgoing]]
    ) -> dict[str, int]:
        """Send records by topic; on return all are acknowledged. Tells the offset behind the last of each."""
        ends = {}
        for topic, rows in records.items():
            await self._reach()
            tp = TopicPartition(topic, partition)
            if self._transaction is not None:
                self._transaction.begins.setdefault(tp, len(self._kafka.logs[tp]))
            for record in map(Record._make, rows):
                if (
                    len(record.key or b"") + len(record.value or b"")
                    > self._kafka.max_message_bytes
                ):
                    raise refused_size(topic, rows)
                now_ms = self._cluster.wall_ms()
                ends[topic] = self._kafka.append(tp, record, now_ms, self._transaction) + 1
        return ends

    async def send_offsets(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Make the group's offsets part of the transaction; without transactions: commit them now."""
        await self._reach()
        if any(len(committed.metadata) > LONGEST for committed in offsets.values()):
            msg = f"a note of more than {LONGEST} characters is refused"
            raise CommitFailedError(msg)
        if self._transaction is not None:
            self._transaction.offsets |= offsets
        else:
            group = self._cluster.group
            self._kafka.offsets |= {(group, tp): offset for tp, offset in offsets.items()}

    async def commit(self) -> None:
        """End the transaction. If it raises, whether the commit happened is not known."""
        await self._reach()
        assert self._transaction is not None  # noqa: S101 - begun
        self._kafka.commit(self._cluster.group, self._transaction)
        self._transaction = None

    async def abort(self) -> None:
        """End an open transaction without what was sent in it."""
        if self._transaction is not None:
            await self._reach()
            self._kafka.abort(self._transaction)
            self._transaction = None

    def abandon(self) -> None:
        """Stop using this producer, now, without ending its transaction."""
        self._abandoned = True

    async def close(self) -> None:
        """Close an idle producer."""

    async def _reach(self) -> None:
        await self._cluster.answered()
        if self._abandoned:
            msg = "the producer was abandoned"
            raise CommitFailedError(msg)
        if self._id is not None:
            self._kafka.check_epoch(self._id, self._epoch)
        if self._transaction is not None:
            self._kafka.open(self._transaction)


class MemorySource:
    """A member of the group."""

    def __init__(self, cluster: MemoryCluster, listener: Listener, grouping: Grouping) -> None:
        self.cluster = cluster
        self.grouping = grouping
        self._listener = listener
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._rejoining: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Join the group; assignments arrive at the listener from now on."""
        await self.cluster.answered()
        await self._group.join(self)

    async def stop(self) -> None:
        """Leave the group."""
        await self._group.leave(self)

    async def revoke(self) -> None:
        """Take everything away (the group calls it)."""
        if self._positions or self._paused:
            await self._listener.on_revoked()

    async def assign(self, partitions: Collection[TopicPartition]) -> None:
        """Assign these and no others (the group calls it)."""
        self._positions, self._ends, self._paused = {}, {}, set(partitions)
        await self._listener.on_assigned(partitions)

    def check(self) -> None:
        """Raise nothing: joining never fails here."""

    async def fetch(
        self, partitions: Collection[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, Run]:
        """Return what came for these partitions, a run each; nothing after `timeout_s` without any."""
        await self.cluster.answered()
        runs = self._fetch_now(partitions)
        if not runs:
            await self.cluster.kafka.wait_for_news(timeout_s)
            runs = self._fetch_now(partitions)
        return runs

    def _fetch_now(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, Run]:
        kafka = self.cluster.kafka
        runs = {}
        for tp in set(partitions) & self._positions.keys() - self._paused:
            position = self._positions[tp]
            kafka.check_position(tp, position)
            run = kafka.read(tp, position, next(kafka.run_lengths))
            if run is not None:
                runs[tp] = run
                self._positions[tp] = run.next_offset
                self._ends[tp] = kafka.stable_end(tp)
        return runs

    def seek(self, partition: TopicPartition, offset: int, end: int) -> None:
        """Read on from `offset`; `end` is known to be readable already (see `backlog`)."""
        self._positions[partition] = offset
        self._ends[partition] = end

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more from these."""
        self._paused |= set(partitions)

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""
        self._paused -= set(partitions)

    def backlog(self, partition: TopicPartition) -> int:
        """Return how many offsets lie between the position and the furthest end told by a seek or fetch."""
        return max(0, self._ends.get(partition, 0) - self._positions.get(partition, 0))

    def extent(self, partition: TopicPartition) -> Extent | None:
        """Return how far a partition goes; None as long as no fetch has told."""
        position = self._positions.get(partition)
        if position is None:
            return None
        kafka = self.cluster.kafka
        return Extent(position, kafka.stable_end(partition), len(kafka.logs[partition]))

    def rejoin(self) -> None:
        """Leave the present generation and join anew."""
        task = asyncio.ensure_future(self._group.rejoin(self))
        self._rejoining.add(task)
        task.add_done_callback(self._rejoining.discard)

    @property
    def _group(self) -> _Group:
        return self.cluster.kafka.group(self.cluster.group)
