"""The charts of docs/performance.md, as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

import leather

from bench.results import Axis, Results

AXES: Final[dict[Axis, str]] = {
    "users": "Users (keys of the tables)",
    "partitions": "Partitions, one worker",
    "workers": "Workers on this machine",
    "event_bytes": "Bytes of an event",
}
_COLORS: Final = ("#1f6f8b", "#d1495b", "#7a9e7e", "#edae49", "#8d6a9f", "#5c5c5c", "#3d5a80")
_WIDTH: Final = 800
_LINES_HEIGHT: Final = 420
_BAR_HEIGHT: Final = 30
_BARS_MARGIN: Final = 140
_HEADROOM: Final = 1.05

Lines = Mapping[str, Mapping[float, float]]
"""By a system's label the values of y, by x."""


def write_charts(results: Results, folder: Path) -> list[tuple[str, Path]]:
    """Write every chart that the results have figures for; return titles and files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    rates = [(r.label, r.events_per_s) for r in results.rows if r.events_per_s is not None]
    if rates:
        title = "Catching up: events a second, median of the runs"
        height = _BARS_MARGIN + _BAR_HEIGHT * len(rates)
        written.append((title, _save(_bars(title, rates), folder, "throughput", height)))
    for name, title, lines in _all_lines(results):
        if any(len(values) > 1 for values in lines.values()):
            chart = _lines(title, lines, is_log=name != "warmth")
            written.append((title, _save(chart, folder, name, _LINES_HEIGHT)))
    return written


def _all_lines(results: Results) -> list[tuple[str, str, Lines]]:
    latency = {
        row.label: {float(each.rate): each.p99 for each in row.latencies} for row in results.rows
    }
    warmth = {
        row.label: {float(part): rate for part, rate in enumerate(row.runs[0].profile, 1)}
        for row in results.rows
        if row.runs
    }
    return [
        ("latency", "From produced to seen: p99 in ms, at so many events a second", latency),
        ("warmth", "Events a second in each tenth of the input, first run", warmth),
        *(
            (axis, f"{AXES[axis]}: events a second", _growth(results, axis))
            for axis in get_args(Axis)
        ),
    ]


def _growth(results: Results, axis: Axis) -> Lines:
    found: dict[str, dict[float, float]] = {}
    for point in results.points:
        if point.axis == axis and point.events_per_s is not None:
            found.setdefault(point.label, {})[float(point.value)] = point.events_per_s
    return found


def _bars(title: str, rates: list[tuple[str, float]]) -> Any:
    chart = leather.Chart(title)
    chart.add_x_scale(0, max(rate for _, rate in rates) * _HEADROOM)
    chart.add_x_axis(tick_formatter=_as_number)
    chart.add_bars([(rate, label) for label, rate in rates], fill_color=_COLORS[0])
    return chart


def _lines(title: str, lines: Lines, *, is_log: bool) -> Any:
    """Return a chart from zero up; where x grows by factors it is drawn so."""
    chart = leather.Chart(title)
    xs = sorted({x for values in lines.values() for x in values})
    at = {x: math.log10(x) if is_log else x for x in xs}
    names = {at[x]: f"{x:,.0f}" for x in xs}
    chart.add_x_scale(at[xs[0]], at[xs[-1]])
    chart.add_x_axis(ticks=list(names), tick_formatter=lambda tick, *_: names[tick])
    chart.add_y_scale(0, max(y for values in lines.values() for y in values.values()) * _HEADROOM)
    chart.add_y_axis(tick_formatter=_as_number)
    drawn = [(label, values) for label, values in lines.items() if values]
    for number, (label, values) in enumerate(drawn):
        points = [(at[x], y) for x, y in sorted(values.items())]
        chart.add_line(points, name=label, stroke_color=_COLORS[number % len(_COLORS)])
    return chart


def _as_number(value: float, *_: object) -> str:
    return f"{value:,.0f}"


def _save(chart: Any, folder: Path, name: str, height: int) -> Path:
    for part in ("title", "legend", "tick", "axis_title"):
        setattr(leather.theme, f"{part}_font_family", "sans-serif")
    leather.theme.background_color = "white"
    file = folder / f"bench-{name}.svg"
    chart.to_svg(str(file), width=_WIDTH, height=height)
    return file
