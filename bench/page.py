"""docs/performance.md: what stands between its marks is made of a run's results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from bench.charts import write_charts
from bench.losses import OURS, losses
from bench.results import Results, Row
from streams.errors import HeadraceError

BEGIN: Final = "<!-- results: begin (made by `headrace bench report`) -->"
END: Final = "<!-- results: end -->"


def write_page(results: Results, page: Path) -> None:
    """Replace what stands between the marks of the page. Raises HeadraceError where it has none."""
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise HeadraceError(f"cannot read {page}: {error.strerror}") from error
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise HeadraceError(f"{page} has no marks for results: the lines {BEGIN} and {END}")
    charts = write_charts(results, page.parent / "pictures")
    links = [(title, Path(os.path.relpath(file, page.parent)).as_posix()) for title, file in charts]
    body = "\n\n".join(_sections(results, links))
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def _sections(results: Results, charts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield from _setting(results)
    yield "### Where others are better"
    yield _bullets(losses(results)) or f"In none of these figures was another better than {OURS}."
    yield "### Catching up"
    yield _throughput(results)
    if any(row.latencies for row in results.rows):
        yield "### Latency"
        yield _latency(results)
    if any(row.start_s or row.rebalance_pause_ms for row in results.rows):
        yield "### Starts and rebalances"
        yield _starts(results)
    if results.points:
        yield "### Growth"
        yield _points(results)
    if problems := [f"{row.label}: {p}" for row in results.rows for p in row.problems]:
        yield "### What could not be measured, or did not count"
        yield _bullets(problems)
    for title, link in charts:
        yield f"![{title}]({link})"


def _setting(results: Results) -> Iterator[str]:
    machine = results.machine
    yield (
        f"`{results.command}`, {results.finished_at}, on {machine.processor}, {machine.cores} cores, "
        f"{machine.memory_gb:g} GB, {machine.system}; Python {machine.python}, Java {machine.java}, "
        f"Kafka {machine.kafka}. Load in the minute before: {machine.load_before:g}."
    )
    versions = {row.system: row.version for row in results.rows if row.version}
    yield "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


def _throughput(results: Results) -> str:
    ours = next((row.events_per_s for row in results.rows if row.label == OURS), None)
    header = (
        "system",
        "events/s",
        "lowest to highest",
        f"{OURS} does",
        "CPU s per million",
        "peak MB",
        "bytes sent per event",
        "events",
    )
    return _table(header, (_catching_up(row, ours) for row in results.rows))


def _catching_up(row: Row, ours: float | None) -> tuple[str, ...]:
    both = f"{_number(row.events_per_s_lowest)} to {_number(row.events_per_s_highest)}"
    return (
        row.label,
        _number(row.events_per_s),
        both if row.runs else "",
        _times(ours, row.events_per_s) if row.label != OURS else "",
        _number(row.cpu_s_per_million, 1),
        _number(row.peak_rss_mb),
        _number(row.broker_bytes_per_event),
        _number(row.input.events if row.input else None),
    )


def _latency(results: Results) -> str:
    rates = sorted({each.rate for row in results.rows for each in row.latencies})
    header = ("system", *(f"{rate:,}/s: p50, p99, max" for rate in rates))
    return _table(
        header,
        ((row.label, *(_at(row, rate) for rate in rates)) for row in results.rows if row.latencies),
    )


def _at(row: Row, rate: int) -> str:
    for each in row.latencies:
        if each.rate == rate:
            return f"{each.p50:,.0f}, {each.p99:,.0f}, {each.max:,.0f} ms"
    return ""


def _starts(results: Results) -> str:
    return _table(
        ("system", "start to first commit, s", "rows", "restored a second", "pause, ms"),
        (
            (
                row.label,
                _number(row.start_s, 1),
                _number(row.restored_rows),
                _number(row.restore_rows_per_s),
                _number(row.rebalance_pause_ms),
            )
            for row in results.rows
            if row.start_s is not None or row.rebalance_pause_ms is not None
        ),
    )


def _points(results: Results) -> str:
    ours = {(p.axis, p.value): p.events_per_s for p in results.points if p.label == OURS}
    return _table(
        ("", "system", "events/s", f"{OURS} does", "peak MB", "events"),
        (
            (
                f"{point.axis} {point.value:,}",
                point.label,
                _number(point.events_per_s),
                _times(ours.get((point.axis, point.value)), point.events_per_s)
                if point.label != OURS
                else "",
                _number(point.peak_rss_mb),
                "; ".join(point.problems) or _number(point.input.events),
            )
            for point in results.points
        ),
    )


def _times(ours: float | None, theirs: float | None) -> str:
    return f"{ours / theirs:.1f} times as many" if ours and theirs else ""


def _number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
