"""The live view, printed: what it shows at which size, and that nothing in it steers the terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from demo.panel import Panel
from demo.snapshot import (
    EventRow,
    FlowRow,
    Latency,
    Snapshot,
    WorkerRow,
    WorkerState,
)
from demo.view import View
from demo.view_text import curve, short

DEAD_LETTERS = Panel("dead letters", "19", [("invalid-field", "12"), ("undecodable", "7")])
SNAPSHOT = Snapshot(
    seconds=12.3,
    planned_seconds=30,
    phase="sending",
    rate=2_000,
    records_in=24_123,
    in_per_s=(1_000, 1_998),
    records_out=5_201,
    out_per_s=(410, 420),
    lag=(30, 124),
    lag_s=0.7,
    latency=Latency(86.2, 123.4),
    latency_p99_ms=(100, 123.4),
    flows=(
        FlowRow("users", ("users",), (), "users", None, 215, 113, None, None),
        FlowRow("rich", ("orders",), ("users",), None, "riches", 1_733, None, 17, 12_345),
    ),
    workers=(
        WorkerRow(1, 4_711, WorkerState.UP, ("orders-0", "orders-2")),
        WorkerRow(2, 4_712, WorkerState.KILLED, ("orders-3",)),
        WorkerRow(3, 4_713, WorkerState.STARTING, ()),
    ),
    panels=(
        Panel("top users", "orders", [("ada", "★ VIP  2,049    611,922.01"), ("bob", "9.99")]),
        DEAD_LETTERS,
    ),
    events=(
        EventRow("HIGH", "ada 1,791.40 USD"),
        EventRow("VIP", "ada at the 10th order"),
        EventRow("DEAD", "orders-1@1174"),
        EventRow("ORDER", "o-7 of bob"),
    ),
    message="worker-2 was killed",
)
TOLD = (
    *("12 s of 30 s", "sending", "24,123 records in", "5,201 out"),
    *("1,998/s of 2,000", "420/s", "124 records 0.7 s", "p50 86 p99 123 ms"),
    *("users → users [users]", "orders + [users] → rich → riches", "1,733", "12.3k"),
    *("1 ● up", "4711", "orders-0,2", "2 ✖ killed", "had orders-3", "3 ◐ starting"),
    *("1 of 3 up", "ada", "★ VIP  2,049    611,922.01", "9.99"),
    *("▲ HIGH  ada 1,791.40 USD", "★ VIP   ada at", "✖ DEAD  orders-1@1174", "◆ ORDER o-7"),
    *("invalid-field", "undecodable", "19", "worker-2 was killed"),
    *("k 1-9", "kill -9", "start", "poison", "rate", "pause", "end, check"),
)


def printed(snapshot: Snapshot, width: int, height: int, *, colour: bool = False) -> str:
    """Return what a terminal of that size gets; without colour, its text alone."""
    console = Console(
        width=width,
        height=height,
        file=io.StringIO(),
        force_terminal=colour,
        color_system="truecolor" if colour else None,
    )
    console.print(View(snapshot), end="")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 50)])
def test_it_shows_everything(width: int, height: int) -> None:
    text = words(printed(SNAPSHOT, width, height))
    assert [told for told in TOLD if words(told) not in text] == []


@pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 81, 140, 300])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 24, 50])
def test_it_is_as_large_as_the_screen(width: int, height: int) -> None:
    lines = printed(SNAPSHOT, width, height).splitlines()
    assert len(lines) <= height
    assert {cell_len(line) for line in lines} <= {width}


WINDOWS = replace(
    SNAPSHOT,
    flows=(
        FlowRow(
            "order_payments",
            ("orders", "payments"),
            (),
            "order_payments",
            "order-payments",
            *(1_978, 815, 493, 3_071),
        ),
        FlowRow("", (), (), None, "unpaid-orders", None, None, 7, 99),
    ),
    events=(EventRow("SESSION", "ada 1.0 min"), EventRow("PAID", "o-1 of ada")),
    panels=(
        Panel("late records", "100", [("order_stats", "82"), ("user_sessions", "18")]),
        DEAD_LETTERS,
    ),
    event_ms=1_763_715_600_000,
)
TOLD_OF_WINDOWS = (
    *("orders, payments → order_payments", "→ order-payments", "→ unpaid-orders - - 7 99"),
    *("late records", "100", "order_stats", "82", "user_sessions", "18"),
    *("event time 21 Nov 09:00 UTC", "SESSION ada 1.0 min", "PAID  o-1 of ada"),
)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (140, 50)])
def test_it_shows_each_output_of_a_flow_and_late_records_where_there_are_such(
    width: int, height: int
) -> None:
    text = words(printed(WINDOWS, width, height))
    assert [told for told in TOLD_OF_WINDOWS if words(told) not in text] == []


def test_what_there_is_no_room_for_beside_workers_and_events_stands_below_them() -> None:
    more = (Panel("low stock", "1", [("oak chair", "3")]), Panel("fourth", "", [("a", "b")]))
    snapshot = replace(SNAPSHOT, panels=(*SNAPSHOT.panels, *more))
    low, high = printed(snapshot, 80, 24), printed(snapshot, 80, 40)
    assert "dead letters" in low
    assert "low stock" not in low
    assert all(
        told in words(high) for told in ("dead letters", "low stock", "oak chair 3", "fourth")
    )
    three = printed(replace(snapshot, panels=snapshot.panels[:3]), 80, 40)
    assert "oak chair" in three
    assert "fourth" not in three


def test_a_worker_with_tasks_of_many_names_has_their_number() -> None:
    tasks = ("orders-0", "order-lines-0", "products-0", "products-1")
    rows = (WorkerRow(1, 4_711, WorkerState.KILLED, tasks),)
    assert "had 4 tasks" in printed(replace(SNAPSHOT, workers=rows), 80, 24)


def test_keys_are_shown_however_low_the_screen_is() -> None:
    assert "end, check" in printed(SNAPSHOT, 80, 2)


@pytest.mark.parametrize("width", [20, 40, 79])
def test_however_narrow_the_screen_is_it_tells_how_to_end_it(width: int) -> None:
    assert " q  end, check" in printed(SNAPSHOT, width, 24)


def test_before_anything_has_happened_it_shows_nothing_of_it() -> None:
    empty = Snapshot(
        seconds=0,
        planned_seconds=None,
        phase="sending",
        rate=2_000,
        records_in=0,
        in_per_s=(),
        records_out=0,
        out_per_s=(),
        lag=(),
        lag_s=0,
        latency=None,
        latency_p99_ms=(),
        flows=(),
        workers=(),
        panels=(),
        events=(),
        message="",
    )
    text = words(printed(empty, 80, 24))
    assert "0/s of 2,000" in text
    assert "lag 0 records 0.0 s" in text
    assert "latency -" in text


@pytest.mark.parametrize(
    "name",
    ["[red]ada[/red]", "[/]", "ada\x1b[2J\x1b]0;x\x07", "a\nb", "a\tb", "ä\u202eb", "顧客" * 30],
)
def test_a_key_that_looks_like_markup_or_steers_a_terminal_is_text(name: str) -> None:
    snapshot = replace(
        SNAPSHOT,
        panels=(Panel("top users", "", [(name, "1")]), Panel("dead letters", "", [(name, "1")])),
        events=(EventRow("VIP", name),),
        message=name,
    )
    text = printed(snapshot, 140, 30)
    shown = "".join(c if c.isprintable() else "\ufffd" for c in name)
    assert text.count(shown[:15]) >= 4
    assert set(text) & set("\x1b\x07\t\u202e") == set()
    assert {cell_len(line) for line in text.splitlines()} == {140}


def test_what_does_not_fit_is_counted() -> None:
    workers = tuple(WorkerRow(n, 4_000 + n, WorkerState.UP, ()) for n in range(1, 17))
    reasons = Panel("dead letters", "", [(f"reason-{n}", "1") for n in range(40)])
    panels = (SNAPSHOT.panels[0], reasons)
    text = printed(replace(SNAPSHOT, workers=workers, panels=panels), 80, 24)
    assert "16 of 16 up" in text
    assert text.count("... and ") == 2


def test_a_worker_s_tasks_are_told_by_their_names() -> None:
    tasks = ("orders-0", "orders-10", "sums-3")
    rows = (WorkerRow(1, 4_711, WorkerState.UP, tasks), WorkerRow(2, 4_712, WorkerState.UP, ()))
    text = printed(replace(SNAPSHOT, workers=rows), 140, 24)
    assert "orders-0,10 sums-3" in text
    assert "no task" in text


def test_without_colours_symbols_and_words_tell_the_same() -> None:
    assert "\x1b[38;2;" in printed(SNAPSHOT, 80, 24, colour=True)
    console = Console(
        width=80, height=24, file=io.StringIO(), force_terminal=True, _environ={"NO_COLOR": "1"}
    )
    console.print(View(SNAPSHOT), end="")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert all(symbol in text for symbol in "●✖◐▲★◆")
    codes = {code for found in re.findall(r"\x1b\[([\d;]*)m", text) for code in found.split(";")}
    assert codes <= {"0", "1", "2", "7"}  # bold, faint and reverse are no colours


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (None, "-"),
        (0, "0"),
        (9_999, "9,999"),
        (9_999.6, "10.0k"),
        (99_949, "99.9k"),
        (99_951, "100k"),
        (999_499, "999k"),
        (999_501, "1.0M"),
        (12_345_678, "12.3M"),
        (2e9, "2.0G"),
    ],
)
def test_a_large_number_is_short(number: float | None, told: str) -> None:
    assert short(number) == told


def test_a_curve_is_as_high_as_its_highest_number() -> None:
    assert curve((0, 1, 2, 4, 8), 5) == "▁▂▃▅█"
    assert curve((8, 1, 2), 2) == "▅█"
    assert curve((0, 0), 5) == "▁▁"
    assert curve((), 5) == ""
    assert curve((1, 2), 0) == ""
