"""Runs a plan: each part for each system in turn, on one broker; what fails is said and left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby

from bench.figures import spread
from bench.latency import latencies
from bench.measuring import Measuring
from bench.oracle import Oracle
from bench.plan import Plan
from bench.rebalance import rebalance_pause
from bench.restart import restart
from bench.results import Input, Latency, OperatorRow, Point, Results, Row, Run
from bench.stage import Stage
from bench.systems.system import CannotMeasureError, System, label
from bench.throughput import catch_up, check
from streams.errors import HeadraceError

_MOST_LATENCY_RATE = 10_000


class Bench(Measuring):
    """One run of a plan; `say` is told each step, `save` is called whenever there is more."""

    def __init__(
        self,
        plan: Plan,
        command: str,
        say: Callable[[str], None],
        save: Callable[[Results], None],
    ) -> None:
        super().__init__(command, say, save)
        self._plan = plan
        self._rows: dict[str, Row] = {}
        self._systems: list[System] = []

    async def run(self) -> Results:
        """Measure everything. Raises HeadraceError where the broker itself cannot be had."""
        self._prepare()
        with self._broker() as (kafka, data):
            async with Stage(kafka, data) as self._stage:
                await self._parts()
        return self.results

    async def _parts(self) -> None:
        parts = {
            "throughput": self._throughput,
            "latency": self._latency,
            "restart": self._restart,
            "rebalance": self._rebalance,
            "curves": self._curves,
        }
        for name, part in parts.items():
            if name in self._plan.parts:
                await part()
                self._keep()

    def _prepare(self) -> None:
        for system in self._plan.systems:
            name = label(system)
            row = Row(
                system=system.name,
                guarantee=system.guarantee,
                variant=system.variant,
                label=name,
            )
            self._rows[name] = row
            self.results.rows.append(row)
            self._say(f"{name}: making ready")
            try:
                row.version = system.prepare()
            except CannotMeasureError as error:
                self._problem(row.problems, error)
            else:
                self._systems.append(system)

    async def _throughput(self) -> None:
        plan = self._plan

        def wanted(system: System) -> Input:
            return plan.input_of(system, plan.input)

        for the_input, same in groupby(self._systems, wanted):
            systems = list(same)
            oracle = await self._load(the_input)
            for number in range(plan.runs):
                for system in systems:
                    row = self._rows[label(system)]
                    row.input = the_input
                    what = f"run {number + 1} of {plan.runs}"
                    run = await self._caught_up(system, oracle, what, row.problems)
                    if run is not None:
                        row.runs.append(run)
                self._keep()
            for system in systems:
                summarize(self._rows[label(system)])

    async def _caught_up(
        self, system: System, oracle: Oracle, what: str, problems: list[str], workers: int = 1
    ) -> Run | None:
        name = label(system)
        if problems:
            return None  # what has failed once is not tried for hours
        try:
            run = await catch_up(
                self._stage,
                system,
                self._new_folder(name),
                lambda app_id: check(self._stage, system, app_id, oracle),
                workers=workers,
            )
        except HeadraceError as error:
            self._problem(problems, error)
            return None
        self._say(
            f"{name}: {what}: {run.events_per_s:,.0f} events/s, {run.cpu_s_per_million:.1f} CPU s "
            f"per million, {run.peak_rss_mb:,.0f} MB; its output is right"
        )
        return run

    async def _latency(self) -> None:
        plan = self._plan
        for system in self._ready(plan.of_latency):
            row = self._rows[label(system)]
            # A load that it is known not to follow only takes the time until it has been worked off.
            rates = [rate for rate in plan.rates if rate <= (row.events_per_s or rate)]
            if len(rates) < len(plan.rates):
                told = f"{row.label} catches up at {row.events_per_s:,.0f} events a second"
                left_out = f"{told}: {plan.rates[len(rates)]:,} or more were not tried"
                self._problem(row.problems, HeadraceError(left_out))
            try:
                row.latencies, problems = await latencies(
                    self._stage,
                    system,
                    plan.input,
                    self._new_folder(row.label),
                    rates=rates,
                    warm_s=plan.latency_warm_s,
                    seconds=plan.latency_s,
                )
            except HeadraceError as error:
                self._problem(row.problems, error)
                continue
            for each in row.latencies:
                self._say(
                    f"{row.label}: at {each.rate:,} events/s p50 {each.p50:.0f} ms, "
                    f"p99 {each.p99:.0f} ms, max {each.max:.0f} ms"
                )
            for problem in problems:
                self._problem(row.problems, HeadraceError(problem))
            row.latency_ms = _main_latency(row.latencies)

    async def _restart(self) -> None:
        plan = self._plan
        for system in self._ready(plan.compared):
            row = self._rows[label(system)]
            await self._load(plan.restart_input)
            folder = self._new_folder(row.label)
            try:
                found = await restart(self._stage, system, plan.restart_input, folder)
            except HeadraceError as error:
                self._problem(row.problems, error)
                continue
            row.start_s, row.restored_rows = found.start_s, found.rows
            row.restore_rows_per_s = found.rows_per_s
            rate = f"{found.rows_per_s:,.0f} rows/s" if found.rows_per_s else "no time at all"
            self._say(
                f"{row.label}: first commit {found.start_s:.1f} s after a start; restoring "
                f"{found.rows:,} rows took {rate}"
            )

    async def _rebalance(self) -> None:
        plan = self._plan
        for system in self._ready(plan.compared):
            row = self._rows[label(system)]
            try:
                pause = await rebalance_pause(
                    self._stage,
                    system,
                    plan.input,
                    self._new_folder(row.label),
                    rate=plan.rebalance_rate,
                    warm_s=plan.rebalance_warm_s,
                )
            except HeadraceError as error:
                self._problem(row.problems, error)
                continue
            row.rebalance_pause_ms = pause.kept_ms
            self._say(
                f"{row.label}: a second worker took {pause.moved} tasks; the others paused for at "
                f"most {pause.kept_ms:.0f} ms"
            )

    async def _curves(self) -> None:
        plan = self._plan
        systems = {label(system): system for system in self._ready(plan.compared)}
        points = [
            Point(axis=axis, value=value, label=name, input=the_input, workers=workers)
            for axis, value, the_input, workers in plan.points()
            for name in systems
        ]
        self.results.points += points
        by_input: defaultdict[Input, list[Point]] = defaultdict(list)
        for point in points:
            by_input[point.input].append(point)
        for the_input, same in by_input.items():
            oracle = await self._load(the_input)
            measured: dict[tuple[str, int], Point] = {}
            for point in same:  # the axes meet in a point: it is measured once
                first = measured.setdefault((point.label, point.workers), point)
                if first is point:
                    await self._measure(point, systems[point.label], oracle)
                else:
                    point.runs, point.problems = list(first.runs), list(first.problems)
                    summarize(point)
            self._keep()

    async def _measure(self, point: Point, system: System, oracle: Oracle) -> None:
        what = f"{point.axis} {point.value:,}"
        for _ in range(self._plan.curve_runs):
            run = await self._caught_up(system, oracle, what, point.problems, point.workers)
            if run is not None:
                point.runs.append(run)
        summarize(point)

    def _ready(self, systems: Sequence[System]) -> list[System]:
        return [system for system in systems if system in self._systems]

    async def _load(self, the_input: Input) -> Oracle:
        self._say(
            f"writing {the_input.events:,} orders of {the_input.users:,} users, about "
            f"{the_input.event_bytes} bytes each, to {the_input.partitions} partitions"
        )
        return await self._stage.load(the_input)


def summarize(of: Row | Point | OperatorRow) -> None:
    """Set the figures of several runs: medians, and the highest memory.

    Who was wrong in one of them, or failed, has none.
    """
    if of.problems:
        of.runs.clear()
    if not of.runs:
        return
    rates = spread([run.events_per_s for run in of.runs])
    of.events_per_s = rates.median
    of.peak_rss_mb = max(run.peak_rss_mb for run in of.runs)
    if isinstance(of, Row | OperatorRow):
        of.events_per_s_lowest, of.events_per_s_highest = rates.lowest, rates.highest
        of.cpu_s_per_million = spread([run.cpu_s_per_million for run in of.runs]).median
    if isinstance(of, Row):
        of.broker_bytes_per_event = spread([run.broker_bytes_per_event for run in of.runs]).median


def _main_latency(found: Sequence[Latency]) -> Latency | None:
    rates = [each for each in found if each.rate <= _MOST_LATENCY_RATE]
    return rates[-1] if rates else None
