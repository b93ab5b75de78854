"""A Kafka in memory, as far as the engine uses one: transactions, fencing, groups, read_committed.

It is the broker of the driver (streams/testing.py), and passes the same suite as a real one:
tests/broker/test_cluster_contract.py. It outlives workers; streams/memory_cluster.py is one worker's
connection to it.
"""

import asyncio
import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from streams.engine.cluster import Committed, TopicState, out_of_range
from streams.engine.errors import FencedError
from streams.engine.records import Record, Run, TopicPartition
from streams.memory_group import Group


class Outcome(Enum):
    """How a transaction ended, if it did."""

    OPEN = auto()
    COMMITTED = auto()
    ABORTED = auto()


@dataclass(slots=True, eq=False)
class Transaction:
    """What one producer has sent, and not ended yet or ended how."""

    transactional_id: str
    outcome: Outcome = Outcome.OPEN
    begins: dict[TopicPartition, int] = field(default_factory=dict)
    """The offset of its first record, by partition."""
    offsets: dict[TopicPartition, Committed] = field(default_factory=dict)


class Entry(NamedTuple):
    """A record in the log; a control record (the end of a transaction) has record None."""

    offset: int
    timestamp_ms: int
    record: Record | None
    transaction: Transaction | None


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
        self._open: dict[str, Transaction] = {}
        self._groups: dict[str, Group] = {}
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
        transaction: Transaction | None = None,
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
            aborted = entry.transaction and entry.transaction.outcome is Outcome.ABORTED
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
            self._end(self._open.pop(transactional_id), Outcome.ABORTED)
        return self._epochs[transactional_id]

    def check_epoch(self, transactional_id: str, epoch: int) -> None:
        """Raise FencedError for an epoch that is not the id's newest."""
        if self._epochs[transactional_id] != epoch:
            raise FencedError(transactional_id)

    def open(self, transaction: Transaction) -> None:
        """Hear of a transaction: that it has begun, the broker learns from its first request."""
        self._open[transaction.transactional_id] = transaction

    def commit(self, group: str, transaction: Transaction) -> None:
        """End a transaction: its records and offsets appear together."""
        self._open.pop(transaction.transactional_id, None)
        self.offsets |= {(group, tp): offset for tp, offset in transaction.offsets.items()}
        self._end(transaction, Outcome.COMMITTED)

    def abort(self, transaction: Transaction) -> None:
        """End a transaction: nothing of it appears."""
        self._open.pop(transaction.transactional_id, None)
        self._end(transaction, Outcome.ABORTED)

    def _end(self, transaction: Transaction, outcome: Outcome) -> None:
        transaction.outcome = outcome
        for tp in transaction.begins:
            self.append(tp, None, 0, None)

    def group(self, name: str) -> Group:
        """Return a consumer group."""
        return self._groups.setdefault(name, Group())
