"""Windows in columns: what they tell, and what is late, is as windows in rows have it, however it is cut."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.aggregates import (
    Aggregate,
    collect,
    count,
    highest,
    lowest,
    mean,
    several,
    total,
    variance,
)
from streams.operators.columns import WindowedColumns
from streams.operators.panes import PaneAggregation, PaneDict
from streams.operators.timed import Late, TimedDict
from streams.operators.windowing import HoppingWindows, Open, WindowAggregation, Windowed
from streams.operators.windows import TumblingWindows
from tests.unit.operators.cuts import CUTS, EVENTS, GRACES, Event, at, key_of

Windows = TumblingWindows | HoppingWindows


def value_of(event: Event) -> int:
    return event.n


SEVERAL: Aggregate[Event, Any, Any] = several(
    n=count(),
    sum=total(value_of),
    low=lowest(value_of),
    high=highest(value_of),
    mean=mean(value_of),
    spread=variance(value_of),
    inner=several(times=count(), mean=mean(lambda event: -event.n)),
)


def told_in_columns(
    windows: Windows,
    aggregate: Aggregate[Event, Any, Any],
    events: Sequence[Event],
    cuts: Iterable[int] = (),
) -> tuple[list[Windowed[Any]], PaneDict[Event, Any]]:
    """Add events in the steps that an engine takes, cut once more; return what closes, and what is left."""
    operator = PaneAggregation[Event, Any](windows, aggregate, key=key_of)
    rows = PaneDict(operator)
    told = []
    for begin, end in pairwise([0, *sorted(cuts), len(events)]):
        for portion in rows.steps(events[begin:end]):
            operator.add(iter(portion), rows)
            told += rows.fire()
    return told, rows


def told_in_rows(
    windows: Windows, aggregate: Aggregate[Event, Any, Any], events: Sequence[Event]
) -> tuple[list[Windowed[Any]], list[Late]]:
    operator = WindowAggregation[Event, Any, Any](windows, aggregate, key=key_of)
    rows: TimedDict[Open[Any]] = TimedDict()
    told = []
    for event in events:
        operator.add([event], rows)
        told += rows.fire(operator.fire)
    return told, rows.late


#   0    5    10   15   20
#   |-- 0 ----|              7 is in two windows; 12 in two, one of them the same
#        |-- 0, 1 -|
#             |-- 1 ----|
def test_a_window_is_told_of_all_its_panes_when_it_closes() -> None:
    told, rows = told_in_columns(HoppingWindows(10, 5, 0), count(), at(7, 12, 20))
    assert told == [("a", 0, 10, 1), ("a", 5, 15, 2), ("a", 10, 20, 1)]
    assert [*rows.as_dict()] == [("a", 20)]


#   0    5    10   15 16
#   |---------|      '- now, grace 1: [0, 10) and, at 16, [5, 15) have closed and are told
#        |- 12 ----|
#             |- 12, 11 -|     11 comes late for [5, 15): that is told before 11 is in its pane
def test_an_event_is_not_in_a_window_that_closed_before_it_came() -> None:
    events = at(12, 16, 11, 30)
    told, rows = told_in_columns(HoppingWindows(10, 5, 1), count(), events)
    assert told == [("a", 5, 15, 1), ("a", 10, 20, 3), ("a", 15, 25, 1)]
    assert rows.late == [Late(events[2], 5, 15, 0)]


def test_nothing_is_added_of_an_event_that_is_late_for_all() -> None:
    told, rows = told_in_columns(TumblingWindows(10, 0), count(), [*at(50), Event(0, "b")])
    assert told == []
    assert [*rows.as_dict()] == [("a", 50)]
    assert len(rows.late) == 1


def test_results_are_by_start_then_by_key() -> None:
    events = [Event(time_ms, key) for time_ms, key in ((10, "b"), (0, "é"), (1, "b"), (1, "a"))]
    told, _ = told_in_columns(TumblingWindows(10, 100), count(), [*events, Event(500, "c")])
    assert [(key, start_ms) for key, start_ms, *_ in told] == [
        ("a", 0), ("b", 0), ("é", 0), ("b", 10),
    ]  # fmt: skip


def test_without_events_nothing_is_told() -> None:
    assert told_in_columns(TumblingWindows(10, 0), count(), [])[0] == []


def test_a_row_is_json_with_a_number_each() -> None:
    operator = PaneAggregation[Event, Any](TumblingWindows(10, 0), SEVERAL, key=key_of)
    [row] = operator.encode([2], [2**70], [-3], [5], [0], [1], [-(2**64)], [7])
    assert row == (
        b'{"events":2,"sum":1180591620717411303424,"low":-3,"high":5,"mean":0,"spread_total":1,'
        b'"spread_squares":-18446744073709551616,"inner":7}'
    )
    assert operator.encode([], [], [], [], [], [], [], []) == []
    assert operator.decode(row).spread_squares == -(2**64)


def test_what_memory_has_and_what_was_read_of_a_pane_are_told_together() -> None:
    aggregate = several(sum=total(value_of), low=lowest(value_of))
    operator = PaneAggregation[Event, Any](HoppingWindows(10, 5, 0), aggregate, key=key_of)
    rows = PaneDict(operator)
    operator.add([Event(1, "b", 7), Event(2, "b", -1), Event(6, "a", 3)], rows)
    row_type = operator.row_type
    first, second = (operator.pane_in(rows._columns, start_ms) for start_ms in (0, 5))
    whole = first.with_rows(
        operator.pane_of(["a", "c"], [row_type(1, 2**70, 2**70), row_type(2, 5, 2)])
    )
    closed = operator.close(0, [whole, second])
    assert closed.told(0, len(closed)) == [
        ("a", 0, 10, {"sum": 2**70 + 3, "low": 3}),
        ("b", 0, 10, {"sum": 6, "low": -1}),
        ("c", 0, 10, {"sum": 5, "low": 2}),
    ]
    assert closed.told(1, 2) == [("b", 0, 10, {"sum": 6, "low": -1})]


def test_of_a_row_of_which_no_event_stayed_nothing_is_told() -> None:
    operator = PaneAggregation[Event, Any](TumblingWindows(10, 0), lowest(value_of), key=key_of)
    columns: WindowedColumns[Any] = WindowedColumns(operator.row_type, operator.panes)
    columns.rows_at(["a"], np.array([0])).add("events", 1)
    columns.accept()
    columns.rows_at(["b", "a"], np.array([0, 0])).add("events", 1)
    columns.undo()
    closed = operator.close(0, [operator.pane_in(columns, 0)])
    assert [result.key for result in closed.told(0, len(closed))] == ["a"]


@pytest.mark.parametrize(
    ("windows", "aggregate", "line"),
    [
        (
            HoppingWindows(10, 3, 0),
            count(),
            "size_ms 10 is no multiple of advance_ms 3: such windows are for WindowAggregation",
        ),
        (
            TumblingWindows(10, 0),
            several(n=count(), all=collect(value_of, 3)),
            (
                "only count, total, lowest, highest, mean, variance and several of them are kept in "
                "columns: others are for WindowAggregation"
            ),
        ),
        (
            TumblingWindows(10, 0),
            several(events=total(value_of)),
            "two numbers of a row would be called events: rename an aggregate",
        ),
    ],
)
def test_what_cannot_be_kept_in_columns_is_refused(
    windows: Windows, aggregate: Aggregate[Event, Any, Any], line: str
) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        PaneAggregation(windows, aggregate, key=key_of)


def test_a_value_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(TypeError):
        told_in_columns(TumblingWindows(10, 0), total(lambda _: 0.5), at(1))  # type: ignore[arg-type, return-value]


# -- laws ------------------------------------------------------------------------------------------


@st.composite
def hopping(draw: st.DrawFn) -> HoppingWindows:
    advance_ms = draw(st.integers(1, 12))
    return HoppingWindows(advance_ms * draw(st.integers(1, 5)), advance_ms, draw(GRACES))


WINDOWS = hopping() | st.builds(TumblingWindows, size_ms=st.integers(1, 12), grace_ms=GRACES)
VALUES = st.integers(-5, 5) | st.sampled_from(
    [2**62, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**70, -(2**70)]
)


@given(WINDOWS, EVENTS, st.lists(VALUES, min_size=30, max_size=30), CUTS)
def test_they_are_as_windows_in_rows_for_any_cut(
    windows: Windows, events: list[Event], values: list[int], cuts: list[int]
) -> None:
    events = [event._replace(n=value) for event, value in zip(events, values, strict=False)]
    for aggregate in (SEVERAL, count(), total(value_of), lowest(value_of), mean(value_of)):
        expected = told_in_rows(windows, aggregate, events)
        for some in ([], cuts, range(len(events))):
            told, rows = told_in_columns(windows, aggregate, events, some)
            assert (told, rows.late) == expected
