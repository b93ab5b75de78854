"""The live view at work: looks at everything twice a second, and does what keys ask for."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from demo.changelogs import Changelogs
from demo.event_clock import EventClock
from demo.keys import Command, Do
from demo.load import Load
from demo.looks import Look, flow_rows, waited_s
from demo.observer import Observer
from demo.pace import Pace
from demo.panel import Sights, counts
from demo.poison import Subject
from demo.report import news, quantile
from demo.screen import Screen
from demo.snapshot import EventRow, Latency, Snapshot, WorkerRow, WorkerState
from demo.watched import MAIN_GROUP, Watched
from demo.workers import Worker, Workers
from streams.engine.layout import subtopologies

_LOOK_S = 0.5
_LOOKS_A_RATE = 3  # a rate is that between the newest look and the last but one before it
_KEPT_LOOKS = 240
_KEPT_EVENTS = 100
_MESSAGE_S = 8.0
_MOST_A_SECOND = 50_000


class Show:
    """One showing, from the first order to the last commit."""

    def __init__(
        self,
        *,
        planned_seconds: float | None,
        pace: Pace,
        load: Load,
        observer: Observer,
        changelogs: Changelogs,
        workers: Workers,
        watched: Watched,
        sights: Sights,
        event_clock: EventClock | None = None,
    ) -> None:
        self._planned_seconds = planned_seconds
        self._pace = pace
        self._load = load
        self._observer = observer
        self._changelogs = changelogs
        self._workers = workers
        self._watched = watched
        self._sights = sights
        self._event_clock = event_clock
        self._looks: deque[Look] = deque(maxlen=_KEPT_LOOKS)
        self._in_per_s: deque[float] = deque(maxlen=_KEPT_LOOKS)
        self._out_per_s: deque[float] = deque(maxlen=_KEPT_LOOKS)
        self._lag: deque[int] = deque(maxlen=_KEPT_LOOKS)
        self._latency: Latency | None = None
        self._p99_ms: deque[float] = deque(maxlen=_KEPT_LOOKS)
        self._events: deque[EventRow] = deque(maxlen=_KEPT_EVENTS)
        self._told: dict[str, str] = {}
        self._tasks: Mapping[str, Sequence[str]] = {}
        self._bursts = 0
        self._message = ""
        self._message_until_s = math.inf
        self._draw: Callable[[Snapshot], None] = _nowhere

    async def run(self, screen: Screen) -> None:
        """Show it without end."""
        with screen.shown(self._obey) as draw:
            self._draw = draw
            while True:
                await self._look()
                draw(self._snapshot())
                await asyncio.sleep(_LOOK_S)

    # -- what is asked for ----------------------------------------------------------------------

    def _obey(self, command: Command) -> None:
        if not self._pace.ended:
            self._message = self._done(command)
            shown_s = math.inf if command.do is Do.END else _MESSAGE_S
            self._message_until_s = time.monotonic() + shown_s
            self._draw(self._snapshot())

    def _done(self, command: Command) -> str:
        """Do it; return what was done."""
        pace = self._pace
        match command.do:
            case Do.KILL:
                return self._killed(command.number)
            case Do.START:
                worker = self._workers.start()
                return f"{worker.label} was started" if worker else "there are enough workers"
            case Do.POISON:
                return self._poisoned()
            case Do.FASTER:
                pace.change(rate=min(2 * pace.rate, max(_MOST_A_SECOND, pace.rate)))
            case Do.SLOWER:
                pace.change(rate=max(1, pace.rate // 2))
            case Do.PAUSE:
                pace.change(paused=not pace.paused)
                return "nothing is sent until space is hit again" if pace.paused else "it goes on"
            case Do.END:
                pace.end()
                return "ending: what was sent is processed and committed, then all of it is checked"
        return f"{pace.rate:,} records a second"

    def _killed(self, number: int | None) -> str:
        worker = self._workers.kill(number)
        if worker is None:
            return f"worker-{number} does not run" if number else "no worker runs: s starts one"
        rest = "others take over its tasks" if self._workers.running() else "s starts one again"
        return f"{worker.label} was killed with kill -9: {rest}"

    def _poisoned(self) -> str:
        self._bursts += 1
        now_ms, poisons = time.time_ns() // 1_000_000, self._load.poisons
        subjects = [
            Subject(b"poison-%d-%d" % (self._bursts, number), b"user-%d" % number, now_ms)
            for number in range(1, len(poisons) + 1)
        ]
        self._pace.add_burst(
            (poison.topic, *poison.make(subject))
            for poison, subject in zip(poisons, subjects, strict=True)
        )
        return f"{len(poisons)} kinds of poison were sent, one record each"

    # -- what there is to see -------------------------------------------------------------------

    async def _look(self) -> None:
        standings = await self._observer.standings()
        self._tasks = await self._observer.tasks() or self._tasks
        look = Look(
            at_s=time.monotonic(),
            sent=self._load.sent,
            seen=self._observer.counts.copy(),
            changes=self._changelogs.changes.copy(),
            standings=standings,
        )
        self._looks.append(look)
        before = self._before()
        self._in_per_s.append(look.per_s(before, before.sent, look.sent))
        self._out_per_s.append(look.per_s(before, before.seen.total(), look.seen.total()))
        self._lag.append(sum(max(0, at.end - at.committed) for at in standings.values()))
        if latencies_ms := sorted(self._observer.take_new_latencies_ms()):
            self._latency = Latency(quantile(latencies_ms, 0.5), quantile(latencies_ms, 0.99))
            self._p99_ms.append(self._latency.p99_ms)
        self._take_event()

    def _before(self) -> Look:
        return self._looks[-min(len(self._looks), _LOOKS_A_RATE)]

    def _take_event(self) -> None:
        """Take one of the newest events, another kind each time: a person can follow so many."""
        if text := news({**self._observer.latest, **self._load.latest}, self._told):
            kind, _, said = text.partition(" ")
            self._events.appendleft(EventRow(kind, said.strip()))

    def _snapshot(self) -> Snapshot:
        look, before, watched = self._looks[-1], self._before(), self._watched
        return Snapshot(
            seconds=self._load.seconds,
            planned_seconds=self._planned_seconds,
            phase=self._phase(),
            rate=0 if self._pace.paused else self._pace.rate,
            records_in=look.sent,
            in_per_s=tuple(self._in_per_s),
            records_out=look.seen.total(),
            out_per_s=tuple(self._out_per_s),
            lag=tuple(self._lag),
            lag_s=waited_s(self._looks),
            latency=self._latency,
            latency_p99_ms=tuple(self._p99_ms),
            flows=[
                row
                for flow in watched.topology.flows
                for row in flow_rows(flow, before, look, watched.plain)
            ],
            workers=[self._worker_row(worker) for worker in self._workers.all()],
            panels=[
                *self._sights.panels(self._observer.late),
                counts("dead letters", self._observer.reasons),
            ],
            event_ms=self._event_clock() if self._event_clock else None,
            events=tuple(self._events),
            message=self._message if time.monotonic() < self._message_until_s else "",
        )

    def _phase(self) -> str:
        if self._pace.ended:
            return "ending"
        return "paused" if self._pace.paused else "sending"

    def _worker_row(self, worker: Worker) -> WorkerRow:
        tasks = tasks_of(self._tasks.get(worker.client_id, ()), self._watched)
        if worker.killed:
            state = WorkerState.KILLED
        elif worker.client_id in self._tasks:
            state = WorkerState.UP
        else:
            state = WorkerState.STARTING
        return WorkerRow(worker.number, worker.process.pid, state, tasks)


def tasks_of(partitions: Sequence[str], watched: Watched = MAIN_GROUP) -> tuple[str, ...]:
    """Return the ids of the tasks that read these input partitions (`orders-3`)."""
    numbers = {int(partition.rpartition("-")[2]) for partition in partitions}
    return tuple(
        watched.plain(subtopology.task_id(number))
        for subtopology in subtopologies(watched.topology)
        for number in sorted(numbers)
        if f"{subtopology.inputs[0].name}-{number}" in partitions
    )


def _nowhere(_snapshot: Snapshot) -> None:
    """Nothing is shown yet."""
