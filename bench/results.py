"""What a run of the bench leaves: the form of its JSON (docs/contract.md has the part to rely on)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from bench.systems.system import Guarantee
from streams.errors import HeadraceError

Axis: TypeAlias = Literal["users", "partitions", "workers", "event_bytes"]


class Input(msgspec.Struct, frozen=True, kw_only=True):
    """The orders that a system is given."""

    events: int
    users: int
    partitions: int
    event_bytes: int


class Run(msgspec.Struct, kw_only=True):
    """One catching up, its output found right."""

    events_per_s: float
    measured_events: int
    """Those between the two commits that the rate is of; the ones before were its warm-up."""
    cpu_s_per_million: float
    peak_rss_mb: float
    broker_bytes_per_event: float
    profile: list[float]
    """Events a second in each tenth of the input: flat where the system was warm."""


class Latency(msgspec.Struct, kw_only=True):
    """From produced to seen by a read_committed reader, at a rate of events a second; in ms."""

    rate: int
    events: int
    p50: float
    p99: float
    max: float


class Row(msgspec.Struct, kw_only=True):
    """A system with a guarantee. What was not measured, or did not count, is None or empty."""

    system: str
    guarantee: Guarantee
    variant: str = ""
    label: str
    version: str = ""
    input: Input | None = None
    events_per_s: float | None = None
    """The median of the runs."""
    events_per_s_lowest: float | None = None
    events_per_s_highest: float | None = None
    cpu_s_per_million: float | None = None
    peak_rss_mb: float | None = None
    """All processes of the system together; the highest of the runs."""
    broker_bytes_per_event: float | None = None
    latency_ms: Latency | None = None
    """At 10,000 events a second, or the highest rate below that was measured."""
    runs: list[Run] = []
    latencies: list[Latency] = []
    start_s: float | None = None
    """From the start of the process, its state on disk, to the first commit."""
    restored_rows: int | None = None
    restore_rows_per_s: float | None = None
    rebalance_pause_ms: float | None = None
    """The longest time without an event from a task that its worker kept as a second one joined."""
    problems: list[str] = []


class Point(msgspec.Struct, kw_only=True):
    """One value on an axis, for one system; all else as in the rows."""

    axis: Axis
    value: int
    label: str
    input: Input
    workers: int
    runs: list[Run] = []
    events_per_s: float | None = None
    peak_rss_mb: float | None = None
    problems: list[str] = []


class OperatorRow(msgspec.Struct, kw_only=True):
    """One operator of one system; see bench/operators."""

    operator: str
    """As tables show it: `hopping 5 min / 1 min`."""
    label: str
    version: str
    events: int
    users: int
    runs: list[Run] = []
    events_per_s: float | None = None
    """The median of the runs."""
    events_per_s_lowest: float | None = None
    events_per_s_highest: float | None = None
    cpu_s_per_million: float | None = None
    peak_rss_mb: float | None = None
    problems: list[str] = []


class Machine(msgspec.Struct, kw_only=True):
    """What it ran on."""

    processor: str
    cores: int
    memory_gb: float
    system: str
    python: str
    java: str
    kafka: str
    load_before: float
    """Processes that wanted to run in the minute before: above 1, something else ran as well."""


class Results(msgspec.Struct, kw_only=True):
    """All of it."""

    machine: Machine
    command: str
    finished_at: str
    """Date and time, UTC."""
    rows: list[Row] = []
    points: list[Point] = []
    operators: list[OperatorRow] = []

    def save(self, file: Path) -> None:
        """Write it, whole or not at all. Raises HeadraceError."""
        draft = file.with_name(f"{file.name}.draft")
        try:
            draft.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")
            draft.replace(file)
        except OSError as error:
            raise HeadraceError(f"cannot write {file}: {error.strerror}") from error


def load_results(file: Path) -> Results:
    """Return what `save` wrote. Raises HeadraceError."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Results)
    except OSError as error:
        raise HeadraceError(f"cannot read {file}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise HeadraceError(f"{file} holds no results of the bench: {error}") from error
