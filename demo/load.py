"""Made-up records into Kafka, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer, TopicPartition

from demo.closing import closed
from demo.event_clock import EventClock
from demo.generator import OrderGenerator, TopicKeyValue, partition_of
from demo.pace import Pace
from demo.poison import USERS, KeyValue

_TICK_S = 0.02
_MOST_A_TICK = 5_000
_BATCH_BYTES = 262_144
_REMEMBERED = 500_000  # a derived event that comes later than so many orders has no latency
_ID_START = b'{"event_id":"'


class SendTimes:
    """When which order, or other event whose id ends so, was sent: time.monotonic() by event id."""

    def __init__(self, id_end: str = "-created") -> None:
        self._id_end = id_end.encode()
        self._times: dict[bytes, float] = {}

    def note(self, value: bytes | None, now_s: float) -> None:
        """Remember when this record was sent, if it is of such an event."""
        if value is None or not value.startswith(_ID_START):
            return
        event_id = value[len(_ID_START) : value.find(b'"', len(_ID_START))]
        if event_id.endswith(self._id_end):
            self._times[event_id] = now_s
            if len(self._times) > _REMEMBERED:
                del self._times[next(iter(self._times))]

    def take(self, event_id: str) -> float | None:
        """Return when it was sent, None if that is not known."""
        return self._times.get(event_id.encode())


class Load:
    """A producer of the generator's records. `sent` counts those that were handed to Kafka."""

    def __init__(
        self,
        client: Mapping[str, Any],
        partitions: int,
        generator: OrderGenerator,
        event_clock: EventClock | None = None,
        times: SendTimes | None = None,
    ) -> None:
        """Event time is that of its clock, or the present; `times` notes the orders unless given."""
        self.sent = 0
        self.seconds = 0.0
        self.times = times or SendTimes()
        self._partitions = partitions
        self._event_clock = event_clock
        self._records = generator.records(event_clock or now_ms, now_ms)
        self._ends: Counter[TopicPartition] = Counter()
        self._unacknowledged: set[asyncio.Future[Any]] = set()
        self._producer = AIOKafkaProducer(
            **client,
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            max_request_size=4 << 20,
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if await closed(self._producer.stop()):
            return
        # Without waiting for what Kafka may never acknowledge.
        if self._producer._sender.sender_task is not None:  # noqa: SLF001
            self._producer._sender.sender_task.cancel()  # noqa: SLF001
        self._producer._closed = True  # noqa: SLF001
        await closed(self._producer.client.close())

    async def run(self, pace: Pace, seconds: float | None) -> None:
        """Send at this pace, for so long; returning proves that Kafka has them all."""
        start = time.monotonic()
        while not pace.ended and (seconds is None or self.seconds < seconds):
            await asyncio.sleep(_TICK_S)
            self.seconds = time.monotonic() - start
            if seconds is not None:
                self.seconds = min(self.seconds, seconds)
            due = pace.take_due(self.seconds, _MOST_A_TICK)
            if self._event_clock is not None:
                self._event_clock.go_on(due)
            await self._send(chain(pace.take_burst(), islice(self._records, due)))
            if self._event_clock is not None:
                self._event_clock.sent(self._ends)
            self._raise_refused()
        await asyncio.gather(*self._unacknowledged)

    async def _send(self, records: Iterable[TopicKeyValue]) -> None:
        by_partition: dict[tuple[str, int], list[KeyValue]] = {}
        for topic, key, value in records:
            at = topic, partition_of(key, self._partitions)
            by_partition.setdefault(at, []).append((key, value))
        # Who orders has registered before.
        for topic, partition in sorted(by_partition, key=lambda at: at[0] != USERS):
            await self._send_rows(topic, partition, by_partition[topic, partition])

    async def _send_rows(self, topic: str, partition: int, rows: list[KeyValue]) -> None:
        batch = self._producer.create_batch()
        at_ms, now_s = now_ms(), time.monotonic()
        for key, value in rows:
            if batch.append(key=key, value=value, timestamp=at_ms) is None:
                await self._send_batch(batch, topic, partition)
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=at_ms)
            self.times.note(value, now_s)
        await self._send_batch(batch, topic, partition)
        self.sent += len(rows)
        self._ends[TopicPartition(topic, partition)] += len(rows)

    async def _send_batch(self, batch: Any, topic: str, partition: int) -> None:
        batch.close()
        sent = await self._producer.send_batch(batch, topic, partition=partition)
        self._unacknowledged.add(sent)

    def _raise_refused(self) -> None:
        for sent in [future for future in self._unacknowledged if future.done()]:
            self._unacknowledged.discard(sent)
            sent.result()


def now_ms() -> int:
    """Return the clock's time, ms since 1970 UTC."""
    return int(time.time() * 1_000)
