"""The one broker that all systems work on, the input in it, and what is seen of both from outside."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError

from bench.oracle import Oracle
from bench.orders import Orders
from bench.results import Input
from bench.work import ORDERS, OUTPUTS
from demo.generator import partition_of
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.errors import HeadraceError

_FOR_EVER: Final = {"retention.ms": "-1"}
_BATCH_BYTES: Final = 256 * 1024
_MOST_IN_FLIGHT: Final = 64
_POLL_S: Final = 0.05
_GONE_TIMEOUT_S: Final = 30.0
_READ_TIMEOUT_S: Final = 120.0
_SEED: Final = 6

BROKER: Final = {
    # What is written stays as it was written, so that the logs' sizes tell who sent how much.
    "log.cleaner.backoff.ms": "86400000",
    "log.segment.delete.delay.ms": "1000",
    # 10 s by default: what somebody died over holds up readers for less.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}
"""The broker's settings beside those of the embedded Kafka: the same for all systems."""


class Stage:
    """Use it with `async with`, on a running broker whose data lies in `data`."""

    def __init__(
        self,
        kafka: EmbeddedKafka,
        data: Path,
        *,
        inputs: Sequence[str] = (ORDERS,),
        outputs: Sequence[str] = OUTPUTS,
    ) -> None:
        self.bootstrap = kafka.bootstrap
        self.client: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap, "client_id": "bench"}
        self.partitions = 0
        self.total = 0
        self._data = data
        self._inputs = inputs
        self._outputs = outputs
        self._admin = AIOKafkaAdminClient(**self.client)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()

    @property
    def inputs(self) -> list[TopicPartition]:
        """The partitions of the inputs."""
        return [
            TopicPartition(topic, number)
            for topic in self._inputs
            for number in range(self.partitions)
        ]

    async def load(self, wanted: Input) -> Oracle:
        """Have these orders in the topic, and no other topic; return what must come of them."""
        orders = Orders(seed=_SEED, users=wanted.users, event_bytes=wanted.event_bytes)
        made = orders.history(wanted.events, round(time.time() * 1000))
        await self.fill(((ORDERS, key, value) for key, value in made), wanted.partitions)
        return await self.expected(wanted.users)

    async def fill(self, made: Iterable[tuple[str, bytes, bytes]], partitions: int) -> None:
        """Have these records in the inputs, told by topic, key and value, and no other topic."""
        await self.empty(partitions)
        async with Writer(self.client, partitions) as writer:
            for topic, key, value in made:
                await writer.write(key, value, topic)
                self.total += 1

    async def expected(self, users: int) -> Oracle:
        """Return what must come of the orders as they lie in the topic."""
        oracle = Oracle(users)
        for partition in range(self.partitions):
            async for records in self.read([ORDERS], partition):
                for record in records:
                    oracle.add(record.value)
        if oracle.total.orders != self.total:
            raise HeadraceError(
                f"{oracle.total.orders:,} orders are in the topic, {self.total:,} were written"
            )
        return oracle

    async def empty(self, partitions: int) -> None:
        """Have all topics of the work, without a record, and no others."""
        await self._delete(lambda name: not name.startswith("__"))
        self.partitions, self.total = partitions, 0
        await self._make([*self._inputs, *self._outputs])

    async def clear(self) -> None:
        """Delete all topics but the inputs, and make the outputs anew."""
        await self._delete(lambda name: not name.startswith("__") and name not in self._inputs)
        await self._make(self._outputs)

    async def committed(self, group: str) -> int:
        """Return how many records of the inputs a group has committed; 0 while there is no such group."""
        return sum((await self._offsets(group, self.inputs)).values())

    async def between(self, group: str) -> dict[str, int]:
        """Return what a group has committed of other topics than the inputs, each as a whole."""
        found: Counter[str] = Counter()
        for place, offset in (await self._offsets(group)).items():
            if place.topic not in self._inputs:
                found[place.topic] += offset
        return found

    async def is_through(self, group: str, app_id: str) -> bool:
        """Tell whether a group has done all of an application's own topics but its changelogs.

        A topic to which a transaction wrote ends with the mark of its end, which nobody needs to commit.
        """
        committed = await self._offsets(group)
        names = [t for t in await self.topics() if t.startswith(f"{app_id}-")]
        wanted = [
            TopicPartition(name, number)
            for name in names
            if not name.endswith("-changelog")
            for number in range(self.partitions)
        ]
        ends = await self._written_ends(wanted)
        return all(committed.get(place, 0) >= end - 1 for place, end in ends.items())

    async def _offsets(
        self, group: str, places: Sequence[TopicPartition] | None = None
    ) -> dict[TopicPartition, int]:
        try:
            found = await self._admin.list_consumer_group_offsets(group, partitions=places)
        except KafkaError as error:
            if error.retriable:
                return {}  # a new broker makes the groups' topic when it is first asked for one
            raise
        return {place: max(0, each.offset) for place, each in found.items()}

    async def owners(self, group: str) -> dict[int, str]:
        """Return by partition the member that has it, as the group's coordinator tells."""
        [answer] = await self._admin.describe_consumer_groups([group])
        [described] = answer.to_object()["groups"]
        return {
            partition: member["member_id"]
            for member in described["members"]
            for topic, partition in _assigned(member)
            if topic == ORDERS
        }

    def log_bytes(self) -> int:
        """Return the size of all logs but those of the inputs: what systems have sent, commits too."""
        inputs = {f"{topic}-{partition}" for topic, partition in self.inputs}
        return sum(
            _size(log)
            for log in self._data.glob("broker-0/data/*/*.log")
            if log.parent.name not in inputs and not log.parent.name.endswith("-delete")
        )

    async def read(self, topics: Sequence[str], partition: int) -> AsyncIterator[Sequence[Any]]:
        """Yield the committed records of one partition of the topics, as aiokafka has them.

        Reaching its end proves that no transaction is open there. Raises HeadraceError if that
        takes too long.
        """
        wanted = [TopicPartition(topic, partition) for topic in topics]
        ends = await self._written_ends(wanted)
        consumer = AIOKafkaConsumer(
            **self.client,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 * 1024 * 1024,
        )
        await consumer.start()
        try:
            consumer.assign(wanted)
            deadline = time.monotonic() + _READ_TIMEOUT_S
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    deadline = time.monotonic() + _READ_TIMEOUT_S
                    yield records
                if time.monotonic() > deadline:
                    raise HeadraceError(f"{', '.join(topics)} cannot be read to their end")
        finally:
            await consumer.stop()

    async def _written_ends(self, wanted: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(**self.client, isolation_level="read_uncommitted")
        await consumer.start()
        try:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
        finally:
            await consumer.stop()
        return ends

    async def topics(self) -> list[str]:
        """Return the names of all topics that are not Kafka's own."""
        return [name for name in await self._admin.list_topics() if not name.startswith("__")]

    async def _make(self, names: Iterable[str]) -> None:
        specs = [TopicSpec(name, self.partitions, _FOR_EVER) for name in names]
        await ensure_topics(self.client, specs, replication_factor=1)

    async def _delete(self, matches: Any) -> None:
        deadline = time.monotonic() + _GONE_TIMEOUT_S
        while names := [name for name in await self._admin.list_topics() if matches(name)]:
            if time.monotonic() > deadline:
                raise HeadraceError(f"Kafka does not delete {', '.join(names)}")
            await self._admin.delete_topics(names)
            await asyncio.sleep(_POLL_S)


class Writer:
    """Writes records in batches as large as they may be, or as `flush` makes them."""

    def __init__(self, client: dict[str, Any], partitions: int) -> None:
        self._producer = AIOKafkaProducer(
            **client, compression_type="lz4", max_batch_size=_BATCH_BYTES, acks="all"
        )
        self._partitions = partitions
        self._open: dict[TopicPartition, Any] = {}
        self._sent: set[asyncio.Future[Any]] = set()

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.flush()
            await self._acknowledged(0)
        await self._producer.stop()

    async def write(self, key: bytes, value: bytes, topic: str = ORDERS) -> None:
        """Add a record to its partition's batch; one that is full is sent."""
        place = TopicPartition(topic, partition_of(key, self._partitions))
        batch = self._open.get(place)
        if batch is None:
            batch = self._open[place] = self._producer.create_batch()
        if batch.append(key=key, value=value, timestamp=None) is None:
            await self._send(place)
            await self.write(key, value, topic)

    async def flush(self) -> None:
        """Send what is there, without waiting for the acknowledgement."""
        for place in list(self._open):
            await self._send(place)

    async def _send(self, place: TopicPartition) -> None:
        batch = self._open.pop(place)
        batch.close()
        sent = await self._producer.send_batch(batch, place.topic, partition=place.partition)
        self._sent.add(sent)
        await self._acknowledged(_MOST_IN_FLIGHT)

    async def _acknowledged(self, most: int) -> None:
        """Wait until at most so many batches are not acknowledged. Raises KafkaError for a lost one."""
        while len(self._sent) > most:
            done, self._sent = await asyncio.wait(self._sent, return_when=asyncio.FIRST_COMPLETED)
            for sent in done:
                sent.result()


def _assigned(member: dict[str, Any]) -> Iterable[tuple[str, int]]:
    if not member["member_assignment"]:
        return []
    assignment = ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
    return [(tp.topic, tp.partition) for tp in assignment.partitions()]


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:  # deleted just now
        return 0
