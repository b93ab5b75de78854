"""The demo's course: Kafka, workers, orders, and the check of everything that came of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition

from config.kafka_client import kafka_client_options
from config.settings import Settings
from demo.changelogs import Changelogs
from demo.ending import EndSignals
from demo.event_clock import EventClock
from demo.groups import GROUPS, Wanted
from demo.load import Load, now_ms
from demo.observer import Observer
from demo.pace import Pace
from demo.readback import Verdict, read_disk, read_topics, topics_of
from demo.report import Reading, Report
from demo.screen import Screen
from demo.show import Show
from demo.watched import APP_ID, MAIN_GROUP
from demo.workers import Workers
from streams.broker import EmbeddedKafka
from streams.engine.admin import partition_counts
from streams.errors import HeadraceError
from streams.prepare import prepare_topics

T = TypeVar("T")
_POLL_S = 0.1
_COMMITS_POLL_S = 0.2
_CONNECT_TIMEOUT_S = 15.0
_JOIN_TIMEOUT_S = 45.0
_DRAIN_TIMEOUT_S = 60.0
# The default's 10 s, until the tasks of a killed worker move on, are long to look at. Other Kafkas
# may not allow less than 6 s.
_SESSION_TIMEOUT_MS = 3_000


class Plan(NamedTuple):
    """What is asked for; without `seconds` it goes on until a signal ends it."""

    seconds: float | None = None
    rate: int = 2_000
    workers: int = 2
    partitions: int = 4
    seed: int | None = None
    poison: float = 0.005
    users: int = 2_000
    group: str = MAIN_GROUP.name


def run_demo(plan: Plan, settings: Settings, ends: EndSignals, screen: Screen | None = None) -> int:
    """Run the demo, live on a screen if there is one; return 0 if all that came out is right, else 1.

    Whatever ends it, nothing that it started is left. Its folder is left only after a failure.
    Raises HeadraceError, or EndedBySignal.
    """
    report = Report()
    _quiet_libraries()
    if screen is None and sys.stdout.isatty():
        report.note(f"no live view here: keys do nothing, {_end_of(plan)}")
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    keep = False
    try:
        with _kafka(settings, folder / "kafka") as known:
            verdict = ends.run(_Demo(plan, known, folder, report).run(ends, screen))
        keep = bool(verdict.differences)
    except Exception:
        keep = True
        raise
    finally:
        if keep and any(folder.iterdir()):
            report.kept(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return int(keep)


def _end_of(plan: Plan) -> str:
    """Say how a demo ends that nobody steers."""
    if plan.seconds is None:
        return "and Ctrl-C ends it, without the check that --seconds N ends with"
    return f"and it ends after {plan.seconds:g} s, with the check (Ctrl-C: at once, without it)"


@contextlib.contextmanager
def _kafka(settings: Settings, folder: Path) -> Iterator[Settings]:
    """Yield settings that name a Kafka whose topics are free for the demo."""
    if settings.kafka_brokers:
        yield settings
        return
    kafka = EmbeddedKafka(folder)
    kafka.start()
    try:
        known: dict[str, Any] = {"kafka_brokers": tuple(kafka.bootstrap.split(","))}
        if "kafka_session_timeout_ms" not in settings.model_fields_set:
            known["kafka_session_timeout_ms"] = _SESSION_TIMEOUT_MS
        yield settings.model_copy(update=known)
    finally:
        kafka.stop(term_timeout_s=0)  # nobody needs its data any more


def _quiet_libraries() -> None:
    """Without --verbose, what goes wrong is said once: by the error that it ends in."""
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class _Demo:
    """One run on a Kafka that is there."""

    def __init__(self, plan: Plan, settings: Settings, folder: Path, report: Report) -> None:
        self._plan = plan
        self._settings = settings
        self._client = {**kafka_client_options(settings), "client_id": APP_ID}
        self._report = report
        self._demo = GROUPS[plan.group]
        self._group = self._demo.watched
        self._sights = self._demo.sights()
        self._workers = Workers(folder, settings, self._group)
        self._pace = Pace(plan.rate)
        course = self._demo.course
        self._event_clock = None if course is None else EventClock(now_ms, course)

    async def run(self, ends: EndSignals, screen: Screen | None) -> Verdict:
        """Send records and check what came of them; without an end in the plan, never return."""
        await refuse_used_topics(self._client, (*self._topics(), *self._group.between))
        self._report.note(f"starting the workers: {self._plan.workers} ...")
        try:
            for _ in range(self._plan.workers):
                self._workers.start()
            partitions = await self._prepare()
            load = self._load(partitions)
            observer = Observer(self._client, partitions, load.times, self._group, self._sights)
            async with observer, load:
                await _alongside(
                    self._course(load, observer, partitions, ends, screen),
                    observer.follow(),
                    self._workers.watch(),
                )
            self._report.note("stopping the workers, and reading everything back ...")
            await self._workers.stop()
            return await self._check(partitions, load, observer)
        finally:
            self._workers.end()

    async def _prepare(self) -> int:
        return await prepare_topics(
            self._group.topology,
            self._client,
            application_id=self._group.app_id,
            default_partitions=self._plan.partitions,
            replication_factor=self._settings.kafka_replication_factor,
            create=self._settings.kafka_auto_create_topics,
        )

    def _topics(self) -> tuple[str, ...]:
        return topics_of(self._group.app_id, self._group)

    def _load(self, partitions: int) -> Load:
        """Return what sends records."""
        plan = self._plan
        seed = secrets.randbelow(1_000_000) if plan.seed is None else plan.seed
        traffic = self._demo.traffic(Wanted(seed, plan.users, plan.poison))
        return Load(self._client, partitions, traffic, self._event_clock)

    async def _course(
        self,
        load: Load,
        observer: Observer,
        partitions: int,
        ends: EndSignals,
        screen: Screen | None,
    ) -> None:
        """Wait for the workers, send, and wait until they have committed all of it."""
        tasks = await self._joined(observer)
        for worker in self._workers.all():
            self._report.tasks(worker.label, map(self._group.plain, tasks[worker.client_id]))
        work = self._sent_and_done(load, observer)
        if self._event_clock is not None:
            work = _alongside(work, self._follow_commits(self._event_clock, observer))
        if screen is None:
            await _alongside(work, self._tell(load, observer))
        else:
            async with self._changelogs(partitions) as changelogs:
                show = Show(
                    planned_seconds=self._plan.seconds,
                    pace=self._pace,
                    load=load,
                    observer=observer,
                    changelogs=changelogs,
                    workers=self._workers,
                    watched=self._group,
                    sights=self._sights,
                    event_clock=self._event_clock,
                )
                with ends.interrupt_means(self._pace.end):
                    await _alongside(work, show.run(screen), changelogs.follow())
        if screen is None:
            await self._tell_once(load, observer)

    def _changelogs(self, partitions: int) -> Changelogs:
        return Changelogs(self._client, partitions, self._group, self._sights)

    async def _follow_commits(self, clock: EventClock, observer: Observer) -> None:
        """Let event time go on as the workers do, without end."""
        while True:
            standings = await observer.standings()
            offsets = {tp: at.committed for tp, at in standings.items()}
            clock.committed(offsets, {tp: standings[tp] for tp in observer.between})
            await asyncio.sleep(_COMMITS_POLL_S)

    async def _joined(self, observer: Observer) -> dict[str, list[str]]:
        """Return the partitions of each worker by client id, when all that run have their share."""
        deadline = time.monotonic() + _JOIN_TIMEOUT_S
        while (tasks := await observer.tasks()) is None or tasks.keys() != self._known():
            if time.monotonic() > deadline:
                raise HeadraceError(f"the workers have not joined within {_JOIN_TIMEOUT_S:g} s")
            await asyncio.sleep(_POLL_S)
        return tasks

    def _known(self) -> set[str]:
        return {worker.client_id for worker in self._workers.running()}

    async def _sent_and_done(self, load: Load, observer: Observer) -> None:
        await load.run(self._pace, self._plan.seconds)
        self._pace.end()
        if not self._workers.running():
            self._workers.start()
        # One that was started a moment ago must be there before it can be ended in order.
        await self._joined(observer)
        least = await observer.lag()
        deadline = time.monotonic() + _DRAIN_TIMEOUT_S
        while (lag := await observer.lag()) > 0:
            if lag < least:
                least, deadline = lag, time.monotonic() + _DRAIN_TIMEOUT_S
            if time.monotonic() > deadline:
                raise HeadraceError(
                    f"{lag:,} records wait, and for {_DRAIN_TIMEOUT_S:g} s none was committed"
                )
            await asyncio.sleep(_POLL_S)

    async def _tell(self, load: Load, observer: Observer) -> None:
        due = time.monotonic()
        while True:
            due += 1
            await asyncio.sleep(due - time.monotonic())
            await self._tell_once(load, observer)

    async def _tell_once(self, load: Load, observer: Observer) -> None:
        reading = Reading(
            seconds=load.seconds,
            records=load.sent,
            derived=observer.derived,
            dead_letters=observer.counts[self._group.dead_letters],
            late=observer.late.total() if self._group.late_records else None,
            lag=await observer.lag(),
            latencies_ms=observer.take_new_latencies_ms(),
        )
        self._report.reading(reading, {**observer.latest, **load.latest})

    async def _check(self, partitions: int, load: Load, observer: Observer) -> Verdict:
        group = self._group
        records = await read_topics(self._client, self._topics(), partitions)
        disk = read_disk(self._workers.data_folders(), partitions, group)
        verdict = await asyncio.to_thread(self._demo.check, records, disk, group.app_id)
        if lost := load.sent - sum(len(r) for tp, r in records.items() if tp.topic in group.inputs):
            verdict.differences.insert(0, f"{lost} of the records sent are not in the topics")
        self._report.summary(
            verdict.actual,
            records=load.sent,
            skipped=verdict.expected.skipped.total(),
            late_are=group.late_are,
            seconds=load.seconds,
            latencies_ms=list(observer.latencies_ms),
            remarks=verdict.remarks,
        )
        if verdict.differences:
            self._report.different(verdict.differences)
        else:
            self._report.equal()
        return verdict


async def refuse_used_topics(client: Mapping[str, Any], topics: tuple[str, ...]) -> None:
    """Raise HeadraceError if one of the topics holds, or has held, records."""
    counts = await partition_counts(client, topics, timeout_s=_CONNECT_TIMEOUT_S)
    found = [TopicPartition(name, number) for name, n in counts.items() for number in range(n)]
    if not found:
        return
    consumer = AIOKafkaConsumer(**client)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(found)
    finally:
        await consumer.stop()
    if used := sorted({tp.topic for tp, end in ends.items() if end > 0}):
        raise HeadraceError(
            f"the demo needs empty topics, but this cluster has records in {', '.join(used)}: "
            "delete them, or unset KAFKA_BROKERS for an embedded Kafka"
        )


async def _alongside(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, None]) -> T:
    """Return what work returns, while the endless others run; the first error of any is raised."""
    main = asyncio.ensure_future(work)
    beside = [asyncio.ensure_future(endless) for endless in others]
    everything: list[asyncio.Future[Any]] = [main, *beside]
    try:
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
        for other in beside:
            if other.done():
                await other
        return await main
    finally:
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)
