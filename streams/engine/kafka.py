"""A Cluster on a real Kafka, by aiokafka, whose private parts are used in kafka*.py and runs.py alone."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, codec
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.producer.transaction_manager import TransactionState
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

from streams.engine.clock import SystemClock
from streams.engine.cluster import (
    Bounds,
    Committed,
    Grouping,
    Listener,
    TopicState,
    refused_size,
)
from streams.engine.connect import raise_refusal
from streams.engine.errors import CommitFailedError, FencedError, KafkaUnavailableError
from streams.engine.kafka_client import (
    CLOSE_TIMEOUT_S,
    FENCED,
    KafkaOptions,
    asked,
    by_topic,
    close_silent,
    commit_step,
    error_text,
    know_topics,
    raise_denial,
    stop_consumer,
)
from streams.engine.kafka_follower import KafkaFollower
from streams.engine.kafka_member import KafkaSource
from streams.engine.kafka_once import send_once
from streams.engine.kafka_sender import requests_of
from streams.engine.kafka_topics import TopicsRequest, topic_states
from streams.engine.records import Outgoing, Run, TopicPartition
from streams.engine.runs import AS_RUNS, install, join
from streams.errors import HeadraceError

__all__ = ["KafkaCluster", "KafkaOptions", "KafkaProducer", "KafkaSource", "known_offsets"]

log = logging.getLogger(__name__)
T = TypeVar("T")

# With aiokafka's 16 KiB the thousands of changelog records of a commit become hundreds of batches.
_BATCH_BYTES: Final = 262_144
# aiokafka's level, 9, takes 15 times as long for 8 % less: 9 % of all the time of a worker.
_LZ4_LEVEL: Final = 1
_ASK_AGAIN_S: Final = 0.1
_TOMBSTONES_KEPT: Final = "delete.retention.ms"


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
            await raise_refusal(self.options.client)
            address = self.options.client["bootstrap_servers"]
            msg = f"no Kafka answers at {address} ({error}); is it running, and is KAFKA_BROKERS right?"
            raise HeadraceError(msg) from error

    async def stop(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await stop_consumer(self._reader)
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
        return await self._asked(self._offsets(partitions))

    async def _offsets(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Ask the group's coordinator, which a new cluster makes when it is asked for first."""
        assert self._admin is not None  # noqa: S101 - started
        group = self.options.group
        request = OffsetFetchRequest(group, by_topic(partitions))
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

    async def _asked(self, request: Awaitable[T]) -> T:
        """Await a request whose failure changes nothing; after a silence, the next one has a new connection.

        aiokafka closes a connection on which a request timed out. It does not where it, or we, gave up
        waiting first: whatever is asked on it then waits in vain, for ever if nobody closes it.
        """
        try:
            return await asked(request)
        except KafkaUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError | kafka_errors.KafkaTimeoutError):
                # Half of what was waited: what was asked first may have been answered.
                silent_s = self.options.request_timeout_ms / 2_000
                for client in (self._admin, self._reader):
                    assert client is not None  # noqa: S101 - started
                    close_silent(client._client, silent_s)  # noqa: SLF001
            raise

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets outside any transaction (at_least_once)."""
        assert self._source is not None  # noqa: S101 - tasks come from it
        await self._source.commit(offsets)

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return begin and end of each partition."""
        assert self._reader is not None  # noqa: S101 - started
        await self._asked(know_topics(self._reader, partitions))
        begins = await self._asked(self._reader.beginning_offsets(partitions))
        ends = await self._asked(self._reader.end_offsets(partitions))
        return {tp: Bounds(begins[tp], ends[tp]) for tp in partitions}

    async def topics(self, names: Collection[str]) -> dict[str, TopicState]:
        """Return what those topics are that exist; asking makes none."""
        return await self._asked(self._topics(list(names)))

    async def _topics(self, names: list[str]) -> dict[str, TopicState]:
        """Ask any broker: one that is away, or does not know yet who leads, is not asked again."""
        assert self._admin is not None  # noqa: S101 - started
        async with asyncio.timeout(self.options.request_timeout_ms / 1000):
            while True:
                try:
                    return topic_states(await self._admin._send_request(TopicsRequest(names)))  # noqa: SLF001
                except kafka_errors.KafkaError as error:
                    if not error.retriable:
                        raise
                    log.debug("asking for the topics %s again: %r", names, error)
                await asyncio.sleep(_ASK_AGAIN_S)

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records below these offsets, none of them beyond what may be read."""
        assert self._admin is not None  # noqa: S101 - started
        before = {tp: RecordsToDelete(before_offset=offset) for tp, offset in offsets.items()}
        await self._asked(self._admin.delete_records(before))

    async def tombstones_kept_ms(self, topic: str) -> int | None:
        """Return for how long a compacted topic tells of a removed key; None where nobody may know."""
        assert self._admin is not None  # noqa: S101 - started
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {_TOMBSTONES_KEPT: ""})
        [answer] = await self._asked(self._admin.describe_configs([resource]))
        [[code, _, _, _, entries]] = answer.resources
        if code:
            log.debug("%s of %s: %s", _TOMBSTONES_KEPT, topic, kafka_errors.for_code(code).__name__)
        return next((int(value) for name, value, *_ in entries if name == _TOMBSTONES_KEPT), None)

    async def read(self, partition: TopicPartition, bounds: Bounds) -> AsyncIterator[Run]:
        """Yield the committed records from `bounds.begin` on until everything below `bounds.end` was read."""
        position = bounds.begin
        if position >= bounds.end:
            return
        reader = self._new_reader()
        await asked(reader.start())
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
            raise_denial(error)
            raise KafkaUnavailableError(error_text(error)) from error
        finally:
            await stop_consumer(reader)

    def follower(self) -> KafkaFollower:
        """Return a new follower, not started."""
        return KafkaFollower(self.options.client, self.options.request_timeout_ms)

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
        self._clock = SystemClock()
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
        send_once(self._producer)
        self._requests = requests_of(self._producer)

    async def start(self) -> None:
        """Fence all earlier producers of the same transactional id; on return their transactions are over."""
        await asked(self._producer.start())

    async def begin(self) -> None:
        """Begin a transaction."""
        self._refuse_if_over()
        await commit_step(self._producer.begin_transaction())

    def _refuse_if_over(self) -> None:
        """Raise what ended this transaction, or this producer: aiokafka would call the next step illegal.

        A denial ends the transaction; whatever else was sent in it fails with other errors, maybe sooner.
        """
        waiter = self._producer._txn_manager._transaction_waiter  # noqa: SLF001
        error = waiter.exception() if waiter is not None and waiter.done() else None
        if error is not None:
            raise_denial(error)
            raise (FencedError if isinstance(error, FENCED) else CommitFailedError)(
                error_text(error)
            )

    async def send(
        self, partition: int, records: Mapping[str, Sequence[Outgoing]]
    ) -> dict[str, int]:
        """Send records by topic; on return all are acknowledged. Tells the offset behind the last of each."""
        sent = [self._send_topic(topic, partition, rows) for topic, rows in records.items()]
        try:
            ends = await commit_step(asyncio.gather(*sent))
        except CommitFailedError:
            self._refuse_if_over()
            raise
        except kafka_errors.IllegalOperation as error:
            self._refuse_if_over()
            raise CommitFailedError(error_text(error)) from error
        return dict(zip(records, ends, strict=True))

    async def _send_topic(self, topic: str, partition: int, records: Sequence[Outgoing]) -> int:
        acknowledged = []
        count = 0
        for batch in self._batches(records):
            count = batch.record_count()
            batch.close()
            sent = await self._producer.send_batch(batch, topic, partition=partition)
            sent.add_done_callback(_heard)  # where a later batch is not even taken, nobody asks it
            acknowledged.append(sent)
        try:
            last = (await asyncio.gather(*acknowledged))[-1]
        except kafka_errors.MessageSizeTooLargeError as error:
            raise refused_size(topic, records) from error
        if last.offset < 0:  # a repeated send that the broker knew already: it does not tell where
            msg = f"{topic}-{partition} took the records without telling their offsets"
            raise CommitFailedError(msg)
        return int(last.offset) + count

    def _batches(self, records: Sequence[Outgoing]) -> Iterator[Any]:
        """Yield batches of all records.

        By the compiled builder below aiokafka's, with one timestamp for all: a call of Python's and a look
        at the clock for each record take longer than the rest.
        """
        now_ms = self._clock.wall_ms()
        batch = self._producer.create_batch()
        append, offset = batch._builder.append, 0  # noqa: SLF001
        for key, value, headers in records:
            if append(offset, now_ms, key, value, headers) is None:
                batch._relative_offset = offset  # noqa: SLF001
                yield batch
                batch = self._producer.create_batch()
                append, offset = batch._builder.append, 0  # noqa: SLF001
                append(offset, now_ms, key, value, headers)
            offset += 1
        batch._relative_offset = offset  # noqa: SLF001
        yield batch

    async def send_offsets(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Make the group's offsets part of the transaction; without transactions: commit them now."""
        if self._producer._txn_manager.transactional_id is None:  # noqa: SLF001
            await self._cluster.commit(offsets)
            return
        noted = {tp: OffsetAndMetadata(c.offset, c.metadata) for tp, c in offsets.items()}
        await commit_step(
            self._producer.send_offsets_to_transaction(noted, self._cluster.options.group)
        )

    async def commit(self) -> None:
        """End the transaction. If it raises, whether the commit happened is not known."""
        await commit_step(self._producer.commit_transaction())

    async def abort(self) -> None:
        """End an open transaction without what was sent in it; one that is being ended, ends as it does."""
        self._refuse_if_over()
        manager = self._producer._txn_manager  # noqa: SLF001
        match manager.state:
            case TransactionState.IN_TRANSACTION:
                await commit_step(self._producer.abort_transaction())
            case TransactionState.COMMITTING_TRANSACTION | TransactionState.ABORTING_TRANSACTION:
                await commit_step(asyncio.shield(manager.wait_for_transaction_end()))

    def abandon(self) -> None:
        """Stop using this producer, now: aiokafka's stop() waits without end for a broken one."""
        sender = self._producer._sender.sender_task  # noqa: SLF001
        self._producer._closed = True  # noqa: SLF001
        if sender is not None:
            sender.cancel()
        for request in self._requests:
            request.cancel()
        # Its failure was told to the commit; asyncio would report this copy as never looked at.
        waiter = getattr(self._producer._txn_manager, "_transaction_waiter", None)  # noqa: SLF001
        if waiter is not None:
            waiter.add_done_callback(_heard)
        closing = asyncio.create_task(_close_client(self._producer))
        _CLOSING.add(closing)
        closing.add_done_callback(_CLOSING.discard)

    async def close(self) -> None:
        """Close an idle producer."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._producer.stop()
        except (TimeoutError, kafka_errors.KafkaError):
            self.abandon()


def _heard(done: "asyncio.Future[Any]") -> None:
    """Take note of how it ended: asyncio tells of errors that nobody looked at."""
    if not done.cancelled():
        done.exception()


_CLOSING: Final[set[asyncio.Task[None]]] = set()


async def _close_client(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await producer.client.close()
    except (TimeoutError, kafka_errors.KafkaError) as error:
        log.debug("closing an abandoned producer: %r", error)


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
