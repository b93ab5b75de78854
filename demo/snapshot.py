"""How the demo stands at one moment: all that the live view shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from demo.panel import Panel


class WorkerState(Enum):
    """Where a worker process is in its life; the value is the word for it."""

    UP = "up"
    STARTING = "starting"
    KILLED = "killed"


class FlowRow(NamedTuple):
    """A flow of streams/topology.py, and what goes through it. None: it has no such thing.

    Of a flow with several outputs each but the first has a row of its own, in which the rest is empty.
    """

    name: str
    reads: tuple[str, ...]
    joins: tuple[str, ...]
    keeps: str | None
    emits: str | None
    in_per_s: float | None
    """Records of its inputs that were committed."""
    changes_per_s: float | None
    """Changed rows of its table."""
    out_per_s: float | None
    out: int | None


class WorkerRow(NamedTuple):
    """A worker process. Of a killed one `tasks` are those that Kafka still takes for its own."""

    number: int
    pid: int
    state: WorkerState
    tasks: tuple[str, ...]


class EventRow(NamedTuple):
    """Something that came out: its kind, a word in capitals, and what it says."""

    kind: str
    text: str


class Latency(NamedTuple):
    """From sent to seen by a reader downstream, ms."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Counts are since the start, histories have their newest number last."""

    seconds: float
    planned_seconds: float | None
    phase: str
    """What goes on, in a few words."""
    rate: int
    """Records a second that are to be sent."""
    records_in: int
    in_per_s: Sequence[float]
    """The history: here and below."""
    records_out: int
    out_per_s: Sequence[float]
    lag: Sequence[int]
    lag_s: float
    """For how long the oldest record has waited that is not committed yet."""
    latency: Latency | None
    latency_p99_ms: Sequence[float]
    flows: Sequence[FlowRow]
    workers: Sequence[WorkerRow]
    panels: Sequence[Panel]
    """What there is to see of the group, the most important first: as many as there is room for."""
    event_ms: int | None = None
    """Event time, where it is not that of the clock: ms since 1970 UTC."""
    events: Sequence[EventRow]
    """Newest first."""
    message: str
    """What the last key did, for a while."""
