"""Joins by foreign key: what the joined table is, when a change is told, and what its index holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators import foreign_key
from streams.operators.foreign_key import (
    PAGE_KEYS,
    ForeignKeyJoin,
    LeftRow,
    Lefts,
    Page,
    RightRow,
    Row,
    foreign_key_codec,
)
from streams.operators.stream_table import TableJoinKind
from streams.operators.table_table import Change

Side: TypeAlias = Literal["left", "right"]
KINDS: tuple[TableJoinKind, ...] = ("inner", "left")


class Named(msgspec.Struct, frozen=True):
    """A left value: it names a right key, or nothing."""

    right: str | None
    number: int = 0


class Event(NamedTuple):
    side: Side
    key: str
    timestamp: int
    value: Any


Join: TypeAlias = ForeignKeyJoin[Named, int]
ENCODE, DECODE = foreign_key_codec(Named, int)


class JsonRows(dict[str, Row[Named, int]]):
    """Rows of which each `get` is a new one, read from JSON; and which were written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[str] = set()

    def get(self, key: str, /) -> Row[Named, int] | None:  # type: ignore[override]
        row = super().get(key)
        return row and DECODE(ENCODE(row))

    def __setitem__(self, key: str, row: Row[Named, int], /) -> None:
        self.written.add(key)
        super().__setitem__(key, row)

    def __delitem__(self, key: str, /) -> None:
        self.written.add(key)
        super().__delitem__(key)


def key_of(event: Event) -> str:
    return event.key


def value_of(event: Any) -> Any:
    return event.value


def join_of(kind: TableJoinKind) -> Join:
    return ForeignKeyJoin(
        kind=kind,
        left_key=key_of,
        left_value=value_of,
        foreign_key=lambda value: value.right,
        right_key=key_of,
        right_value=value_of,
    )


def add(join: Join, events: Iterable[Event], rows: JsonRows) -> list[Change[Named, int]]:
    told = []
    for side, group in groupby(events, lambda event: event.side):
        told += (join.add_left if side == "left" else join.add_right)(group, rows)
    return told


def left(key: str, *value: Any, time_ms: int = 0) -> Event:
    """Return a left row's change: the right key that it names, and its number; or its deletion."""
    return Event("left", key, time_ms, Named(*value) if value else None)


def right(key: str, value: int | None, time_ms: int = 0) -> Event:
    return Event("right", key, time_ms, value)


class Story:
    def __init__(self, kind: TableJoinKind) -> None:
        self.join = join_of(kind)
        self.rows = JsonRows()

    def tell(self, *events: Event) -> list[tuple[str, int | None, int | None]]:
        """Return the key of each change, the left number and the right value."""
        changes = add(self.join, events, self.rows)
        return [(c.key, None if c.left is None else c.left.number, c.right) for c in changes]


#   left    a -> x     b -> x     c -> y
#   right   x: 1, then x: 2
@pytest.mark.parametrize("kind", KINDS)
def test_a_change_on_the_right_changes_all_rows_that_name_it(kind: TableJoinKind) -> None:
    story = Story(kind)
    story.tell(left("a", "x", 7), left("b", "x", 8), left("c", "y", 9))
    assert story.tell(right("x", 1)) == [("a", 7, 1), ("b", 8, 1)]
    assert story.tell(right("x", 2)) == [("a", 7, 2), ("b", 8, 2)]
    assert story.tell(right("z", 3)) == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("inner", []), ("left", [("a", 7, None), ("b", 8, None)])]
)
def test_what_names_nothing_or_nobody_is_a_row_of_a_left_join_alone(
    kind: TableJoinKind, expected: list[Any]
) -> None:
    assert Story(kind).tell(left("a", None, 7), left("b", "x", 8)) == expected


