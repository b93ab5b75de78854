"""A Cluster on a real Kafka, by aiokafka, whose private parts are used here and in runs.py alone."""

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Final, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, codec
from aiokafka import errors as kafka_errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from streams.engine.cluster import Bounds, Committed, Grouping, Listener, Member, out_of_range
from streams.engine.errors import (
    CommitFailedError,
    FencedError,
    KafkaUnavailableError,
)
from streams.engine.records import Record, Run, TopicPartition
from streams.engine.runs import AS_RUNS, install, join
from streams.errors import HeadraceError

log = logging.getLogger(__name__)
T = TypeVar("T")

# With aiokafka's 16 KiB the thousands of changelog records of a commit become hundreds of batches.
_BATCH_BYTES: Final = 262_144
# aiokafka's level, 9, takes 15 times as long for 8 % less: 9 % of all the time of a worker.
_LZ4_LEVEL: Final = 1
_CLOSE_TIMEOUT_S: Final = 2.0
_ASK_AGAIN_S: Final = 0.1
# aiokafka leaves the group, and does not come back, when nothing was fetched for so long (5 min by
# default): a long restore, or a member that waits for its first task, would end it.
_MAX_POLL_INTERVAL_MS: Final = 2**31 - 1
_FENCED: Final = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
)


class KafkaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to the cluster. `client` goes to every aiokafka client: addresses, names, security."""

    client: Mapping[str, Any]
    group: str
    compression: str | None = "lz4"
    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 3_000
    rebalance_timeout_ms: int = 60_000
    instance_id: str | None = None
    request_timeout_ms: int = 15_000
    transaction_timeout_ms: int = 60_000


class KafkaCluster:
    """The cluster, as one group sees it."""

    def __init__(self, options: KafkaOptions) -> None:
        install()
        codec.lz4_encode.__defaults__ = (_LZ4_LEVEL,)
        self.options = options
        self._admin: AIOKafkaAdminClient | None = None
        self._reader: AIOKafkaConsumer | None = None
        self._source: KafkaSource | None = None

    async def start(self) -> None:
        """Connect. Raises HeadraceError, in one line, where there is nobody."""
        timeout = {"request_timeout_ms": self.options.request_timeout_ms}
        self._admin = AIOKafkaAdminClient(**self.options.client, **timeout)
        self._reader = self._new_reader()
        try:
            await self._admin.start()
            await self._reader.start()
        except kafka_errors.KafkaError as error:
            await self.stop()
            address = self.options.client["bootstrap_servers"]
            msg = f"no Kafka answers at {address} ({error}); is it running, and is KAFKA_BROKERS right?"
            raise HeadraceError(msg) from error

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await _stop(self._reader)
        if self._admin is not None:
            await self._admin.close()

    def producer(self, transactional_id: str | None) -> "KafkaProducer":
        """Return a new producer, not started."""
        return KafkaProducer(self, transactional_id)

    def source(
        self, topics: Collection[str], listener: Listener, grouping: Grouping
    ) -> "KafkaSource":
        """Return the group's member of this process, not started."""
        self._source = KafkaSource(self.options, topics, listener, grouping)
        return self._source

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Return the group's committed offsets, of those partitions that have one."""
        return await _asked(self._offsets(partitions))

    async def _offsets(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Ask the group's coordinator, which a new cluster makes when it is asked for first."""
        assert self._admin is not None  # noqa: S101 - started
        group = self.options.group
        request = OffsetFetchRequest(group, _by_topic(partitions))
        async with asyncio.timeout(self.options.request_timeout_ms / 1000):
            while True:
                try:
                    coordinator = await self._admin.find_coordinator(group)
                    return known_offsets(await self._admin._send_request(request, coordinator))  # noqa: SLF001
                except kafka_errors.KafkaError as error:
                    if not error.retriable:
                        raise
                    log.debug("asking for the offsets of %s again: %r", group, error)
                await asyncio.sleep(_ASK_AGAIN_S)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets outside any transaction (at_least_once)."""
        assert self._source is not None  # noqa: S101 - tasks come from it
        await self._source.commit(offsets)

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return begin and end of each partition."""
        assert self._reader is not None  # noqa: S101 - started
        begins = await _asked(self._reader.beginning_offsets(partitions))
        ends = await _asked(self._reader.end_offsets(partitions))
        return {tp: Bounds(begins[tp], ends[tp]) for tp in partitions}

    async def read(self, partition: TopicPartition, bounds: Bounds) -> AsyncIterator[Run]:
        """Yield the committed records from `bounds.begin` on until everything below `bounds.end` was read."""
        position = bounds.begin
        if position >= bounds.end:
            return
        reader = self._new_reader()
        await _asked(reader.start())
        try:
            reader.assign([partition])
            reader.seek(partition, position)
            while position < bounds.end:
                fetched = await reader.getmany(
                    partition, timeout_ms=self.options.request_timeout_ms
                )
                if not fetched:
                    waited_s = self.options.request_timeout_ms / 1000
                    msg = (
                        f"{partition.topic}-{partition.partition}: no records within {waited_s:g} s"
                    )
                    raise KafkaUnavailableError(msg)
                run = join(fetched[partition])
                position = run.next_offset
                yield run
        except kafka_errors.KafkaError as error:
            raise KafkaUnavailableError(_text(error)) from error
        finally:
            await _stop(reader)

    def _new_reader(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            **self.options.client,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            request_timeout_ms=self.options.request_timeout_ms,
            max_partition_fetch_bytes=4 << 20,
            fetch_max_wait_ms=100,
            value_deserializer=AS_RUNS,
        )


class KafkaProducer:
    """A task's producer."""

    def __init__(self, cluster: KafkaCluster, transactional_id: str | None) -> None:
        options = cluster.options
        self._cluster = cluster
        self._producer = AIOKafkaProducer(
            **options.client,
            enable_idempotence=True,
            transactional_id=transactional_id,
            transaction_timeout_ms=options.transaction_timeout_ms,
            compression_type=options.compression,
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 << 20,
            request_timeout_ms=options.request_timeout_ms,
            retry_backoff_ms=20,
            linger_ms=0,
        )

    async def start(self) -> None:
        """Fence all earlier producers of the same transactional id; on return their transactions are over."""
        await _asked(self._producer.start())

    async def begin(self) -> None:
        """Begin a transaction."""
        self._refuse_if_over()
        await _committed(self._producer.begin_transaction())

    def _refuse_if_over(self) -> None:
        """Raise what ended this producer: aiokafka would fail an assertion, or call it illegal."""
        manager = self._producer._txn_manager  # noqa: SLF001
        if manager.is_fatal_error():
            error = manager.wait_for_transaction_end().exception()
            raise (FencedError if isinstance(error, _FENCED) else CommitFailedError)(_text(error))

    async def send(self, partition: int, records: Mapping[str, Sequence[Record]]) -> dict[str, int]:
        """Send records by topic; on return all are acknowledged. Tells the offset behind the last of each."""
        sent = [self._send_topic(topic, partition, rows) for topic, rows in records.items()]
        try:
            ends = await _committed(asyncio.gather(*sent))
        except kafka_errors.IllegalOperation as error:  # another topic's send ended the producer
            self._refuse_if_over()
            raise CommitFailedError(_text(error)) from error
        return dict(zip(records, ends, strict=True))

    async def _send_topic(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        acknowledged = []
        count = 0
        for batch in self._batches(records):
            count = batch.record_count()
            batch.close()
            acknowledged.append(await self._producer.send_batch(batch, topic, partition=partition))
        last = (await asyncio.gather(*acknowledged))[-1]
        if last.offset < 0:  # a repeated send that the broker knew already: it does not tell where
            msg = f"{topic}-{partition} took the records without telling their offsets"
            raise CommitFailedError(msg)
        return int(last.offset) + count

    def _batches(self, records: Sequence[Record]) -> Iterable[Any]:
        batch = self._producer.create_batch()
        append = batch.append
        for key, value, headers in records:
            if append(key=key, value=value, timestamp=None, headers=headers) is None:
                yield batch
                batch = self._producer.create_batch()
                append = batch.append
                append(key=key, value=value, timestamp=None, headers=headers)
        yield batch

    async def send_offsets(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Make the group's offsets part of the transaction; without transactions: commit them now."""
        if self._producer._txn_manager.transactional_id is None:  # noqa: SLF001
            await self._cluster.commit(offsets)
            return
        noted = {tp: OffsetAndMetadata(c.offset, c.metadata) for tp, c in offsets.items()}
        await _committed(
            self._producer.send_offsets_to_transaction(noted, self._cluster.options.group)
        )

    async def commit(self) -> None:
        """End the transaction. If it raises, whether the commit happened is not known."""
        await _committed(self._producer.commit_transaction())

    def abandon(self) -> None:
        """Stop using this producer, now: aiokafka's stop() waits without end for a broken one."""
        sender = self._producer._sender.sender_task  # noqa: SLF001
        self._producer._closed = True  # noqa: SLF001
        if sender is not None:
            sender.cancel()
        # Its failure was told to the commit; asyncio would report this copy as never looked at.
        waiter = getattr(self._producer._txn_manager, "_transaction_waiter", None)  # noqa: SLF001
        if waiter is not None:
            waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        closing = asyncio.create_task(_close_client(self._producer))
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)

    async def close(self) -> None:
        """Close an idle producer."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._producer.stop()
        except (TimeoutError, kafka_errors.KafkaError):
            self.abandon()


_CLOSING: Final[set[asyncio.Task[None]]] = set()


async def _close_client(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await producer.client.close()
    except (TimeoutError, kafka_errors.KafkaError) as error:
        log.debug("closing an abandoned producer: %r", error)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer.

    While a broker is away, aiokafka's stop() raises the CancelledError of its own fetch, and leaves
    the connections open. Taken for a cancellation of ours it would end whoever stops, silently.
    """
    error: BaseException | None
    [error] = await asyncio.gather(consumer.stop(), return_exceptions=True)
    if error is not None:
        own = isinstance(error, asyncio.CancelledError)
        log.log(logging.DEBUG if own else logging.WARNING, "stopping a consumer: %r", error)
        await consumer._client.close()  # noqa: SLF001


class KafkaSource:
    """The group's member of this process."""

    def __init__(
        self, options: KafkaOptions, topics: Collection[str], listener: Listener, grouping: Grouping
    ) -> None:
        self._topics = list(topics)
        self._group = options.group
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._listener = _Rebalances(self, listener)
        self._consumer = AIOKafkaConsumer(
            **options.client,
            group_id=options.group,
            group_instance_id=options.instance_id,
            enable_auto_commit=False,
            # Positions come from tasks alone. A reset would jump over what is gone without a word.
            auto_offset_reset="none",
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            isolation_level="read_committed",
            partition_assignment_strategy=[_KafkaAssignor(grouping, self._topics)],
            session_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=options.heartbeat_interval_ms,
            rebalance_timeout_ms=options.rebalance_timeout_ms,
            request_timeout_ms=options.request_timeout_ms,
            max_partition_fetch_bytes=1 << 20,
            fetch_max_wait_ms=100,
            value_deserializer=AS_RUNS,
        )

    async def start(self) -> None:
        """Join the group; assignments arrive at the listener from now on."""
        await _asked(self._consumer.start())
        self._consumer.subscribe(self._topics, listener=self._listener)

    async def stop(self) -> None:
        """Leave the group."""
        try:
            async with asyncio.timeout(2 * _CLOSE_TIMEOUT_S):
                await _stop(self._consumer)
        except TimeoutError as error:
            log.warning("leaving the group: %r", error)

    def check(self) -> None:
        """Raise KafkaUnavailableError where joining or staying failed; on return it is tried again.

        aiokafka's member waits without end until somebody has asked for its error.
        """
        coordinator = self._consumer._coordinator  # noqa: SLF001
        ended = coordinator._coordination_task  # noqa: SLF001
        if ended.done():
            why = "cancelled" if ended.cancelled() else repr(ended.exception())
            msg = f"the member of group {self._group} has ended ({why}); start the worker again"
            raise HeadraceError(msg)
        try:
            coordinator.check_errors()
        except kafka_errors.KafkaError as error:
            coordinator.request_rejoin()  # heartbeats that ended with an error begin only anew
            raise KafkaUnavailableError(_text(error)) from error

    async def fetch(
        self, partitions: Collection[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, Run]:
        """Return what came for these partitions, a run each; nothing after `timeout_s` without any."""
        self.check()
        begun = self._positions.keys() & set(partitions)
        if not begun:  # to aiokafka, none would mean all
            await asyncio.sleep(timeout_s)
            return {}
        try:
            fetched = await self._consumer.getmany(
                *begun, timeout_ms=max(1, round(timeout_s * 1000))
            )
        except kafka_errors.NoOffsetForPartitionError:
            return {}  # assigned anew meanwhile: the next seek tells where it begins
        except kafka_errors.OffsetOutOfRangeError as error:
            [(tp, offset), *_] = error.args[0].items()
            raise out_of_range(tp, offset) from error
        except kafka_errors.KafkaError as error:
            raise KafkaUnavailableError(_text(error)) from error
        runs = {tp: join(found) for tp, found in fetched.items()}
        for tp, run in runs.items():
            self._positions[tp] = run.next_offset
            self._ends[tp] = max(self._ends.get(tp, 0), self._consumer.last_stable_offset(tp) or 0)
        return runs

    def seek(self, partition: TopicPartition, offset: int, end: int) -> None:
        """Read on from `offset`; `end` is known to be readable already (see `backlog`)."""
        self._positions[partition] = offset
        self._ends[partition] = end
        self._consumer.seek(partition, offset)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more from these."""
        self._consumer.pause(*(self._consumer.assignment() & set(partitions)))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""
        self._consumer.resume(*(self._consumer.assignment() & set(partitions)))

    def backlog(self, partition: TopicPartition) -> int:
        """Return how many offsets lie between the position and the furthest end told by a seek or fetch."""
        return max(0, self._ends.get(partition, 0) - self._positions.get(partition, 0))

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets outside any transaction."""
        noted = {tp: OffsetAndMetadata(c.offset, c.metadata) for tp, c in offsets.items()}
        await _committed(self._consumer.commit(noted))

    def rejoin(self) -> None:
        """Leave the present generation and join anew."""
        self._consumer._coordinator.request_rejoin()  # noqa: SLF001

    def forget(self) -> None:
        """Forget positions: a new assignment has none yet."""
        self._positions.clear()
        self._ends.clear()


class _Rebalances(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes aiokafka's rebalance calls on; assigned partitions begin paused."""

    def __init__(self, source: KafkaSource, listener: Listener) -> None:
        self._source = source
        self._listener = listener

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            await self._listener.on_revoked()

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._source.forget()
        self._source.pause(assigned)
        await self._listener.on_assigned(assigned)


class _KafkaAssignor:
    """A Grouping behind aiokafka's assignor interface: which takes objects as well as classes."""

    name: Final = "headrace"

    def __init__(self, grouping: Grouping, topics: Sequence[str]) -> None:
        self._grouping = grouping
        self._topics = topics

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Return what this member tells the leader."""
        told = msgspec.json.encode(self._grouping.describe())
        return ConsumerProtocolMemberMetadata(
            version=0, subscription=sorted(topics), user_data=told
        )

    def assign(
        self,
        cluster: Any,  # noqa: ARG002 - aiokafka's interface
        members: Mapping[str, ConsumerProtocolMemberMetadata],
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Return the leader's decision."""
        told = {
            name: msgspec.json.decode(metadata.user_data or b'[{},""]', type=Member)
            for name, metadata in members.items()
        }
        return {
            name: ConsumerProtocolMemberAssignment(
                version=0, assignment=_by_topic(partitions), user_data=b""
            )
            for name, partitions in self._grouping.assign(told).items()
        }

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Nothing is kept: the listener hears of the assignment."""


def _by_topic(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    topics: dict[str, list[int]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(tp.partition)
    return sorted(topics.items())


def known_offsets(answer: Any) -> dict[TopicPartition, Committed]:
    """Return the offsets that a coordinator tells. Raises KafkaError if it tells of an error.

    aiokafka's own reading looks at no error of the whole answer: a coordinator that is still loading,
    as after a broker's restart, would look like a group that has committed nothing, and its input
    would be read from the start.
    """
    codes = [row[3] for _, rows in answer.topics for row in rows]
    for code in (answer.error_code, *codes):
        if code:
            raise kafka_errors.for_code(code)
    return {
        TopicPartition(topic, partition): Committed(offset, metadata or "")
        for topic, rows in answer.topics
        for partition, offset, metadata, _ in rows
        if offset >= 0
    }


async def _asked(request: Awaitable[T]) -> T:
    """Await a request whose failure changes nothing: it can be tried again."""
    try:
        return await request
    except _FENCED as error:
        raise FencedError(_text(error)) from error
    except (kafka_errors.KafkaError, TimeoutError) as error:
        raise KafkaUnavailableError(_text(error)) from error


async def _committed(step: Awaitable[T]) -> T:
    """Await a step of a commit: after its failure the outcome is not known."""
    try:
        return await step
    except _FENCED as error:
        raise FencedError(_text(error)) from error
    except kafka_errors.KafkaError as error:
        raise CommitFailedError(_text(error)) from error


def _text(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}".rstrip(": ")
