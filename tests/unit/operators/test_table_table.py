"""Joins of two tables by key: what the joined table is, and when a change of it is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.joins import Kind
from streams.operators.table_table import Cell, Cells, Change, TableTableJoin, cells_codec

Side: TypeAlias = Literal["left", "right"]
Row: TypeAlias = Cells[int, int]
Join: TypeAlias = TableTableJoin[int, int]
KINDS: tuple[Kind, ...] = ("inner", "left", "outer")
ENCODE, DECODE = cells_codec(int, int)


class Event(NamedTuple):
    side: Side
    key: str
    timestamp: int
    value: int | None


class JsonRows(dict[str, Row]):
    """Rows of which each `get` is a new one, read from JSON."""

    def get(self, key: str, /) -> Row | None:  # type: ignore[override]
        row = super().get(key)
        return row and DECODE(ENCODE(row))


def key_of(event: Event) -> str:
    return event.key


def value_of(event: Any) -> Any:
    return event.value


def join_of(kind: Kind) -> Join:
    return TableTableJoin(
        kind=kind, left_key=key_of, left_value=value_of, right_key=key_of, right_value=value_of
    )


def add(join: Join, events: Iterable[Event], rows: JsonRows) -> list[Change[int, int]]:
    told = []
    for side, group in groupby(events, lambda event: event.side):
        told += (join.add_left if side == "left" else join.add_right)(group, rows)
    return told


def left(value: int | None, time_ms: int = 0) -> Event:
    return Event("left", "k", time_ms, value)


def right(value: int | None, time_ms: int = 0) -> Event:
    return Event("right", "k", time_ms, value)


def told(kind: Kind, *events: Event) -> list[tuple[int | None, int | None]]:
    changes = add(join_of(kind), events, JsonRows())
    assert all(
        change.is_deletion == ((change.left, change.right) == (None, None)) for change in changes
    )
    return [(change.left, change.right) for change in changes]


#   changes     left 1      right 2     left 3      left -      right -
#   left has    1           1           3           -           -
#   right has   -           2           2           2           -
GONE = (None, None)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [(1, 2), (3, 2), GONE]),
        ("left", [(1, None), (1, 2), (3, 2), GONE]),
        ("outer", [(1, None), (1, 2), (3, 2), (None, 2), GONE]),
    ],
)
def test_each_change_of_either_side_is_told_where_the_kind_has_a_row(
    kind: Kind, expected: list[Any]
) -> None:
    assert told(kind, left(1), right(2), left(3), left(None), right(None)) == expected


#   changes     right 1     left 2      right -     right 3     left -
#   right has   1           1           -           3           3
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [(2, 1), GONE, (2, 3), GONE]),
        ("left", [(2, 1), (2, None), (2, 3), GONE]),
        ("outer", [(None, 1), (2, 1), (2, None), (2, 3), (None, 3)]),
    ],
)
def test_the_right_side_may_come_first_and_go(kind: Kind, expected: list[Any]) -> None:
    assert told(kind, right(1), left(2), right(None), right(3), left(None)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_is_told_once_and_only_if_there_was_something(kind: Kind) -> None:
    assert told(kind, left(None), right(None)) == []
    assert told(kind, left(1), right(2), left(None), right(None), left(None))[-1] == GONE
    assert told(kind, left(1), right(2), left(None), right(None), left(None)).count(GONE) == 1
    assert told("inner", right(1), left(None), right(None)) == []


def test_a_change_to_the_same_value_is_told() -> None:
    assert told("inner", left(1), right(2), right(2)) == [(1, 2), (1, 2)]


#   come as     left at 10      right at 5      left at 3      right deleted at 4
#   told at                     10              5              4
def test_the_later_of_the_two_times_is_told_and_the_order_of_coming_counts() -> None:
    events = [left(1, 10), right(2, 5), left(3, 3), right(None, 4)]
    assert add(join_of("inner"), events, JsonRows()) == [
        Change("k", 1, 2, 10, events[1]),
        Change("k", 3, 2, 5, events[2]),
        Change("k", None, None, 4, events[3]),
    ]


def test_rows_are_json() -> None:
    row: Row = Cells(Cell(10, 1))
    assert ENCODE(row) == b'{"left":[10,1],"right":null}'
    assert DECODE(ENCODE(row)) == row


def test_there_are_three_kinds() -> None:
    kind: Any = "right"
    with pytest.raises(
        ValueError, match=r"^a join's kind is one of inner, left, outer, not right$"
    ):
        join_of(kind)


# -- laws ------------------------------------------------------------------------------------------


EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from(["left", "right"]),
        st.sampled_from("aab"),
        st.integers(0, 20),
        st.none() | st.integers(0, 2),
    ),
    max_size=24,
)
CUTS = st.lists(st.integers(0, 24), max_size=6)


class Tables(NamedTuple):
    left: dict[str, Event]
    right: dict[str, Event]

    def joined(self, kind: Kind) -> dict[str, tuple[Event | None, Event | None]]:
        """Return the joined table as a whole."""
        keys = {
            "inner": self.left.keys() & self.right.keys(),
            "left": self.left.keys(),
            "outer": self.left.keys() | self.right.keys(),
        }
        return {key: (self.left.get(key), self.right.get(key)) for key in keys[kind]}


def plain(kind: Kind, events: Sequence[Event]) -> tuple[list[Change[int, int]], dict[str, Row]]:
    """Join as the definition says it: the whole table before and after each event."""
    tables = Tables({}, {})
    changes: list[Change[int, int]] = []
    for event in events:
        before = tables.joined(kind)
        side = tables.left if event.side == "left" else tables.right
        side.pop(event.key, None)
        if event.value is not None:
            side[event.key] = event
        after = tables.joined(kind).get(event.key)
        both = (tables.left.get(event.key), tables.right.get(event.key))
        time_ms = max(event.timestamp, *(one.timestamp for one in both if one), 0)
        if after is not None:
            left_value, right_value = (None if one is None else one.value for one in after)
            changes.append(Change(event.key, left_value, right_value, time_ms, event))
        elif event.key in before:
            changes.append(Change(event.key, None, None, time_ms, event))
    rows = {
        key: Cells(*(one and Cell(one.timestamp, one.value) for one in both))
        for key, both in tables.joined("outer").items()
    }
    return changes, rows  # type: ignore[return-value] # values that are there are no None


@given(st.sampled_from(KINDS), EVENTS, CUTS)
def test_changes_and_rows_are_what_the_definition_says_however_the_input_is_cut(
    kind: Kind, events: list[Event], cuts: list[int]
) -> None:
    rows = JsonRows()
    changes: list[Change[int, int]] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        changes += add(join_of(kind), events[begin:end], rows)
    assert (changes, dict(rows)) == plain(kind, events)