#   a -> x     x: 1       a -> y      y: 2       a -> None    a deleted
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [("a", 7, 1), ("a", None, None), ("a", 8, 2), ("a", None, None)]),
        (
            "left",
            [
                ("a", 7, None),
                ("a", 7, 1),
                ("a", 8, None),
                ("a", 8, 2),
                ("a", 9, None),
                ("a", None, None),
            ],
        ),
    ],
)
def test_a_row_that_names_another_is_joined_with_that(
    kind: TableJoinKind, expected: list[Any]
) -> None:
    story = Story(kind)
    told = story.tell(left("a", "x", 7), right("x", 1), left("a", "y", 8), right("y", 2))
    told += story.tell(left("a", None, 9), left("a"))
    assert told == expected
    assert story.tell(right("x", 3), right("y", 4)) == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("inner", [("a", None, None)]), ("left", [("a", 7, None)])]
)
def test_a_right_row_that_goes_leaves_the_left_alone_or_nothing(
    kind: TableJoinKind, expected: list[Any]
) -> None:
    story = Story(kind)
    story.tell(left("a", "x", 7), right("x", 1))
    assert story.tell(right("x", None)) == expected
    assert story.tell(right("x", None)) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_deletion_is_told_once_and_only_if_there_was_something(kind: TableJoinKind) -> None:
    story = Story(kind)
    assert story.tell(left("a"), right("x", 1), right("x", None), right("x", None)) == []
    assert story.tell(right("x", 1), left("a", "x", 7), left("a"), left("a")) == [
        ("a", 7, 1),
        ("a", None, None),
    ]
    assert story.tell(right("x", None)) == []
    assert story.rows == {}


#   come as    a at 10     x at 5     x at 20     a at 12     a deleted at 11     x deleted at 30
#   told at    -           10         20          20          20                  -
def test_the_later_of_the_two_times_is_told() -> None:
    events = [left("a", "x", time_ms=10), right("x", 1, 5), right("x", 2, 20)]
    events += [left("a", "x", time_ms=12), left("a", time_ms=11), right("x", None, 30)]
    changes = add(join_of("inner"), events, JsonRows())
    assert [change.time_ms for change in changes] == [10, 20, 20, 20]


#   x is named by many: page 0 [a0 ... a63], page 1 [a64 ... a127], page 2 [a128]
#   a3 goes:            page 0 [.. a128 ..]                         page 2 gone
def test_a_left_row_changes_few_rows_however_many_name_the_same() -> None:
    story = Story("inner")
    count = 2 * PAGE_KEYS + 1
    story.tell(right("x", 1), *(left(f"a{n}", "x", n) for n in range(count)))
    story.rows.written.clear()
    assert story.tell(left("a3")) == [("a3", None, None)]
    assert story.rows.written == {"left/a3", "left/a128", "lefts/x", "page/0/x", "page/2/x"}
    assert len(story.tell(right("x", 2))) == count - 1
    assert max(len(row.keys) for row in story.rows.values() if isinstance(row, Page)) == PAGE_KEYS
    story.rows.written.clear()
    story.tell(left("a9", "x", 10))
    assert story.rows.written == {"left/a9"}


def test_rows_are_json() -> None:
    rows: list[tuple[Row[Named, int], bytes]] = [
        (
            LeftRow(1, Named("x", 2), "x", 3),
            b'{"type":"left","time_ms":1,"value":{"right":"x","number":2},"foreign_key":"x","place":3}',
        ),
        (RightRow(1, 2), b'{"type":"right","time_ms":1,"value":2}'),
        (Lefts(2), b'{"type":"lefts","count":2}'),
        (Page(("a", "b")), b'{"type":"page","keys":["a","b"]}'),
    ]
    for row, text in rows:
        assert ENCODE(row) == text
        assert DECODE(text) == row


def test_there_are_two_kinds() -> None:
    kind: Any = "outer"
    with pytest.raises(ValueError, match=r"^a join's kind is one of inner, left, not outer$"):
        join_of(kind)


# -- laws ------------------------------------------------------------------------------------------


LEFTS = st.builds(
    Event,
    st.just("left"),
    st.sampled_from("abcdef"),
    st.integers(0, 20),
    st.none() | st.builds(Named, st.sampled_from(["x", "x", "y", None]), st.integers(0, 2)),
)
RIGHTS = st.builds(
    Event,
    st.just("right"),
    st.sampled_from("xyz"),
    st.integers(0, 20),
    st.none() | st.integers(0, 2),
)
EVENTS = st.lists(LEFTS | RIGHTS, max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=6)


