"""Where another system is better: said first, whoever made the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from bench.results import Results, Row

OURS: Final = "headrace-eo"
_NO_RIVALS: Final = {"headrace", "aiokafka-read"}
_SHARES: Final = ("p50", "p99")


class Measure(NamedTuple):
    """A figure of a row, and how it is told."""

    what: str
    unit: str
    more_is_better: bool
    digits: int
    of: Callable[[Row], float | None]


MEASURES: Final = (
    Measure("catching up", "events/s", True, 0, lambda row: row.events_per_s),
    Measure("CPU of a million events", "s", False, 1, lambda row: row.cpu_s_per_million),
    Measure("peak memory", "MB", False, 0, lambda row: row.peak_rss_mb),
    Measure(
        "sent to the broker for an event", "bytes", False, 0, lambda row: row.broker_bytes_per_event
    ),
    Measure("start to first commit", "s", False, 1, lambda row: row.start_s),
    Measure("restoring", "rows/s", True, 0, lambda row: row.restore_rows_per_s),
    Measure("pause of kept tasks", "ms", False, 0, lambda row: row.rebalance_pause_ms),
)


def losses(results: Results) -> list[str]:
    """Return a line for each figure in which another system that does the work is better."""
    ours = next((row for row in results.rows if row.label == OURS), None)
    if ours is None:
        return []
    others = [row for row in results.rows if row.system not in _NO_RIVALS]
    measures = [*MEASURES, *_of_latencies(ours)]
    lines = [line for measure in measures for line in _lost(measure, ours, others)]
    return [*lines, *_lost_on_curves(results)]


def _of_latencies(ours: Row) -> Iterator[Measure]:
    for latency in ours.latencies:
        for share in _SHARES:
            what = f"{share} at {latency.rate:,} events/s"
            yield Measure(what, "ms", False, 0, partial(_latency, latency.rate, share))


def _latency(rate: int, share: str, row: Row) -> float | None:
    value = next((each for each in row.latencies if each.rate == rate), None)
    return None if value is None else float(getattr(value, share))


def _lost(measure: Measure, ours: Row, others: Sequence[Row]) -> Iterator[str]:
    mine = measure.of(ours)
    if mine is None:
        return
    for row in others:
        theirs = measure.of(row)
        if theirs is not None and (theirs > mine) == measure.more_is_better and theirs != mine:
            yield (
                f"{measure.what}: {row.label} {theirs:,.{measure.digits}f} {measure.unit}, "
                f"{OURS} {mine:,.{measure.digits}f}"
            )


def _lost_on_curves(results: Results) -> Iterator[str]:
    ours = {(p.axis, p.value): p.events_per_s for p in results.points if p.label == OURS}
    for point in results.points:
        mine = ours.get((point.axis, point.value))
        if point.label != OURS and mine and point.events_per_s and point.events_per_s > mine:
            yield (
                f"catching up with {point.axis} {point.value:,}: {point.label} "
                f"{point.events_per_s:,.0f} events/s, {OURS} {mine:,.0f}"
            )
