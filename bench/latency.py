"""Latency: orders at a steady rate, and how long until a reader downstream sees what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.figures import percentile
from bench.oracle import Oracle, told
from bench.orders import Orders
from bench.processes import Running
from bench.results import Input, Latency
from bench.stage import Stage, Writer
from bench.systems.system import System, label
from bench.throughput import Watch, at_work, check
from bench.work import HIGH_VALUE

LATENCY_INTERVAL_MS = 100
"""Between commits, for systems that have to be told: the default here and of Kafka Streams v2."""
_TICK_S = 0.01
_READY_TIMEOUT_S = 120.0
_SEEN_TIMEOUT_S = 20.0
_LOOK_S = 0.05
_SEED = 7


class Arrival(NamedTuple):
    """An event of high value as it was seen downstream; times in seconds since 1970."""

    user_id: str
    sent_s: float
    seen_s: float


class Load:
    """Writes orders at a steady rate. Each carries the time at which it was due, in its order id.

    Due, not sent: where the writer itself is held up, that counts as latency too.
    """

    def __init__(self, writer: Writer, orders: Orders, oracle: Oracle) -> None:
        self.oracle = oracle
        self.written = 0
        self._writer = writer
        self._orders = orders

    async def run(self, rate: int, seconds: float) -> None:
        """Write at `rate` a second for so long."""
        start_s = time.time()
        sent = 0
        while (passed_s := time.time() - start_s) < seconds:
            due = int(passed_s * rate)
            for number in range(sent, due):
                await self._write(start_s + number / rate)
            await self._writer.flush()
            sent = due
            await asyncio.sleep(_TICK_S)
        self.written += sent

    async def _write(self, due_s: float) -> None:
        key, value = self._orders.at(int(due_s * 1000), b"-%d" % (due_s * 1_000_000))
        self.oracle.add(value)
        await self._writer.write(key, value)


class Onlooker:
    """Reads the events of high value as they are committed."""

    def __init__(self, stage: Stage) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self._stage = stage
        self._consumer = AIOKafkaConsumer(
            **stage.client,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=50,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        numbers = range(self._stage.partitions)
        self._consumer.assign([TopicPartition(HIGH_VALUE, number) for number in numbers])
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        await self._consumer.stop()

    async def _read(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=500)
            seen_s = time.time()
            for records in batches.values():
                for record in records:
                    event = told(record.value)
                    sent_s = int(event.order_id.rpartition("-")[2]) / 1_000_000
                    self.arrivals.setdefault(event.order_id, Arrival(event.user_id, sent_s, seen_s))

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it holds; return whether it did within the time. Raises what reading raised."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._reading.done():
                self._reading.result()
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_S)
        return True


class Scene(NamedTuple):
    """A system at work under a load, and who looks on."""

    load: Load
    onlooker: Onlooker
    running: list[Running]

    async def all_seen(self) -> bool:
        """Wait for every event that must come; return whether all came in time.

        Raises SystemFailedError where the process has ended.
        """
        expected = self.load.oracle.events[HIGH_VALUE]
        arrivals = self.onlooker.arrivals
        if await self.onlooker.until(lambda: expected.keys() <= arrivals.keys(), _SEEN_TIMEOUT_S):
            return True
        self.running[0].check()
        return False


@contextlib.asynccontextmanager
async def scene(
    stage: Stage, system: System, wanted: Input, app_id: str, folder: Path
) -> AsyncIterator[Scene]:
    """Have a system at work on fresh topics, its first event seen. Raises SystemFailedError."""
    await stage.empty(wanted.partitions)
    orders = Orders(seed=_SEED, users=wanted.users, event_bytes=wanted.event_bytes)
    async with (
        Writer(stage.client, wanted.partitions) as writer,
        Onlooker(stage) as onlooker,
        at_work(stage, system, app_id, folder, commit_interval_ms=LATENCY_INTERVAL_MS) as running,
    ):
        load = Load(writer, orders, Oracle(wanted.users))
        ready = asyncio.ensure_future(
            onlooker.until(lambda: bool(onlooker.arrivals), _READY_TIMEOUT_S)
        )
        while not ready.done():
            await load.run(1_000, 0.2)
            running[0].check()
        if not await ready:
            raise running[0].failure(f"emitted nothing for {_READY_TIMEOUT_S:g} s")
        yield Scene(load, onlooker, running)


async def latencies(
    stage: Stage,
    system: System,
    wanted: Input,
    folder: Path,
    *,
    rates: tuple[int, ...],
    warm_s: float,
    seconds: float,
) -> tuple[list[Latency], list[str]]:
    """Return the latencies at one rate after the other, and the rate that it could not follow.

    Then it ends. Raises SystemFailedError, also where tables or events are wrong in the end.
    """
    app_id = f"bench-{folder.name}"
    found: list[Latency] = []
    async with scene(stage, system, wanted, app_id, folder) as at:
        for rate in rates:
            await at.load.run(rate, warm_s)
            start_s = time.time()
            await at.load.run(rate, seconds)
            end_s = time.time()
            if not await at.all_seen():
                return found, [f"{label(system)} does not follow {rate:,} events a second"]
            arrivals = at.onlooker.arrivals.values()
            within = [each for each in arrivals if start_s <= each.sent_s < end_s]
            found.append(_latency(rate, within))
        stage.total = at.load.written
        await Watch(stage, system.group(app_id), at.running).until(stage.total)
    await check(stage, system, app_id, at.load.oracle)
    return found, []


def _latency(rate: int, arrivals: list[Arrival]) -> Latency:
    """Return the percentiles. Raise ValueError if there are no arrivals."""
    ms = sorted((each.seen_s - each.sent_s) * 1000 for each in arrivals)
    return Latency(
        rate=rate,
        events=len(ms),
        p50=percentile(ms, 0.5),
        p99=percentile(ms, 0.99),
        max=ms[-1],
    )