class Tables(NamedTuple):
    left: dict[str, Event]
    right: dict[str, Event]

    def joined(self, kind: TableJoinKind) -> dict[str, tuple[Event, Event | None]]:
        """Return the joined table as a whole."""
        both = {key: (row, self.right.get(row.value.right)) for key, row in self.left.items()}
        return {key: row for key, row in both.items() if kind == "left" or row[1] is not None}


def plain(
    kind: TableJoinKind, events: Sequence[Event]
) -> tuple[list[list[Change[Named, int]]], Tables]:
    """Join as the definition says it: the whole table before and after each event. Changes by key."""
    tables = Tables({}, {})
    told: list[list[Change[Named, int]]] = []
    for event in events:
        before, was = tables.joined(kind), dict(tables.right)
        side = tables.left if event.side == "left" else tables.right
        side.pop(event.key, None)
        if event.value is not None:
            side[event.key] = event
        after = tables.joined(kind)
        if event.side == "left":
            touched = [event.key]
        elif event.key in was or event.key in tables.right:
            touched = [k for k, row in tables.left.items() if row.value.right == event.key]
        else:
            touched = []
        changes = []
        for key in sorted(touched):
            if key in after:
                row, other = after[key]
                times = [event.timestamp, row.timestamp, *([other.timestamp] if other else [])]
                value = None if other is None else other.value
                changes.append(Change(key, row.value, value, max(times), event))
            elif key in before:
                row, other = before[key]
                rest = other if event.side == "left" else row
                time_ms = max(event.timestamp, rest.timestamp if rest else 0)
                changes.append(Change(key, None, None, time_ms, event))
        told.append(changes)
    return told, tables


def check_index(rows: JsonRows, tables: Tables) -> None:
    """Assert that rows hold both tables, and of each right key who names it, in full pages."""
    by_kind: dict[type, dict[str, Any]] = {LeftRow: {}, RightRow: {}, Lefts: {}, Page: {}}
    for key, row in rows.items():
        by_kind[type(row)][key] = row
    assert by_kind[RightRow] == {
        f"right/{key}": RightRow(event.timestamp, event.value)
        for key, event in tables.right.items()
    }
    naming: dict[str, list[str]] = {}
    for key, event in tables.left.items():
        row = by_kind[LeftRow].pop(f"left/{key}")
        assert (row.time_ms, row.value) == (event.timestamp, event.value)
        assert row.foreign_key == event.value.right
        if row.foreign_key is not None:
            naming.setdefault(row.foreign_key, []).append(key)
            number, slot = divmod(row.place, foreign_key.PAGE_KEYS)
            assert by_kind[Page][f"page/{number}/{row.foreign_key}"].keys[slot] == key
    assert by_kind[LeftRow] == {}
    assert by_kind[Lefts] == {f"lefts/{key}": Lefts(len(keys)) for key, keys in naming.items()}
    pages = by_kind[Page].values()
    assert sum(len(page.keys) for page in pages) == sum(map(len, naming.values()))
    size = foreign_key.PAGE_KEYS
    assert len(pages) == sum(-(-len(keys) // size) for keys in naming.values())


def run(
    kind: TableJoinKind, events: Sequence[Event], cuts: Iterable[int]
) -> tuple[list[Change[Named, int]], JsonRows]:
    rows = JsonRows()
    told: list[Change[Named, int]] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        told += add(join_of(kind), events[begin:end], rows)
    return told, rows


@given(st.sampled_from(KINDS), EVENTS, CUTS, st.sampled_from([1, 2, 64]))
def test_changes_and_rows_are_what_the_definition_says_however_the_input_is_cut(
    kind: TableJoinKind, events: list[Event], cuts: list[int], page_keys: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign_key, "PAGE_KEYS", page_keys)
        rows = JsonRows()
        one_by_one = [add(join_of(kind), [event], rows) for event in events]
        told, tables = plain(kind, events)
        assert [sorted(changes, key=lambda c: c.key) for changes in one_by_one] == told
        check_index(rows, tables)
        cut, of_cut = run(kind, events, cuts)
        assert cut == [change for changes in one_by_one for change in changes]
        assert of_cut == rows
