"""The live view: a snapshot on a screen of any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from demo.panel import Panel
from demo.snapshot import EventRow, FlowRow, Snapshot, WorkerRow, WorkerState
from demo.view_text import (
    FAINT,
    GREEN,
    ORANGE,
    PURPLE,
    SKY_BLUE,
    VERMILLION,
    among,
    beside,
    curve,
    fit,
    right,
    rule,
    safe,
    short,
)

_KEYS = (  # first the one that nobody may miss: what is too wide is cut
    ("q", "end, check"),
    ("k 1-9", "kill -9"),
    ("s", "start"),
    ("p", "poison"),
    ("+ -", "rate"),
    ("space", "pause"),
)
_KINDS = {
    "HIGH": ("▲", ORANGE),
    "VIP": ("★", GREEN),
    "DEAD": ("✖", VERMILLION),
    "ORDER": ("◆", SKY_BLUE),
    "PAID": ("◆", SKY_BLUE),
    "UNPAID": ("◇", ORANGE),
    "SESSION": ("↔", GREEN),
    "SPIKE": ("▲", ORANGE),
    "STATS": ("≡", SKY_BLUE),
    "LATE": ("◷", VERMILLION),
    "SOLD": ("◆", SKY_BLUE),
    "LOW": ("▼", ORANGE),
    "TOP": ("★", GREEN),
    "WORTH": ("≡", GREEN),
    "PASSED": ("→", SKY_BLUE),
    "TWICE": ("✂", ORANGE),
    "RESENT": ("↻", GREEN),
}
_OTHER_KIND = ("•", PURPLE)
_STATES = {
    WorkerState.UP: ("●", GREEN),
    WorkerState.STARTING: ("◐", ORANGE),
    WorkerState.KILLED: ("✖", VERMILLION),
}
_FLOW_COLUMNS = ("in/s", "rows/s", "out/s", "out")
_CELL = 7
_FLOW_WIDTHS = (17, 19, 22)  # inputs, flow, table; in line where there is room
_OUTPUT_WIDTH = 22
_FEWEST_ROWS = 3
_ROWS_OF_A_THIRD_BAND = 6
_MOST_NAMES = 2  # of a worker's tasks; with more, they are counted
_BESIDE = 2  # panels: beside the workers, and beside the events


@dataclass(frozen=True)
class View:
    """A snapshot as rich prints it: never wider or higher than the screen."""

    now: Snapshot

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        height = options.height or console.height
        lines = _lines(self.now, options.max_width, height)
        yield Text("\n", no_wrap=True, overflow="crop").join(lines)


def _lines(now: Snapshot, width: int, height: int) -> list[Text]:
    foot = [Text(safe(now.message), style=f"bold {ORANGE}"), _keys()]
    head = [_title(now, width), *_gauges(now, width)]
    wide = width >= sum(_FLOW_WIDTHS) + len(_FLOW_COLUMNS) * _CELL + _OUTPUT_WIDTH
    flows = [rule(_flows_title(now.event_ms), width, _cells(_FLOW_COLUMNS).lstrip())]
    flows += [_flow(row, width, wide=wide) for row in now.flows]
    bands = _bands(now, width, max(0, height - len(head) - len(flows) - len(foot)))
    filled = [*head, *flows, *bands, *[Text()] * height][: max(0, height - len(foot))]
    return [fit(line, width) for line in [*filled, *foot]][:height]


def _bands(now: Snapshot, width: int, height: int) -> list[Text]:
    """Return workers and events, each beside a panel, and below these what else there is room for."""
    panels = [*now.panels, *[Panel("", "", ())] * 2]
    third = height // 3 if len(now.panels) > _BESIDE and height >= 3 * _ROWS_OF_A_THIRD_BAND else 0
    rest = max(0, height - third - 2)
    upper = max(_FEWEST_ROWS, min(max(len(now.workers), rest // 2), rest - _FEWEST_ROWS))
    lower = max(0, rest - upper)
    bands = [*_who(now, panels[0], width, upper), *_what(now, panels[1], width, lower)]
    if third:
        bands += _below(now.panels[_BESIDE:], width, third - 1)
    return bands


def _title(now: Snapshot, width: int) -> Text:
    planned = f" of {now.planned_seconds:g} s" if now.planned_seconds is not None else ""
    left = Text.assemble(
        ("headrace demo", "bold"),
        f"  {now.seconds:.0f} s{planned}  ",
        (now.phase, f"bold {SKY_BLUE}"),
    )
    counts = f"{now.records_in:,} records in  {now.records_out:,} out"
    return Text.assemble(fit(left, max(0, width - len(counts) - 1)), " ", counts)


def _flows_title(event_ms: int | None) -> str:
    if event_ms is None:
        return "flows: input → flow [table] → output"
    event_time = datetime.fromtimestamp(event_ms / 1_000, UTC)
    return f"event time {event_time:%d %b %H:%M} UTC: input → flow → output"


def _gauges(now: Snapshot, width: int) -> list[Text]:
    half = (width - 2) // 2
    lag = now.lag[-1] if now.lag else 0
    behind = VERMILLION if now.lag_s >= 1 else GREEN
    latency = (
        "-"
        if now.latency is None
        else f"p50 {short(now.latency.p50_ms)} p99 {short(now.latency.p99_ms)} ms"
    )
    left = [
        _gauge("in", f"{_last(now.in_per_s)}/s of {short(now.rate)}", now.in_per_s, SKY_BLUE, half),
        _gauge("out", f"{_last(now.out_per_s)}/s", now.out_per_s, PURPLE, half),
    ]
    right_ = [
        _gauge("lag", f"{short(lag)} records {now.lag_s:.1f} s", now.lag, behind, half),
        _gauge("latency", latency, now.latency_p99_ms, ORANGE, half),
    ]
    return beside(left, right_, half, width)


def _last(history: Sequence[float]) -> str:
    return short(history[-1] if history else 0)


def _gauge(name: str, value: str, history: Sequence[float], colour: str, width: int) -> Text:
    start = f"{name:<8}{value:<20} "
    return Text.assemble(
        (f"{name:<8}", "bold"),
        start[8:],
        (curve(history, width - len(start)), colour),
    )


def _flow(row: FlowRow, width: int, *, wide: bool) -> Text:
    """Return a flow as its way: inputs → flow [table] → output, and what goes through it."""
    cells = [row.in_per_s, row.changes_per_s, row.out_per_s, row.out]
    numbers = _cells([short(number) for number in cells])
    room = max(0, width - len(numbers))
    way = _way(row, _FLOW_WIDTHS if wide else (0, 0, 0))
    if cell_len(way.plain) > room:
        way = _way(row._replace(keeps=None), (0, 0, 0))
    return Text.assemble(fit(way, room), numbers)


def _way(row: FlowRow, widths: tuple[int, int, int]) -> Text:
    inputs = ", ".join(row.reads) + "".join(f" + [{table}]" for table in row.joins)
    table = f" [{row.keeps}]" if row.keeps else ""
    output = f" → {row.emits}" if row.emits else ""
    inputs_width, name_width, table_width = widths
    return Text.assemble(
        (f"{inputs:<{inputs_width}}", SKY_BLUE),
        " → " if row.name else "   ",
        (f"{row.name:<{name_width}}", "bold"),
        (f"{table:<{table_width}}", GREEN),
        (output, PURPLE),
    )


def _cells(texts: Sequence[str]) -> str:
    return "".join(right(text, _CELL) for text in texts)


def _who(now: Snapshot, panel: Panel, width: int, height: int) -> list[Text]:
    """Return workers and a panel, side by side, under their titles."""
    left_width = (width - 2) // 2
    workers = [rule("workers", left_width, _running(now.workers))]
    workers += among([_worker(row) for row in now.workers], height)
    others = _panel(panel, width - left_width - 2, height)
    return _filled(beside(workers, others, left_width, width), height + 1)


def _running(workers: Sequence[WorkerRow]) -> str:
    up = sum(row.state is WorkerState.UP for row in workers)
    return f"{up} of {len(workers)} up"


def _worker(row: WorkerRow) -> Text:
    symbol, colour = _STATES[row.state]
    return Text.assemble(
        (f"{row.number:>2} ", "bold"),
        (f"{symbol} {row.state.value:<10}", colour),
        f" {row.pid:>7}  ",
        (_tasks(row), FAINT if row.state is WorkerState.KILLED else ""),
    )


def _tasks(row: WorkerRow) -> str:
    """Return task ids with the numbers of one name together: orders-0,3."""
    numbers: dict[str, list[str]] = {}
    for task in row.tasks:
        name, _, number = task.rpartition("-")
        numbers.setdefault(name, []).append(number)
    told = " ".join(f"{name}-{','.join(found)}" for name, found in numbers.items())
    if len(numbers) > _MOST_NAMES:
        told = f"{len(row.tasks)} tasks"
    if row.state is WorkerState.KILLED:
        return f"had {told}" if told else ""
    return told or ("no task" if row.state is WorkerState.UP else "")


def _what(now: Snapshot, panel: Panel, width: int, height: int) -> list[Text]:
    """Return the last events and a panel side by side, under their titles."""
    left_width = (width - 2) * 2 // 3
    events = [rule("last events", left_width)]
    events += [_event(row) for row in now.events[:height]]
    others = _panel(panel, width - left_width - 2, height)
    return _filled(beside(events, others, left_width, width), height + 1)


def _below(panels: Sequence[Panel], width: int, height: int) -> list[Text]:
    """Return the first two panels side by side, or one alone."""
    first, *others = panels
    if not others:
        return _filled(_panel(first, width, height), height + 1)
    left_width = (width - 2) // 2
    right_ = _panel(others[0], width - left_width - 2, height)
    return _filled(beside(_panel(first, left_width, height), right_, left_width, width), height + 1)


def _event(row: EventRow) -> Text:
    symbol, colour = _KINDS.get(row.kind, _OTHER_KIND)
    return Text.assemble((f"{symbol} {row.kind:<5} ", colour), safe(row.text))


def _panel(panel: Panel, width: int, height: int) -> list[Text]:
    """Return a panel's title, and its rows as far as there is room."""
    rows = [_row(*row, width) for row in panel.rows]
    return [rule(panel.title, width, panel.end), *among(rows, height)]


def _row(left: str, end: str, width: int) -> Text:
    room = max(0, width - cell_len(end) - 1)
    return Text.assemble(fit(Text(safe(left)), room), " ", end)


def _keys() -> Text:
    parts = [part for key, does in _KEYS for part in ((f" {key} ", "reverse"), f" {does} ")]
    return Text.assemble(*parts)


def _filled(lines: list[Text], height: int) -> list[Text]:
    return [*lines, *[Text()] * height][:height]
