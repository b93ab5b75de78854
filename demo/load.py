"""Made-up records into Kafka, at a steady rate."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer, TopicPartition

from demo.closing import closed
from demo.event_clock import EventClock
from demo.generator import TopicKeyValue, partition_of
from demo.pace import Pace
from demo.poison import USERS, KeyValue, Poison
from demo.traffic import Bell, Traffic

_TICK_S = 0.02
_MOST_A_TICK = 5_000
_BATCH_BYTES = 262_144
_REMEMBERED = 500_000  # a derived event that comes later than so many orders has no latency
_RESENT = 250
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
        traffic: Traffic,
        event_clock: EventClock | None = None,
    ) -> None:
        """Event time is that of its clock, or the present."""
        self.sent = 0
        self.seconds = 0.0
        self.times = SendTimes(traffic.answered)
        self._traffic = traffic
        self._client = client
        self._partitions = partitions
        self._event_clock = event_clock
        self._records = traffic.records(event_clock or now_ms, now_ms)
        self.latest: dict[str, str] = {}
        """What it has done of its own accord, by kind."""
        self._last: deque[TopicKeyValue] = deque(maxlen=_RESENT)
        self._opened_ms = 0
        """Where the last part of a day began."""
        self._restart_s = traffic.restarts_each_s
        """When the producer restarts next."""
        self._ends: Counter[TopicPartition] = Counter()
        self._unacknowledged: set[asyncio.Future[Any]] = set()
        self._producer = self._new_producer()

    @property
    def poisons(self) -> Sequence[Poison]:
        """Return the kinds of poison that there are for these inputs."""
        return self._traffic.poisons

    def _new_producer(self) -> AIOKafkaProducer:
        return AIOKafkaProducer(
            **self._client,
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
        await self._open(pace)
        start = time.monotonic()
        while not pace.ended and (seconds is None or self.seconds < seconds):
            await asyncio.sleep(_TICK_S)
            self.seconds = time.monotonic() - start
            if seconds is not None:
                self.seconds = min(self.seconds, seconds)
            if not await self._may_send():
                continue
            due = pace.take_due(self.seconds, _MOST_A_TICK)
            if self._event_clock is not None:
                self._event_clock.go_on(due)
            await self._send(chain(pace.take_burst(), islice(self._records, due)))
            if self._event_clock is not None:
                self._event_clock.sent(self._ends)
            self._raise_refused()
            if self._restart_s is not None and self.seconds >= self._restart_s:
                await self._restart()
                self._restart_s += self._traffic.restarts_each_s or 0
        await asyncio.gather(*self._unacknowledged)

    async def _open(self, pace: Pace) -> None:
        """Send what is to be committed before anything else, and wait until it is."""
        if self._event_clock is None or not self._traffic.opening:
            return
        await self._send(islice(self._records, self._traffic.opening))
        self._event_clock.sent(self._ends)
        self._event_clock.wait()
        while self._event_clock.is_waiting and not pace.ended:
            await asyncio.sleep(_TICK_S)
            self._raise_refused()

    async def _may_send(self) -> bool:
        """Tell whether records may be sent; where a part of a day begins or ends, ring its bell, and wait."""
        clock = self._event_clock
        if clock is None:
            return True
        if clock.is_waiting:
            return False
        if clock.is_opening and self._opened_ms != clock():
            self._opened_ms = clock()
            await self._ring(clock, self._traffic.opens)
        elif clock.is_closing:
            await self._ring(clock, self._traffic.closes)
        return not clock.is_waiting

    async def _ring(self, clock: EventClock, bell: Bell | None) -> None:
        """Send what a bell gives, and have all else wait until it is committed."""
        if bell is not None:
            await self._send(bell(clock(), self._partitions))
            clock.sent(self._ends)
        clock.wait()

    async def _restart(self) -> None:
        """Go on with another producer, which sends the last records again, as if in doubt about them."""
        await self._producer.stop()
        self._producer = self._new_producer()
        await self._producer.start()
        again = list(self._last)
        await self._send(again)
        self.latest["restart"] = (
            f"RESENT {len(again)} records up to {self.seconds:.1f} s: a restart"
        )

    async def _send(self, records: Iterable[TopicKeyValue]) -> None:
        by_partition: dict[tuple[str, int], list[KeyValue]] = {}
        for topic, key, value in records:
            self._last.append((topic, key, value))
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
