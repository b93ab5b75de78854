"""One worker's connection to the Kafka in memory; it can be cut off at any moment."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)

from streams.engine.cluster import (
    Bounds,
    Committed,
    Extent,
    Grouping,
    Heard,
    Listener,
    TopicState,
    refused_size,
)
from streams.engine.errors import CommitFailedError
from streams.engine.notes import LONGEST
from streams.engine.records import Outgoing, Record, Run, TopicPartition
from streams.memory import MemoryKafka, Transaction
from streams.memory_group import CURRENT, Group


class MemoryCluster:
    """One worker's connection. After `cut` nothing that it asks is ever answered."""

    def __init__(self, kafka: MemoryKafka, group: str, wall_ms: Callable[[], int]) -> None:
        self.kafka = kafka
        self.group = group
        self.wall_ms = wall_ms
        self.is_cut = False

    def enter(self) -> None:
        """Mark what the current asyncio task starts from now on as this worker's."""
        CURRENT.set(self)

    def is_current(self) -> bool:
        """Tell whether the running asyncio task is this worker's."""
        return CURRENT.get() is self

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

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records below these offsets, none of them beyond what may be read."""
        await self.answered()
        begins = self.kafka.begins
        begins |= {tp: max(offset, begins.get(tp, 0)) for tp, offset in offsets.items()}

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
        self._transaction: Transaction | None = None
        self._abandoned = False

    async def start(self) -> None:
        """Fence all earlier producers of the same transactional id; on return their transactions are over."""
        await self._cluster.answered()
        if self._id is not None:
            self._epoch = self._kafka.fence(self._id)

    async def begin(self) -> None:
        """Begin a transaction."""
        if self._id is not None:
            self._transaction = Transaction(self._id)

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
    def _group(self) -> Group:
        return self.cluster.kafka.group(self.cluster.group)
