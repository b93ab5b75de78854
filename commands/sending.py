"""Records into Kafka, in batches, acknowledged by all in-sync replicas, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from aiokafka.partitioner import DefaultPartitioner

from commands.asking import ANSWER_TIMEOUT_S
from demo.closing import closed
from streams.engine.kafka_client import error_text, raise_denial
from streams.errors import HeadraceError

_BATCH_BYTES = 262_144

_partitioner = DefaultPartitioner()


def partition_for(key: bytes | None, partitions: int) -> int:
    """Return the partition that Kafka's own clients take (murmur2); a random one without a key."""
    return _random_partition(partitions) if key is None else _hashed_partition(key, partitions)


@lru_cache(maxsize=100_000)  # 5 µs a key in Python, and the same keys come again
def _hashed_partition(key: bytes, partitions: int) -> int:
    return int(_partitioner(key, range(partitions), ()))


def _random_partition(partitions: int) -> int:
    return int(_partitioner(None, range(partitions), ()))


class Sender:
    """Sends records to topics. `acknowledged` counts those that Kafka has; use it with `async with`."""

    def __init__(
        self, client: Mapping[str, Any], partitions: Mapping[str, int], compression: str | None
    ) -> None:
        """`partitions` is the number of them of each topic."""
        self.acknowledged = 0
        self._partitions = partitions
        self._batches: dict[tuple[str, int], tuple[Any, int]] = {}
        self._waiting: set[asyncio.Future[Any]] = set()
        self._failure: tuple[BaseException, str, int] | None = None
        self._producer = AIOKafkaProducer(
            **client,
            acks="all",
            enable_idempotence=True,
            compression_type=compression,
            max_batch_size=_BATCH_BYTES,
            max_request_size=64 << 20,  # the broker decides what is too large
            request_timeout_ms=int(ANSWER_TIMEOUT_S * 1_000),
        )

    async def __aenter__(self) -> Self:
        try:
            await self._producer.start()
        except BaseException:
            await closed(self._producer.stop())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await closed(self._producer.stop())
        await closed(self._producer.client.close())  # stop() leaves it open if it was cut short

    async def send(self, topic: str, key: bytes | None, value: bytes | None, number: int) -> None:
        """Put a record into its partition's batch; waits while Kafka takes its time with earlier ones.

        `number` names the record in errors. Raises HeadraceError for this or an earlier record.
        """
        place = topic, partition_for(key, self._partitions[topic])
        batch, _ = self._batches.get(place) or self._new_batch(place, number)
        if batch.append(key=key, value=value, timestamp=None) is None:
            await self._send_batch(place)
            batch, _ = self._new_batch(place, number)
            batch.append(key=key, value=value, timestamp=None)

    async def flush(self) -> None:
        """Send what is in batches; returning proves that Kafka has all records.

        Raises HeadraceError if Kafka refuses one, or acknowledges nothing for a while.
        """
        await self.send_batches()
        while self._waiting:
            done, _ = await asyncio.wait(
                self._waiting, timeout=ANSWER_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise self._stalled()
            await asyncio.sleep(0)  # their callbacks
            self._raise_failure()

    async def send_batches(self) -> None:
        """Hand over what is in batches, full or not. Raises HeadraceError if one failed before."""
        for place in sorted(self._batches, reverse=True):  # users before their orders
            await self._send_batch(place)

    def _new_batch(self, place: tuple[str, int], number: int) -> tuple[Any, int]:
        self._batches[place] = self._producer.create_batch(), number
        return self._batches[place]

    async def _send_batch(self, place: tuple[str, int]) -> None:
        self._raise_failure()
        batch, first_number = self._batches.pop(place)
        count = batch.record_count()
        batch.close()
        topic, partition = place
        try:
            sent = await self._producer.send_batch(batch, topic, partition=partition)
        except KafkaTimeoutError as error:
            raise self._stalled() from error

        def finished(done: asyncio.Future[Any]) -> None:
            self._waiting.discard(done)
            if done.cancelled():
                return
            if (error := done.exception()) is None:
                self.acknowledged += count
            else:
                self._failure = self._failure or (error, topic, first_number)

        self._waiting.add(sent)
        sent.add_done_callback(finished)

    def _stalled(self) -> HeadraceError:
        return HeadraceError(
            f"Kafka has acknowledged nothing for {ANSWER_TIMEOUT_S:g} s, and {self.acknowledged:,} "
            "records before: do its brokers run?"
        )

    def _raise_failure(self) -> None:
        if self._failure is None:
            return
        error, topic, number = self._failure
        raise_denial(error)
        if isinstance(error, MessageSizeTooLargeError):  # such a record is alone in its batch
            raise HeadraceError(
                f"line {number} is larger than the broker takes (max.message.bytes of {topic}); "
                f"{self.acknowledged:,} records were sent"
            )
        raise HeadraceError(f"Kafka does not take the records of {topic}: {error_text(error)}")
