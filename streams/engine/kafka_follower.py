"""A Follower on a real Kafka: aiokafka's consumer, without a group."""

from collections.abc import Mapping
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors

from streams.engine.cluster import Heard, out_of_range
from streams.engine.errors import KafkaUnavailableError
from streams.engine.kafka_client import asked, error_text, raise_denial, stop_consumer
from streams.engine.records import Run, TopicPartition
from streams.engine.runs import AS_RUNS, join

# To aiokafka a record batch is a record here. A large one is 256 KiB, and has 2,000 rows of `users`.
_BATCHES_A_PORTION: Final = 4
# What lies in memory is this much for each partition at the most, as Kafka sent it.
_MAX_PARTITION_FETCH_BYTES: Final = 1 << 20


class KafkaFollower:
    """Reads changelogs of tasks that others own."""

    def __init__(self, client: Mapping[str, Any], request_timeout_ms: int) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            **client,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            request_timeout_ms=request_timeout_ms,
            max_partition_fetch_bytes=_MAX_PARTITION_FETCH_BYTES,
            fetch_max_wait_ms=100,
            value_deserializer=AS_RUNS,
        )

    async def start(self) -> None:
        """Connect."""
        await asked(self._consumer.start())

    async def stop(self) -> None:
        """Disconnect."""
        await stop_consumer(self._consumer)

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions and no others from now on, each from its offset on."""
        self._positions = dict(positions)
        self._consumer.assign(list(positions))
        for tp, offset in positions.items():
            self._consumer.seek(tp, offset)

    async def fetch(self, timeout_s: float) -> dict[TopicPartition, Run]:
        """Return a bounded portion of what came, a run a partition; nothing after `timeout_s` without any."""
        try:
            fetched = await self._consumer.getmany(
                timeout_ms=max(1, round(timeout_s * 1000)), max_records=_BATCHES_A_PORTION
            )
        except kafka_errors.OffsetOutOfRangeError as error:
            [(tp, offset), *_] = error.args[0].items()
            raise out_of_range(tp, offset) from error
        except kafka_errors.KafkaError as error:
            raise_denial(error)
            raise KafkaUnavailableError(error_text(error)) from error
        return {tp: join(found) for tp, found in fetched.items()}

    def heard(self, partition: TopicPartition) -> Heard | None:
        """Return where a partition ended when it was last asked; None as long as it was not."""
        if partition not in self._positions:
            return None
        offset = self._consumer.last_stable_offset(partition)
        at_ms = self._consumer.last_poll_timestamp(partition)
        return None if offset is None or at_ms is None else Heard(offset, at_ms)
