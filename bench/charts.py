"""The charts of docs/performance.md, as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import pygal
from pygal.style import Style

from bench.results import Axis, Results

AXES: Final[dict[Axis, str]] = {
    "users": "Users (keys of the tables)",
    "partitions": "Partitions, one worker",
    "workers": "Workers on this machine",
    "event_bytes": "Bytes of an event",
}
_STYLE: Final = Style(
    background="white",
    plot_background="white",
    font_family="sans-serif",
    colors=("#1f6f8b", "#d1495b", "#7a9e7e", "#edae49", "#8d6a9f", "#5c5c5c"),
)


def write_charts(results: Results, folder: Path) -> list[tuple[str, Path]]:
    """Write every chart that the results have figures for; return titles and files."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = [_throughput(results), _latency(results), _warmth(results), *_curves(results)]
    written = []
    for name, chart in charts:
        if chart.raw_series:
            file = folder / f"bench-{name}.svg"
            file.write_bytes(chart.render() + b"\n")
            written.append((str(chart.title), file))
    return written


def _throughput(results: Results) -> tuple[str, Any]:
    chart = _chart(pygal.HorizontalBar, "Catching up: events a second, median of the runs")
    chart.show_legend = False
    rows = [row for row in results.rows if row.events_per_s is not None]
    chart.x_labels = [row.label for row in rows]
    if rows:
        chart.add("events/s", [row.events_per_s for row in rows])
    return "throughput", chart


def _latency(results: Results) -> tuple[str, Any]:
    chart = _chart(pygal.Bar, "From produced to seen: p99 in ms, by events a second")
    rates = sorted({each.rate for row in results.rows for each in row.latencies})
    chart.x_labels = [f"{rate:,}" for rate in rates]
    for row in results.rows:
        found = {each.rate: each.p99 for each in row.latencies}
        if found:
            chart.add(row.label, [found.get(rate) for rate in rates])
    return "latency", chart


def _warmth(results: Results) -> tuple[str, Any]:
    chart = _chart(pygal.Line, "Events a second in each tenth of the input, first run")
    chart.x_labels = [str(part) for part in range(1, 11)]
    for row in results.rows:
        if row.runs:
            chart.add(row.label, row.runs[0].profile)
    return "warmth", chart


def _curves(results: Results) -> list[tuple[str, Any]]:
    return [(axis, _curve(results, axis)) for axis in get_args(Axis)]


def _curve(results: Results, axis: Axis) -> Any:
    chart = _chart(pygal.Bar, f"{AXES[axis]}: events a second")
    values = sorted({point.value for point in results.points if point.axis == axis})
    chart.x_labels = [f"{value:,}" for value in values]
    by_label: dict[str, dict[int, float | None]] = {}
    for point in results.points:
        if point.axis == axis:
            by_label.setdefault(point.label, {})[point.value] = point.events_per_s
    _add(chart, by_label, values)
    return chart


def _add(
    chart: Any, by_label: Mapping[str, Mapping[int, float | None]], values: Sequence[int]
) -> None:
    for label, found in by_label.items():
        chart.add(label, [found.get(value) for value in values])


def _chart(kind: Any, title: str) -> Any:
    chart = kind(style=_STYLE, js=[], width=800, height=420, legend_at_bottom=True)
    chart.title = title
    chart.value_formatter = lambda value: f"{value:,.0f}"
    return chart
