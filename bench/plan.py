"""What is measured: parts, inputs, how often. `FULL` is for figures, `QUICK` shows that it works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from bench.results import Axis, Input
from bench.systems.all import ALL
from bench.systems.system import System, label

Part: TypeAlias = Literal["throughput", "latency", "restart", "rebalance", "curves"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

_FEWEST_EVENTS: Final = 2_000
_COMPARED: Final = {"headrace-eo", "kafka-streams-eo"}
"""Of whom also restarts, rebalances and curves are shown: both exactly once, a thread each."""


@dataclass(frozen=True)
class Plan:
    """One run of the bench."""

    systems: tuple[System, ...]
    parts: tuple[Part, ...]
    input: Input
    runs: int
    rates: tuple[int, ...]
    latency_warm_s: float
    latency_s: float
    latency_all: bool
    """Of all systems that do the work and are no variants; else of those that are compared."""
    restart_input: Input
    rebalance_rate: int
    rebalance_warm_s: float
    curve_input: Input
    curve_runs: int
    curves: tuple[tuple[Axis, tuple[int, ...]], ...]

    def input_of(self, system: System, wanted: Input) -> Input:
        """Return the input that a system gets: a slow one a part of the events."""
        if system.share >= 1:
            return wanted
        events = max(_FEWEST_EVENTS, round(wanted.events * system.share))
        return msgspec.structs.replace(wanted, events=events)

    @property
    def compared(self) -> tuple[System, ...]:
        """Those of the chosen systems that more is measured of."""
        return tuple(system for system in self.systems if label(system) in _COMPARED)

    @property
    def of_latency(self) -> tuple[System, ...]:
        """Those of the chosen systems whose latency is measured."""
        if not self.latency_all:
            return self.compared
        return tuple(s for s in self.systems if s.does_the_work and not s.variant)

    def points(self) -> list[tuple[Axis, int, Input, int]]:
        """Return each point of the curves: axis, value, input, workers."""
        found: list[tuple[Axis, int, Input, int]] = []
        for axis, values in self.curves:
            for value in values:
                if axis == "workers":
                    found.append((axis, value, self.curve_input, value))
                else:
                    found.append((axis, value, self._varied(axis, value), 1))
        return found

    def _varied(self, axis: Axis, value: int) -> Input:
        wanted = msgspec.structs.replace(self.curve_input, **{axis: value})
        if axis != "users":
            return wanted
        # Each user about once at least, so that the tables have nearly as many rows.
        return msgspec.structs.replace(wanted, events=max(wanted.events, value))


FULL: Final = Plan(
    systems=ALL,
    parts=PARTS,
    # Half of it is warm-up: Kafka Streams was at its pace after one million events (the chart by
    # tenths shows it).
    input=Input(events=4_000_000, users=10_000, partitions=4, event_bytes=400),
    runs=3,
    rates=(1_000, 10_000, 50_000),
    latency_warm_s=10.0,
    latency_s=20.0,
    latency_all=True,
    restart_input=Input(events=2_000_000, users=1_000_000, partitions=4, event_bytes=400),
    rebalance_rate=10_000,
    rebalance_warm_s=3.0,
    curve_input=Input(events=2_000_000, users=10_000, partitions=4, event_bytes=400),
    curve_runs=1,
    curves=(
        ("partitions", (4, 8, 16, 32)),
        ("workers", (1, 2)),
        ("event_bytes", (200, 400, 1000)),
        ("users", (10_000, 100_000, 1_000_000, 10_000_000)),
    ),
)
_TINY: Final = Input(events=20_000, users=1_000, partitions=4, event_bytes=400)
QUICK: Final = replace(
    FULL,
    input=_TINY,
    runs=1,
    rates=(500,),
    latency_warm_s=0.5,
    latency_s=1.5,
    latency_all=False,
    restart_input=Input(events=10_000, users=5_000, partitions=4, event_bytes=400),
    rebalance_rate=1_000,
    rebalance_warm_s=1.0,
    curve_input=_TINY,
    curves=(
        ("users", (5_000,)),
        ("partitions", (8,)),
        ("workers", (2,)),
        ("event_bytes", (1000,)),
    ),
)
