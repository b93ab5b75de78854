"""docs/performance.md: what stands between its marks is made of a run's results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from bench.charts import write_charts
from bench.losses import OURS, losses
from bench.operators.kinds import KINDS
from bench.operators.page import operators_table
from bench.results import Results, Row
from bench.tables import between, number, table, times
from streams.errors import HeadraceError

BEGIN: Final = "<!-- results: begin (made by `headrace bench report`) -->"
END: Final = "<!-- results: end -->"
_Marks: TypeAlias = tuple[str, str]
# Apart: together they take the better part of an hour.
OPERATORS: Final[Mapping[bool, _Marks]] = {
    False: (
        "<!-- operators: begin (made by `headrace bench report`) -->",
        "<!-- operators: end -->",
    ),
    True: (
        "<!-- operators of tables: begin (made by `headrace bench report`) -->",
        "<!-- operators of tables: end -->",
    ),
}
"""Between which marks operators stand: by whether tables, or topics in between, come in."""


def write_page(results: Results, page: Path) -> None:
    """Replace what stands between the marks of the page: of operators that were measured, or of all else.

    Raises HeadraceError where it has none.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise HeadraceError(f"cannot read {page}: {error.strerror}") from error
    if results.operators:
        of_tables = {kind.name for kind in KINDS if kind.has_tables}
        for has_tables, marks in OPERATORS.items():
            rows = [row for row in results.operators if (row.operator in of_tables) is has_tables]
            if rows:
                body = [_setting(results), operators_table(results, rows)]
                text = _replaced(text, page, marks, "\n\n".join(body))
    else:
        charts = write_charts(results, page.parent / "pictures")
        links = [
            (title, Path(os.path.relpath(file, page.parent)).as_posix()) for title, file in charts
        ]
        text = _replaced(text, page, (BEGIN, END), "\n\n".join(_sections(results, links)))
    page.write_text(text, encoding="utf-8")


def _replaced(text: str, page: Path, marks: _Marks, body: str) -> str:
    begin, end = marks
    before, has_begin, rest = text.partition(begin)
    _, has_end, after = rest.partition(end)
    if not has_begin or not has_end:
        raise HeadraceError(f"{page} has no marks for results: the lines {begin} and {end}")
    return f"{before}{begin}\n\n{body}\n\n{end}{after}"


def _sections(results: Results, charts: Sequence[tuple[str, str]]) -> Iterator[str]:
    yield _setting(results)
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


def _setting(results: Results) -> str:
    machine = results.machine
    versions = {row.system: row.version for row in results.rows if row.version}
    versions |= {row.label: row.version for row in results.operators if row.version}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"`{results.command}`, {results.finished_at}, on {machine.processor}, {machine.cores} cores, "
        f"{machine.memory_gb:g} GB, {machine.system}; Python {machine.python}, Java {machine.java}, "
        f"Kafka {machine.kafka}. Load in the minute before: {machine.load_before:g}.\n\n"
        f"Versions: {told}."
    )


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
    return table(header, (_catching_up(row, ours) for row in results.rows))


def _catching_up(row: Row, ours: float | None) -> tuple[str, ...]:
    return (
        row.label,
        number(row.events_per_s),
        between(row.events_per_s_lowest, row.events_per_s_highest),
        times(ours, row.events_per_s) if row.label != OURS else "",
        number(row.cpu_s_per_million, 1),
        number(row.peak_rss_mb),
        number(row.broker_bytes_per_event),
        number(row.input.events if row.input else None),
    )


def _latency(results: Results) -> str:
    rates = sorted({each.rate for row in results.rows for each in row.latencies})
    header = ("system", *(f"{rate:,}/s: p50, p99, max" for rate in rates))
    return table(
        header,
        ((row.label, *(_at(row, rate) for rate in rates)) for row in results.rows if row.latencies),
    )


def _at(row: Row, rate: int) -> str:
    for each in row.latencies:
        if each.rate == rate:
            return f"{each.p50:,.0f}, {each.p99:,.0f}, {each.max:,.0f} ms"
    return ""


def _starts(results: Results) -> str:
    return table(
        ("system", "start to first commit, s", "rows", "restored a second", "pause, ms"),
        (
            (
                row.label,
                number(row.start_s, 1),
                number(row.restored_rows),
                number(row.restore_rows_per_s),
                number(row.rebalance_pause_ms),
            )
            for row in results.rows
            if row.start_s is not None or row.rebalance_pause_ms is not None
        ),
    )


def _points(results: Results) -> str:
    ours = {(p.axis, p.value): p.events_per_s for p in results.points if p.label == OURS}
    return table(
        ("", "system", "events/s", f"{OURS} does", "peak MB", "events"),
        (
            (
                f"{point.axis} {point.value:,}",
                point.label,
                number(point.events_per_s),
                times(ours.get((point.axis, point.value)), point.events_per_s)
                if point.label != OURS
                else "",
                number(point.peak_rss_mb),
                "; ".join(point.problems) or number(point.input.events),
            )
            for point in results.points
        ),
    )


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
