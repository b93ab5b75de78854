"""A worker as a member of its consumer group, by aiokafka's consumer."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.structs import OffsetAndMetadata

from streams.engine.cluster import Committed, Extent, Grouping, Listener, out_of_range
from streams.engine.errors import KafkaUnavailableError
from streams.engine.kafka_assignor import KafkaAssignor
from streams.engine.kafka_client import (
    CLOSE_TIMEOUT_S,
    KafkaOptions,
    asked,
    commit_step,
    error_text,
    raise_denial,
    stop_consumer,
)
from streams.engine.records import Run, TopicPartition
from streams.engine.runs import AS_RUNS, join
from streams.errors import HeadraceError

log = logging.getLogger(__name__)

# aiokafka leaves the group, and does not come back, when nothing was fetched for so long (5 min by
# default): a long restore, or a member that waits for its first task, would end it.
_MAX_POLL_INTERVAL_MS: Final = 2**31 - 1


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
        self._assignor = KafkaAssignor(grouping)
        self._consumer = AIOKafkaConsumer(
            **options.client,
            group_id=options.group,
            group_instance_id=options.instance_id,
            enable_auto_commit=False,
            # Positions come from tasks alone. A reset would jump over what is gone without a word.
            auto_offset_reset="none",
            max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
            isolation_level="read_committed",
            partition_assignment_strategy=[self._assignor],
            session_timeout_ms=options.session_timeout_ms,
            heartbeat_interval_ms=options.heartbeat_interval_ms,
            rebalance_timeout_ms=options.rebalance_timeout_ms,
            request_timeout_ms=options.request_timeout_ms,
            max_partition_fetch_bytes=1 << 19,
            fetch_max_wait_ms=100,
            value_deserializer=AS_RUNS,
        )

    async def start(self) -> None:
        """Join the group; assignments arrive at the listener from now on."""
        await asked(self._consumer.start())
        self._consumer.subscribe(self._topics, listener=self._listener)

    async def stop(self) -> None:
        """Leave the group."""
        try:
            async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                await stop_consumer(self._consumer)
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
            raise_denial(error)
            coordinator.request_rejoin()  # heartbeats that ended with an error begin only anew
            raise KafkaUnavailableError(error_text(error)) from error

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
            raise_denial(error)
            raise KafkaUnavailableError(error_text(error)) from error
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

    def extent(self, partition: TopicPartition) -> Extent | None:
        """Return how far a partition goes; None as long as no fetch has told."""
        position = self._positions.get(partition)
        if position is None or partition not in self._consumer.assignment():
            return None
        end = self._consumer.highwater(partition)
        stable_end = self._consumer.last_stable_offset(partition)
        if end is None or stable_end is None:
            return None
        return Extent(position, stable_end, end)

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Commit the group's offsets outside any transaction."""
        noted = {tp: OffsetAndMetadata(c.offset, c.metadata) for tp, c in offsets.items()}
        await commit_step(self._consumer.commit(noted))

    def rejoin(self) -> None:
        """Leave the present generation and join anew."""
        self._assignor.ask_anew()
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
