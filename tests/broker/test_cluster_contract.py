"""What a Cluster promises: one suite, for a real Kafka and for the driver's broker in memory."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.assignor import TaskGrouping
from streams.engine.cluster import (
    Bounds,
    Cluster,
    Committed,
    Extent,
    Member,
    Owner,
    Producer,
    Source,
)
from streams.engine.definitions import Topic
from streams.engine.errors import (
    CommitFailedError,
    FencedError,
    KafkaUnavailableError,
    StateMismatchError,
)
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.kafka_member import KafkaSource
from streams.engine.layout import Subtopology
from streams.engine.notes import LONGEST
from streams.engine.records import Record, TopicPartition
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from tests.waiting import DEADLINE_S, until, until_true

FETCH_S = 0.2


class Backend(Protocol):
    """One broker, and what only its operator can do."""

    async def connect(self, group: str) -> Cluster:
        """Return a new worker's connection."""

    async def make_topic(self, partitions: int = 1, name: str = "") -> str:
        """Make a topic, with a name of its own unless one is given."""

    async def delete_topic(self, name: str) -> None:
        """Delete a topic."""

    async def delete_records(self, tp: TopicPartition, before: int) -> None:
        """Make the partition begin at `before`, as retention does."""

    async def vanish(self, cluster: Cluster, source: Source) -> None:
        """Make a worker vanish, as kill -9 does; on return the group will notice."""


