"""Measures operators: each kind's input once, and each system at it in turn, on one broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from bench.measuring import Measuring
from bench.operators.inputs import placed, records
from bench.operators.kinds import KINDS, RESULTS, Kind
from bench.operators.oracle import (
    Key,
    Outcome,
    Placed,
    ResultJson,
    as_table,
    differences,
    outcomes,
    read_result,
)
from bench.operators.systems import HeadraceOperator, KafkaStreamsOperator
from bench.processes import SystemFailedError
from bench.results import OperatorRow, Results
from bench.run import summarize
from bench.stage import Stage
from bench.systems.system import CannotMeasureError, label
from bench.throughput import catch_up
from streams.errors import HeadraceError

_PARTITIONS: Final = 4
_System: TypeAlias = HeadraceOperator | KafkaStreamsOperator


@dataclass(frozen=True)
class OperatorsPlan:
    """What is measured, and how often. `events` are those of a kind whose share is 1."""

    kinds: Sequence[Kind]
    events: int
    runs: int
    held_back_share: float
    """Of the input's time: what closes in the last of it, Kafka Streams may not have told yet."""


# Kafka Streams looks once a second for what has closed: up to a fourth of the input was done meanwhile.
FULL: Final = OperatorsPlan(KINDS, events=1_200_000, runs=3, held_back_share=0.34)
QUICK: Final = OperatorsPlan(KINDS, events=20_000, runs=1, held_back_share=1.0)


class OperatorsBench(Measuring):
    """One run of a plan; `say` is told each step, `save` is called whenever there is more."""

    def __init__(
        self,
        plan: OperatorsPlan,
        command: str,
        say: Callable[[str], None],
        save: Callable[[Results], None],
    ) -> None:
        super().__init__(command, say, save)
        self._plan = plan

    async def run(self) -> Results:
        """Measure everything. Raises HeadraceError where the broker itself cannot be had."""
        with self._broker() as (kafka, data):
            for kind in self._plan.kinds:
                stage = Stage(kafka, data, inputs=kind.inputs, outputs=(RESULTS,))
                async with stage as self._stage:
                    await self._measure(kind)
                self._keep()
        return self.results

    async def _measure(self, kind: Kind) -> None:
        events = max(1_000, round(self._plan.events * kind.share))
        self._say(f"{kind.name}: writing {events:,} events of {kind.users:,} users")
        end_ms = round(time.time() * 1000)
        await self._stage.fill(records(kind, events, end_ms), _PARTITIONS)
        self._expected = await self._expect(kind)
        self._end_ms = end_ms
        begin_ms = min(outcome.due_ms for outcome in self._expected.values()) - 1
        self._sure_ms = end_ms - round((end_ms - begin_ms) * self._plan.held_back_share)
        rows = list(self._rows(kind, self._stage.total))
        runs = 1 if kind.is_ours_alone else self._plan.runs
        for number in range(runs):
            for system, row in rows:
                await self._caught_up(system, row, f"run {number + 1} of {runs}")
        for _, row in rows:
            summarize(row)

    def _rows(self, kind: Kind, events: int) -> Iterator[tuple[_System, OperatorRow]]:
        """Yield the systems that do a kind, made ready, with their rows."""
        systems: list[_System] = [HeadraceOperator("exactly_once", kind=kind)]
        if not kind.is_ours_alone:
            systems.append(KafkaStreamsOperator("exactly_once", kind=kind))
        for system in systems:
            row = OperatorRow(
                operator=kind.name, label=label(system), version="", events=events, users=kind.users
            )
            self.results.operators.append(row)
            try:
                row.version = system.prepare()
            except CannotMeasureError as error:
                self._problem(row.problems, error)
            yield system, row

    async def _caught_up(self, system: _System, row: OperatorRow, what: str) -> None:
        if row.problems:
            return  # what has failed once is not tried for hours
        folder = self._new_folder(row.label)
        try:
            run = await catch_up(
                self._stage,
                system,
                folder,
                lambda _: self._check(system),
                has_between=system.kind.is_rekeyed,
            )
        except HeadraceError as error:
            self._problem(row.problems, error)
            return
        row.runs.append(run)
        self._say(
            f"{row.operator}: {row.label}: {what}: {run.events_per_s:,.0f} events/s, "
            f"{run.cpu_s_per_million:.1f} CPU s per million, {run.peak_rss_mb:,.0f} MB; its results are right"
        )

    async def _check(self, system: _System) -> None:
        """Compare a system's results with what must come of the input. Raises SystemFailedError."""
        results: Iterable[ResultJson] = [
            read_result(record.value)
            for partition in range(_PARTITIONS)
            async for some in self._stage.read([RESULTS], partition)
            for record in some
        ]
        kind = system.kind
        if kind.tells_changes:
            results = as_table(results)
        is_held_back = kind.waits and isinstance(system, KafkaStreamsOperator)
        until_ms = self._sure_ms if is_held_back else self._end_ms
        if wrong := list(differences(self._expected, results, until_ms=until_ms)):
            raise SystemFailedError(f"{label(system)}: its results are wrong: {'; '.join(wrong)}")

    async def _expect(self, kind: Kind) -> dict[Key, Outcome]:
        # By partition, as systems work; what is re-keyed meets across them.
        expected: dict[Key, Outcome] = {}
        together = [range(_PARTITIONS)] if kind.is_rekeyed else [[p] for p in range(_PARTITIONS)]
        for partitions in together:
            orders, *others = [await self._placed(kind, topic, partitions) for topic in kind.inputs]
            expected |= outcomes(kind, orders, others[0] if others else [])
        return expected

    async def _placed(self, kind: Kind, topic: str, partitions: Iterable[int]) -> list[Placed]:
        return [
            placed(kind, topic, record.value)
            for partition in partitions
            async for some in self._stage.read([topic], partition)
            for record in some
        ]
