"""Latency: orders at a steady rate, and how long until a reader downstream sees what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
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
_FIRST_RATE = 100
_READY_TIMEOUT_S = 120.0
_SEEN_TIMEOUT_S = 60.0
_CAUGHT_UP_TIMEOUT_S = 60.0
_MOST_BEHIND_S = 5.0
_LATE_S = 0.5
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

    def __init__(self, stage: Stage, writer: Writer, orders: Orders) -> None:
        self._stage = stage
        self._writer = writer
        self._orders = orders

    async def run(self, rate: int, seconds: float) -> float:
        """Write at `rate` a second for so long; return how many seconds late it was in the end."""
        start_s = time.time()
        wanted, sent = int(rate * seconds), 0
        while sent < wanted and time.time() - start_s < seconds + _MOST_BEHIND_S:
            due = min(wanted, int((time.time() - start_s) * rate), sent + max(1, rate // 10))
            for number in range(sent, due):
                due_s = start_s + number / rate
                key, value = self._orders.at(int(due_s * 1000), b"-%d" % (due_s * 1_000_000))
                await self._writer.write(key, value)
            await self._writer.flush()
            self._stage.total += due - sent
            sent = due
            await asyncio.sleep(_TICK_S)
        return time.time() - start_s - seconds


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

    stage: Stage
    group: str
    load: Load
    onlooker: Onlooker
    running: list[Running]

    async def caught_up(self) -> bool:
        """Wait until all that was written is committed; return whether that was soon.

        Raises SystemFailedError where the process has ended.
        """
        deadline = time.monotonic() + _CAUGHT_UP_TIMEOUT_S
        while await self.stage.committed(self.group) < self.stage.total:
            self.running[0].check()
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def check(self, users: int) -> Oracle:
        """Return what must have come of all that was written, when every event of it was seen.

        Raises SystemFailedError if one is not.
        """
        oracle = await self.stage.expected(users)
        expected, arrivals = oracle.events[HIGH_VALUE], self.onlooker.arrivals
        if not await self.onlooker.until(
            lambda: expected.keys() == arrivals.keys(), _SEEN_TIMEOUT_S
        ):
            missing = len(expected.keys() - arrivals.keys())
            others = len(arrivals.keys() - expected.keys())
            raise self.running[0].failure(f"left out {missing:,} events and made {others:,} up")
        return oracle


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
        load = Load(stage, writer, orders)
        ready = asyncio.ensure_future(
            onlooker.until(lambda: bool(onlooker.arrivals), _READY_TIMEOUT_S)
        )
        while not ready.done():
            await load.run(_FIRST_RATE, 0.2)
            running[0].check()
        if not await ready:
            raise running[0].failure(f"emitted nothing for {_READY_TIMEOUT_S:g} s")
        at = Scene(stage, system.group(app_id), load, onlooker, running)
        if not await at.caught_up():  # what waited for its start must not wait for its first rate
            raise running[0].failure(f"does not follow {_FIRST_RATE} events a second")
        yield at


async def latencies(
    stage: Stage,
    system: System,
    wanted: Input,
    folder: Path,
    *,
    rates: Sequence[int],
    warm_s: float,
    seconds: float,
) -> tuple[list[Latency], list[str]]:
    """Return the latencies at one rate after the other, and the rate that it could not follow.

    Then it ends. Raises SystemFailedError, also where tables or events are wrong in the end.
    """
    app_id = f"bench-{folder.name}"
    times: dict[int, tuple[float, float]] = {}
    problems: list[str] = []
    async with scene(stage, system, wanted, app_id, folder) as at:
        for rate in rates:
            await at.load.run(rate, warm_s)
            start_s = time.time()
            late_s = await at.load.run(rate, seconds)
            if late_s > _LATE_S:
                problems.append(f"this machine could not write {rate:,} events a second beside it")
            elif not await at.caught_up():
                problems.append(f"{label(system)} does not follow {rate:,} events a second")
            else:
                times[rate] = start_s, start_s + seconds
                continue
            break
        await Watch(stage, at.group, at.running).until(stage.total)
        oracle = await at.check(wanted.users)
        arrivals = list(at.onlooker.arrivals.values())
    await check(stage, system, app_id, oracle)
    return [_latency(rate, between, arrivals) for rate, between in times.items()], problems


def _latency(rate: int, between: tuple[float, float], arrivals: list[Arrival]) -> Latency:
    """Return the percentiles of what was due between two times. Raise ValueError if nothing was."""
    within = [each for each in arrivals if between[0] <= each.sent_s < between[1]]
    ms = sorted((each.seen_s - each.sent_s) * 1000 for each in within)
    return Latency(
        rate=rate,
        events=len(ms),
        p50=percentile(ms, 0.5),
        p99=percentile(ms, 0.99),
        max=ms[-1],
    )