class InMemory:
    def __init__(self) -> None:
        self._kafka = MemoryKafka()

    async def connect(self, group: str) -> Cluster:
        return MemoryCluster(self._kafka, group, lambda: time.time_ns() // 1_000_000)

    async def make_topic(self, partitions: int = 1, name: str = "") -> str:
        name = name or f"topic-{uuid.uuid4().hex[:8]}"
        self._kafka.create_topic(name, partitions)
        return name

    async def delete_topic(self, name: str) -> None:
        self._kafka.delete_topic(name)

    async def delete_records(self, tp: TopicPartition, before: int) -> None:
        self._kafka.begins[tp] = before

    async def vanish(self, cluster: Cluster, source: Source) -> None:
        assert isinstance(cluster, MemoryCluster)
        cluster.cut()
        await self._kafka.group(cluster.group).rejoin()

    async def close(self) -> None:
        """There is nothing to close."""


class Real:
    def __init__(self, kafka: EmbeddedKafka) -> None:
        self._client = {"bootstrap_servers": kafka.bootstrap, "client_id": "test"}
        self._connected: list[KafkaCluster] = []

    async def connect(self, group: str) -> Cluster:
        options = KafkaOptions(
            client=self._client, group=group, session_timeout_ms=1_000, heartbeat_interval_ms=200,
            rebalance_timeout_ms=5_000, request_timeout_ms=10_000,
        )  # fmt: skip
        cluster = KafkaCluster(options)
        self._connected.append(cluster)
        await cluster.start()
        return cluster

    async def make_topic(self, partitions: int = 1, name: str = "") -> str:
        name = name or f"topic-{uuid.uuid4().hex[:8]}"
        spec = TopicSpec(name, partitions, {"max.message.bytes": "1048588"})
        await ensure_topics(self._client, [spec], replication_factor=1)
        return name

    async def delete_topic(self, name: str) -> None:
        admin = AIOKafkaAdminClient(**self._client)
        await admin.start()
        await admin.delete_topics([name])
        await admin.close()

    async def delete_records(self, tp: TopicPartition, before: int) -> None:
        admin = AIOKafkaAdminClient(**self._client)
        await admin.start()
        await admin.delete_records({tp: RecordsToDelete(before_offset=before)})
        await admin.close()

    async def vanish(self, cluster: Cluster, source: Source) -> None:
        assert isinstance(source, KafkaSource)
        consumer = source._consumer
        coordinator = consumer._coordinator
        for task in (coordinator._coordination_task, coordinator._heartbeat_task):
            task.cancel()
        await asyncio.gather(
            coordinator._coordination_task, coordinator._heartbeat_task, return_exceptions=True
        )
        await consumer._fetcher.close()
        await consumer._client.close()
        consumer._closed = True

    async def close(self) -> None:
        for cluster in self._connected:
            await cluster.stop()


@pytest.fixture(params=["memory", "kafka"])
async def backend(request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
    chosen: InMemory | Real
    chosen = InMemory() if request.param == "memory" else Real(request.getfixturevalue("kafka"))
    yield chosen
    await chosen.close()


@pytest.fixture
def group() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def cluster(backend: Backend, group: str) -> Cluster:
    return await backend.connect(group)


@pytest.fixture
async def tp(backend: Backend) -> TopicPartition:
    return TopicPartition(await backend.make_topic(), 0)


@pytest.fixture
async def producers(cluster: Cluster) -> AsyncIterator[Callable[..., Any]]:
    """Make started producers, and close what is left of them afterwards."""
    made: list[Producer] = []

    async def make(transactional_id: str | None) -> Producer:
        producer = cluster.producer(transactional_id)
        made.append(producer)
        await producer.start()
        return producer

    yield make
    for producer in made:
        producer.abandon()


@pytest.fixture
def txn() -> str:
    return f"txn-{uuid.uuid4().hex[:8]}"


def numbered(begin: int, end: int) -> list[Record]:
    return [Record(b"%d" % n, b"value %d" % n) for n in range(begin, end)]


async def committed_send(producer: Producer, topic: str, records: list[Record]) -> int:
    await producer.begin()
    ends = await producer.send(0, {topic: records})
    await producer.commit()
    return ends[topic]


async def everything(
    cluster: Cluster, tp: TopicPartition, end: int = 0
) -> list[tuple[int, bytes | None]]:
    """Return offset and key of what a restore would read, once it is readable up to `end`."""
    return await read(cluster, tp, await readable(cluster, tp, end))


async def readable(cluster: Cluster, tp: TopicPartition, end: int) -> Bounds:
    """Return the partition's bounds once they reach `end`: a commit is seen moments after it."""

    async def far_enough() -> Bounds | None:
        bounds = (await cluster.bounds([tp]))[tp]
        return bounds if bounds.end >= end else None

    bounds = await until(far_enough)
    assert bounds is not None
    return bounds


async def eventually_committed(
    cluster: Cluster, offsets: dict[TopicPartition, Committed], *others: TopicPartition
) -> None:
    """Return when these, and none of the others, are the group's offsets."""

    async def equal() -> bool:
        return await cluster.committed([*offsets, *others]) == offsets

    await until(equal)


async def read(
    cluster: Cluster, tp: TopicPartition, bounds: Bounds
) -> list[tuple[int, bytes | None]]:
    async with asyncio.timeout(DEADLINE_S):
        return [
            pair
            async for run in cluster.read(tp, bounds)
            for pair in zip(run.offsets, run.keys, strict=True)
        ]


# -- transactions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["send", "send_offsets", "commit"])
async def test_a_second_producer_of_the_same_id_fences_the_first_and_aborts_its_transaction(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str, step: str
) -> None:
    first = await producers(txn)
    await first.begin()
    await first.send(0, {tp.topic: numbered(0, 3)})
    second = await producers(txn)
    steps = {
        "send": lambda: first.send(0, {tp.topic: numbered(3, 4)}),
        "send_offsets": lambda: first.send_offsets({tp: Committed(7)}),
        "commit": first.commit,
    }
    with pytest.raises(FencedError):
        await steps[step]()
    end = await committed_send(second, tp.topic, numbered(10, 12))
    assert [key for _, key in await everything(cluster, tp, end)] == [b"10", b"11"]
    assert await cluster.committed([tp]) == {}


async def test_a_fenced_producer_that_begins_anew_harms_no_transaction_of_its_successor(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    first = await producers(txn)
    second = await producers(txn)
    await second.begin()
    await second.send(0, {tp.topic: numbered(0, 2)})
    with pytest.raises(FencedError):
        await committed_send(first, tp.topic, numbered(2, 4))
    assert await everything(cluster, tp) == []
    await second.commit()
    assert [key for _, key in await everything(cluster, tp, 2)] == [b"0", b"1"]


async def test_every_send_of_a_fenced_producer_is_refused_as_fenced(
    tp: TopicPartition, backend: Backend, producers: Callable[..., Any], txn: str
) -> None:
    topics = [tp.topic, await backend.make_topic(), await backend.make_topic()]
    first = await producers(txn)
    await producers(txn)

    async def transaction() -> None:
        await first.begin()
        await first.send(0, {topic: numbered(0, 1) for topic in topics})

    for _ in range(3):
        with pytest.raises(FencedError):
            await transaction()


async def test_records_and_offsets_of_a_transaction_appear_together_at_its_commit(
    cluster: Cluster,
    backend: Backend,
    tp: TopicPartition,
    producers: Callable[..., Any],
    txn: str,
) -> None:
    other = TopicPartition(await backend.make_topic(), 0)
    producer = await producers(txn)
    await producer.begin()
    ends = await producer.send(0, {tp.topic: numbered(0, 3), other.topic: numbered(3, 5)})
    await producer.send_offsets({tp: Committed(3, '{"flow":5}')})
    assert ends == {tp.topic: 3, other.topic: 2}
    assert await cluster.bounds([tp, other]) == {tp: Bounds(0, 0), other: Bounds(0, 0)}
    assert await everything(cluster, tp) == []
    assert await cluster.committed([tp]) == {}

    await producer.commit()
    assert [offset for offset, _ in await everything(cluster, tp, 3)] == [0, 1, 2]
    assert [key for _, key in await everything(cluster, other, 2)] == [b"3", b"4"]
    await eventually_committed(cluster, {tp: Committed(3, '{"flow":5}')}, other)


async def test_an_abandoned_transaction_is_over_once_its_successor_has_started(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    first = await producers(txn)
    await first.begin()
    await first.send(0, {tp.topic: numbered(0, 3)})
    await first.send_offsets({tp: Committed(3)})
    first.abandon()
    assert (await cluster.bounds([tp]))[tp] == Bounds(0, 0)
    second = await producers(txn)
    assert await cluster.committed([tp]) == {}
    end = await committed_send(second, tp.topic, numbered(5, 6))
    assert [key for _, key in await everything(cluster, tp, end)] == [b"5"]


@pytest.mark.parametrize("last", ["acknowledged", "in flight", "called off", "offsets called off"])
async def test_an_aborted_transaction_holds_up_nobody(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str, last: str
) -> None:
    first = await producers(txn)
    await first.abort()  # there is nothing to end
    await first.begin()
    await first.send(0, {tp.topic: numbered(0, 3)})
    await first.send_offsets({tp: Committed(3)})
    other = await producers(f"{txn}-other")
    end = await committed_send(other, tp.topic, numbered(5, 6))
    assert await everything(cluster, tp) == []
    sending: list[asyncio.Task[Any]] = []
    if last != "acknowledged":
        step = (
            first.send_offsets({tp: Committed(4)})
            if last == "offsets called off"
            else first.send(0, {tp.topic: numbered(3, 4)})
        )
        sending.append(asyncio.create_task(step))
        await asyncio.sleep(0)
    if last.endswith("called off"):
        sending[0].cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    await first.abort()
    await asyncio.gather(*sending, return_exceptions=True)
    assert [key for _, key in await everything(cluster, tp, end)] == [b"5"]
    assert await cluster.committed([tp]) == {}


async def test_producers_of_other_ids_are_not_fenced(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    first = await producers(txn)
    await first.begin()
    await first.send(0, {tp.topic: numbered(0, 1)})
    second = await producers(f"{txn}-other")
    await committed_send(second, tp.topic, numbered(1, 2))
    assert await everything(cluster, tp) == []  # the open one holds back what lies behind it
    await first.commit()
    assert [key for _, key in await everything(cluster, tp, 2)] == [b"0", b"1"]


async def test_send_tells_the_offset_behind_the_last_record_whatever_the_number_of_batches(
    cluster: Cluster,
    backend: Backend,
    tp: TopicPartition,
    producers: Callable[..., Any],
    txn: str,
) -> None:
    small = await backend.make_topic()
    noise = random.Random(1)  # what cannot be compressed
    large = [Record(b"%d" % n, noise.randbytes(300)) for n in range(4_000)]
    producer = await producers(txn)
    await producer.begin()
    ends = await producer.send(0, {tp.topic: large, small: numbered(0, 3)})
    assert ends == {tp.topic: 4_000, small: 3}
    assert await producer.send(0, {small: numbered(3, 4)}) == {small: 4}
    await producer.commit()
    # The end of the transaction takes an offset.
    assert await committed_send(producer, tp.topic, large[:2]) == 4_003
    keys = [key for _, key in await everything(cluster, tp, 4_003)]
    assert keys == [record.key for record in large + large[:2]]


async def test_a_record_between_the_batch_size_and_the_limit_is_sent(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    noise = random.Random(2)
    records = [Record(b"a", b"1"), Record(b"b", noise.randbytes(900_000)), Record(b"c", None)]
    assert await committed_send(await producers(txn), tp.topic, records) == 3
    assert [key for _, key in await everything(cluster, tp, 3)] == [b"a", b"b", b"c"]


async def test_a_record_above_the_brokers_limit_makes_the_send_fail_and_nothing_appears(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    producer = await producers(txn)
    await producer.begin()
    too_large = Record(b"b", random.Random(3).randbytes(1_100_000))
    with pytest.raises(CommitFailedError, match="refuses records of this size"):
        await producer.send(0, {tp.topic: [*numbered(0, 2), too_large]})
    producer.abandon()
    end = await committed_send(await producers(txn), tp.topic, numbered(5, 6))
    assert [key for _, key in await everything(cluster, tp, end)] == [b"5"]


async def test_keys_values_and_headers_may_be_null_or_empty(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    records = [
        Record(None, b"a"),
        Record(b"", b""),
        Record(b"b", None),
        Record(b"c", b"d", [("name", b"x"), ("name", b"")]),
    ]
    before_ms = time.time_ns() // 1_000_000
    await committed_send(await producers(txn), tp.topic, records)
    runs = [run async for run in cluster.read(tp, await readable(cluster, tp, 4))]
    assert [key for run in runs for key in run.keys] == [None, b"", b"b", b"c"]
    assert [value for run in runs for value in run.values] == [b"a", b"", None, b"d"]
    after_ms = time.time_ns() // 1_000_000
    assert all(before_ms <= t <= after_ms for run in runs for t in run.timestamps_ms)


async def test_sending_nothing_tells_nothing(producers: Callable[..., Any], txn: str) -> None:
    producer = await producers(txn)
    await producer.begin()
    assert await producer.send(0, {}) == {}
    await producer.commit()
    await producer.close()


# -- reading ---------------------------------------------------------------------------------------


async def test_a_read_ends_wherever_its_bound_lies_among_control_records(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    producer = await producers(txn)
    for begin in (0, 3, 6):  # offsets 0-2, control 3, 4-6, control 7, 8-10, control 11
        await committed_send(producer, tp.topic, numbered(begin, begin + 3))
    assert await readable(cluster, tp, 12) == Bounds(0, 12)
    offsets = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    for bounds in [Bounds(b, e) for b in (0, 2, 3, 4, 11, 12) for e in (3, 4, 5, 11, 12)]:
        found = [offset for offset, _ in await read(cluster, tp, bounds)]
        assert [o for o in found if o < bounds.end] == [
            o for o in offsets if bounds.begin <= o < bounds.end
        ], bounds
        assert all(o >= bounds.begin for o in found), bounds


async def test_an_empty_partition_is_read_in_no_time(cluster: Cluster, tp: TopicPartition) -> None:
    assert (await cluster.bounds([tp]))[tp] == Bounds(0, 0)
    assert await everything(cluster, tp) == []


async def test_a_read_of_nothing_but_aborted_records_finds_none_and_ends(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    for _ in range(3):
        producer = await producers(txn)
        await producer.begin()
        await producer.send(0, {tp.topic: numbered(0, 3)})
        producer.abandon()
    await producers(txn)  # on return the last one is over, too
    assert await cluster.bounds([tp]) == {tp: Bounds(0, 12)}
    assert await everything(cluster, tp) == []
    runs = [run async for run in cluster.read(tp, Bounds(0, 12))]
    assert runs[-1].next_offset == 12


async def test_aborted_records_amid_committed_ones_are_left_out(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    for begin in (0, 10, 20):
        aborting = await producers(txn)
        await aborting.begin()
        await aborting.send(0, {tp.topic: numbered(begin + 5, begin + 8)})
        await committed_send(await producers(txn), tp.topic, numbered(begin, begin + 2))
    keys = [key for _, key in await everything(cluster, tp, 21)]
    assert keys == [b"0", b"1", b"10", b"11", b"20", b"21"]


async def test_a_read_without_a_broker_says_so_and_leaves_nothing_open(
    kafka: EmbeddedKafka, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Real(kafka)
    tp = TopicPartition(await backend.make_topic(), 0)
    options = KafkaOptions(client=backend._client, group=group, request_timeout_ms=500)
    cluster = KafkaCluster(options)
    new_reader = cluster._new_reader
    made: list[Any] = []

    def reader() -> Any:
        """Return a reader whose broker is gone once it has started."""
        consumer = new_reader()
        start = consumer.start
        made.append(consumer)

        async def gone(*_args: Any, **_options: Any) -> None:
            raise kafka_errors.NodeNotReadyError

        async def started() -> None:
            await start()
            consumer._client.send = gone

        consumer.start = started
        return consumer

    monkeypatch.setattr(cluster, "_new_reader", reader)
    with pytest.raises(KafkaUnavailableError, match=r"no records within 0.5 s"):
        await read(cluster, tp, Bounds(0, 5))
    assert all(not c.connected() for m in made for c in m._client._conns.values())


async def test_a_partition_whose_beginning_is_gone_says_so_in_its_bounds(
    cluster: Cluster,
    backend: Backend,
    tp: TopicPartition,
    producers: Callable[..., Any],
    txn: str,
) -> None:
    await committed_send(await producers(txn), tp.topic, numbered(0, 5))
    await readable(cluster, tp, 6)
    await backend.delete_records(tp, 3)
    assert (await cluster.bounds([tp]))[tp] == Bounds(3, 6)
    assert [offset for offset, _ in await everything(cluster, tp)] == [3, 4]


async def test_committed_offsets_are_the_groups_own_and_carry_their_notes(
    cluster: Cluster, backend: Backend, tp: TopicPartition, producers: Callable[..., Any]
) -> None:
    never = TopicPartition(await backend.make_topic(), 0)
    producer = await producers(f"txn-{uuid.uuid4().hex[:8]}")
    for offset, note in ((0, ""), (2, "a note: é"), (5, "")):
        await producer.begin()
        await producer.send(0, {tp.topic: numbered(offset, offset + 1)})
        await producer.send_offsets({tp: Committed(offset, note)})
        await producer.commit()
        await eventually_committed(cluster, {tp: Committed(offset, note)}, never)
    other = await backend.connect(f"group-{uuid.uuid4().hex[:8]}")
    assert await other.committed([tp]) == {}


async def test_a_note_is_taken_up_to_its_longest_and_no_further(
    cluster: Cluster, tp: TopicPartition, producers: Callable[..., Any], txn: str
) -> None:
    producer = await producers(txn)
    longest = {tp: Committed(1, "n" * LONGEST)}
    await producer.begin()
    await producer.send(0, {tp.topic: numbered(0, 1)})
    await producer.send_offsets(longest)
    await producer.commit()
    await eventually_committed(cluster, longest)
    await producer.begin()
    with pytest.raises(CommitFailedError):
        await producer.send_offsets({tp: Committed(2, "n" * (LONGEST + 1))})
    assert await cluster.committed([tp]) == longest


# -- the group -------------------------------------------------------------------------------------


class Heard:
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.assigned: set[TopicPartition] = set()
        self.has = False
        self._changed = asyncio.Condition()

    async def on_revoked(self) -> None:
        await self._hear("revoked", set(), has=False)

    async def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        await self._hear("assigned", set(partitions), has=True)

    async def _hear(self, call: str, partitions: set[TopicPartition], *, has: bool) -> None:
        async with self._changed:
            self.calls.append(call)
            self.assigned, self.has = partitions, has
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(condition)


class Worker:
    """A member of the group with what it heard."""

    def __init__(self, cluster: Cluster, topics: list[str], partitions: int, web: str = "") -> None:
        self.cluster = cluster
        self.heard = Heard()
        inputs = tuple(Topic(name, (), str) for name in topics)
        self.web = web
        subtopology = Subtopology("all", (), inputs, ())
        self.grouping = TaskGrouping([subtopology], partitions, lambda: Member({}, web))
        self.source = cluster.source(topics, self.heard, self.grouping)
        self._tasks = {n: {TopicPartition(topic, n) for topic in topics} for n in range(partitions)}

    def tasks(self) -> set[int]:
        """Return the tasks that are assigned whole; there must be no part of another."""
        mine = {n for n, task in self._tasks.items() if task <= self.heard.assigned}
        assert {tp.partition for tp in self.heard.assigned} == mine
        return mine


@pytest.fixture
async def workers(backend: Backend, group: str) -> AsyncIterator[Callable[..., Any]]:
    """Make started members of the group, and stop those that are left afterwards."""
    made: list[Worker] = []

    async def make(topics: list[str], partitions: int = 1, web: str = "") -> Worker:
        worker = Worker(await backend.connect(group), topics, partitions, web)
        made.append(worker)
        await worker.source.start()
        return worker

    yield make
    for worker in made:
        await worker.source.stop()


async def settled(workers: list[Worker], tasks: set[int]) -> None:
    """Return when the tasks are shared out: each has one owner, and each worker has some."""

    def shared() -> bool:
        if not all(worker.heard.has and worker.tasks() for worker in workers):
            return False
        owned = [task for worker in workers for task in worker.tasks()]
        return sorted(owned) == sorted(tasks)

    await until_true(shared)


async def drained(source: Source, tp: TopicPartition) -> list[bytes | None]:
    """Fetch until the backlog is 0; return the keys."""
    keys: list[bytes | None] = []
    async with asyncio.timeout(DEADLINE_S):
        while source.backlog(tp):
            runs = await source.fetch([tp], FETCH_S)
            keys += [key for run in runs.values() for key in run.keys]
    return keys


async def test_members_share_whole_tasks_and_hear_of_revocation_before_assignment(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic(4), await backend.make_topic(4)]
    first = await workers(topics, 4)
    await settled([first], {0, 1, 2, 3})
    assert first.heard.calls == ["assigned"]
    second = await workers(topics, 4)
    await settled([first, second], {0, 1, 2, 3})
    assert len(first.tasks()) == len(second.tasks()) == 2
    for worker in (first, second):
        calls = worker.heard.calls
        assert calls == (["assigned", "revoked"] * len(calls))[: len(calls)]
        assert calls[-1] == "assigned"


def owned(workers: list[Worker]) -> list[Owner]:
    """Return who owns what, as it is and not as it was told."""
    return sorted(Owner(w.web, [f"all-{n}" for n in sorted(w.tasks())]) for w in workers)


async def test_every_member_hears_who_owns_what_and_where_to_ask(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic(4), await backend.make_topic(4)]
    first = await workers(topics, 4, "one:1")
    await settled([first], {0, 1, 2, 3})
    assert list(first.grouping.owners) == owned([first])
    others = [await workers(topics, 4, "two:2"), await workers(topics, 4, "")]
    everybody = [first, *others]
    await settled(everybody, {0, 1, 2, 3})
    for worker in everybody:
        assert sorted(worker.grouping.owners) == owned(everybody)


async def test_a_member_without_a_task_hears_who_has_it(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic()]
    both = [await workers(topics, 1, "one:1"), await workers(topics, 1, "two:2")]
    await until_true(lambda: all(w.heard.has and len(w.grouping.owners) == 2 for w in both))
    for worker in both:
        assert sorted(worker.grouping.owners) == owned(both)


async def test_a_member_too_many_is_told_that_it_has_nothing(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic()]
    first, second = await workers(topics), await workers(topics)

    def shared() -> bool:
        return (first.heard.has, second.heard.has) == (True, True) and len(
            first.heard.assigned | second.heard.assigned
        ) == 1

    await until_true(shared)
    assert {len(first.heard.assigned), len(second.heard.assigned)} == {0, 1}


async def test_an_assignment_begins_paused_and_reads_on_from_where_it_is_told_to(
    backend: Backend, workers: Callable[..., Any], producers: Callable[..., Any], txn: str
) -> None:
    topics = [await backend.make_topic(), await backend.make_topic()]
    one, other = (TopicPartition(topic, 0) for topic in topics)
    producer = await producers(txn)
    for topic in topics:
        await committed_send(producer, topic, numbered(0, 5))
    worker = await workers(topics)
    await settled([worker], {0})
    assert await worker.source.fetch([one, other], FETCH_S) == {}

    worker.source.seek(one, 2, 6)
    assert worker.source.backlog(one) == 4
    assert await worker.source.fetch([one, other], FETCH_S) == {}  # still paused
    worker.source.resume([one])
    assert await drained(worker.source, one) == [b"2", b"3", b"4"]
    assert await worker.source.fetch([one, other], FETCH_S) == {}

    worker.source.seek(other, 0, 6)
    worker.source.resume([other])
    assert await worker.source.fetch([one], FETCH_S) == {}  # nobody asked for the other one
    assert await drained(worker.source, other) == [b"%d" % n for n in range(5)]

    worker.source.pause([one])
    await committed_send(producer, one.topic, numbered(5, 7))
    assert await worker.source.fetch([one, other], FETCH_S) == {}
    await readable(worker.cluster, one, 9)
    worker.source.seek(one, 6, 9)
    worker.source.resume([one])
    assert await drained(worker.source, one) == [b"5", b"6"]


async def test_positions_pass_control_records_and_aborted_ones_until_no_backlog_is_left(
    tp: TopicPartition,
    cluster: Cluster,
    workers: Callable[..., Any],
    producers: Callable[..., Any],
    txn: str,
) -> None:
    await committed_send(await producers(txn), tp.topic, numbered(0, 2))
    aborting = await producers(txn)
    await aborting.begin()
    await aborting.send(0, {tp.topic: numbered(5, 8)})
    await producers(txn)
    end = (await readable(cluster, tp, 7)).end
    worker = await workers([tp.topic])
    await settled([worker], {0})
    worker.source.seek(tp, 0, end)
    worker.source.resume([tp])
    assert await drained(worker.source, tp) == [b"0", b"1"]
    assert worker.source.backlog(tp) == 0

    worker.source.seek(tp, end - 1, end)  # the control record alone
    assert await drained(worker.source, tp) == []


async def test_an_open_transaction_is_not_fetched_and_is_no_backlog(
    tp: TopicPartition, workers: Callable[..., Any], producers: Callable[..., Any], txn: str
) -> None:
    producer = await producers(txn)
    await committed_send(producer, tp.topic, numbered(0, 2))
    await producer.begin()
    await producer.send(0, {tp.topic: numbered(2, 4)})
    worker = await workers([tp.topic])
    await settled([worker], {0})
    worker.source.seek(tp, 0, 3)
    worker.source.resume([tp])
    assert await drained(worker.source, tp) == [b"0", b"1"]
    assert await worker.source.fetch([tp], FETCH_S) == {}
    assert worker.source.backlog(tp) == 0
    await producer.commit()
    keys: list[bytes | None] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(keys) < 2:
            runs = await worker.source.fetch([tp], FETCH_S)
            keys += [key for run in runs.values() for key in run.keys]
    assert keys == [b"2", b"3"]


async def test_fetches_tell_the_end_of_a_partition_and_what_an_open_transaction_holds_back(
    tp: TopicPartition, workers: Callable[..., Any], producers: Callable[..., Any], txn: str
) -> None:
    producer = await producers(txn)
    await committed_send(producer, tp.topic, numbered(0, 2))
    await producer.begin()
    await producer.send(0, {tp.topic: numbered(2, 4)})
    worker = await workers([tp.topic])
    await settled([worker], {0})
    assert worker.source.extent(tp) is None

    async def tells(extent: Extent) -> bool:
        await worker.source.fetch([tp], FETCH_S)
        return bool(worker.source.extent(tp) == extent)

    worker.source.seek(tp, 0, 3)
    worker.source.resume([tp])
    await until(lambda: tells(Extent(position=3, stable_end=3, end=5)))
    await producer.commit()
    await until(lambda: tells(Extent(position=6, stable_end=6, end=6)))


async def test_a_fetch_without_records_ends_in_its_time(
    tp: TopicPartition, workers: Callable[..., Any]
) -> None:
    worker = await workers([tp.topic])
    await settled([worker], {0})
    worker.source.seek(tp, 0, 0)
    worker.source.resume([tp])
    begun_s = time.monotonic()
    assert await worker.source.fetch([tp], 0.3) == {}
    assert 0.25 <= time.monotonic() - begun_s < 5


async def test_a_position_that_the_partition_does_not_hold_is_an_error_and_no_jump(
    backend: Backend,
    tp: TopicPartition,
    workers: Callable[..., Any],
    producers: Callable[..., Any],
    txn: str,
) -> None:
    await committed_send(await producers(txn), tp.topic, numbered(0, 5))
    worker = await workers([tp.topic])
    await readable(worker.cluster, tp, 6)
    await backend.delete_records(tp, 3)
    await settled([worker], {0})
    for offset in (1, 99):
        worker.source.seek(tp, offset, 6)
        worker.source.resume([tp])
        with pytest.raises(StateMismatchError, match=f"{tp.topic}-0 holds no offset {offset}:"):
            await until(lambda: worker.source.fetch([tp], FETCH_S))
    worker.source.seek(tp, 3, 6)
    assert await drained(worker.source, tp) == [b"3", b"4"]


async def test_records_below_an_offset_are_deleted_and_no_others(
    tp: TopicPartition, cluster: Cluster, producers: Callable[..., Any], txn: str
) -> None:
    await committed_send(await producers(txn), tp.topic, numbered(0, 5))
    await readable(cluster, tp, 6)
    await cluster.delete_before({tp: 3})
    assert await cluster.bounds([tp]) == {tp: Bounds(3, 6)}
    await cluster.delete_before({tp: 2})  # of an owner that was slow: nothing comes back
    assert await cluster.bounds([tp]) == {tp: Bounds(3, 6)}


async def test_a_topic_that_is_made_anew_is_another_one(backend: Backend, cluster: Cluster) -> None:
    name = await backend.make_topic(partitions=3)
    before = (await cluster.topics([name]))[name]
    assert before.partitions == 3
    assert await cluster.topics([name, "nobody-made-it"]) == {name: before}
    assert await cluster.topics(["nobody-made-it"]) == {}  # nor did asking
    await backend.delete_topic(name)
    await known(cluster, name, exists=False)
    await backend.make_topic(partitions=3, name=name)
    await known(cluster, name, exists=True)
    after = (await cluster.topics([name]))[name]
    assert after.partitions == 3
    assert after.topic_id != before.topic_id
    assert "" not in {before.topic_id, after.topic_id}


async def test_for_how_long_a_topic_tells_of_removed_keys_is_known_or_is_not(
    backend: Backend, cluster: Cluster
) -> None:
    name = await backend.make_topic()
    assert await cluster.tombstones_kept_ms(name) == 86_400_000
    assert await cluster.tombstones_kept_ms("nobody-made-it") is None


async def known(cluster: Cluster, name: str, *, exists: bool) -> None:
    async def looked() -> bool:
        return (name in await cluster.topics([name])) is exists

    await until(looked)


async def test_a_rejoin_brings_a_new_assignment_that_begins_paused(
    tp: TopicPartition, workers: Callable[..., Any], producers: Callable[..., Any], txn: str
) -> None:
    await committed_send(await producers(txn), tp.topic, numbered(0, 2))
    worker = await workers([tp.topic])
    await settled([worker], {0})
    worker.source.seek(tp, 0, 3)
    worker.source.resume([tp])
    worker.source.rejoin()
    await worker.heard.until(lambda: worker.heard.calls == ["assigned", "revoked", "assigned"])
    assert worker.heard.assigned == {tp}
    assert worker.source.backlog(tp) == 0  # positions are forgotten
    assert await worker.source.fetch([tp], FETCH_S) == {}
    worker.source.seek(tp, 0, 3)
    worker.source.resume([tp])
    assert await drained(worker.source, tp) == [b"0", b"1"]


async def joins(worker: Worker) -> list[str]:
    """Ask as an engine without work does, until the worker has its task; return what failed before."""
    failures: list[str] = []

    def has() -> bool:
        try:
            worker.source.check()
        except KafkaUnavailableError as error:
            failures.append(str(error))
        return worker.heard.has and bool(worker.tasks())

    await until_true(has)
    return failures


async def test_a_member_that_could_not_join_does_once_nothing_is_in_its_way(
    kafka: EmbeddedKafka, group: str
) -> None:
    backend = Real(kafka)
    topic = await backend.make_topic()
    other = AIOKafkaConsumer(topic, **backend._client, group_id=group)
    await other.start()
    await until_true(lambda: bool(other.assignment()))
    worker = Worker(await backend.connect(group), [topic], 1)
    await worker.source.start()

    def is_refused() -> bool:
        try:
            worker.source.check()
        except KafkaUnavailableError as error:
            return "InconsistentGroupProtocol" in str(error)
        return False

    await until_true(is_refused)
    await other.stop()
    await joins(worker)
    await worker.source.stop()
    await backend.close()


async def test_a_member_whose_heartbeats_ended_joins_anew(
    kafka: EmbeddedKafka, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Real(kafka)
    topic = await backend.make_topic()
    worker = Worker(await backend.connect(group), [topic], 1)
    await worker.source.start()
    await settled([worker], {0})
    assert isinstance(worker.source, KafkaSource)
    coordinator = worker.source._consumer._coordinator

    async def refused() -> bool:
        monkeypatch.undo()
        msg = "Unexpected exception in heartbeat task"
        raise kafka_errors.KafkaError(msg)

    monkeypatch.setattr(coordinator, "_do_heartbeat", refused)
    worker.heard.calls.clear()
    failures: list[str] = []

    def is_back() -> bool:
        try:
            worker.source.check()
        except KafkaUnavailableError as error:
            failures.append(str(error))
        return worker.heard.calls == ["revoked", "assigned"]

    await until_true(is_back)
    assert "heartbeat" in failures[0]
    for _ in range(50):  # and it stays
        worker.source.check()
        await asyncio.sleep(0.01)
    await worker.source.stop()
    await backend.close()


async def test_a_member_that_stops_leaves_at_once(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic(2)]
    first, second = await workers(topics, 2), await workers(topics, 2)
    await settled([first, second], {0, 1})
    begun_s = time.monotonic()
    await first.source.stop()
    await settled([second], {0, 1})
    assert time.monotonic() - begun_s < 0.9  # the session would end after 1 s


async def test_a_member_that_vanishes_is_replaced(
    backend: Backend, workers: Callable[..., Any]
) -> None:
    topics = [await backend.make_topic(2)]
    first, second = await workers(topics, 2), await workers(topics, 2)
    await settled([first, second], {0, 1})
    await backend.vanish(first.cluster, first.source)
    await settled([second], {0, 1})


async def test_a_producer_without_transactions_commits_the_groups_offsets_at_once(
    tp: TopicPartition, workers: Callable[..., Any]
) -> None:
    worker = await workers([tp.topic])
    await settled([worker], {0})
    producer = worker.cluster.producer(None)
    await producer.start()
    assert await producer.send(0, {tp.topic: numbered(0, 3)}) == {tp.topic: 3}
    assert [key for _, key in await everything(worker.cluster, tp)] == [b"0", b"1", b"2"]
    await producer.send_offsets({tp: Committed(2, "note")})
    assert await worker.cluster.committed([tp]) == {tp: Committed(2, "note")}
    await producer.close()
