"""Two versioned tables joined by key: what is out of order, what is late, and what deletions leave."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.joins import Kind
from streams.operators.table_table import Change, TableTableJoin
from streams.operators.timed import NEVER_MS, Late, TimedDict
from streams.operators.versioned import Version
from streams.operators.versioned_tables import Latest, VersionedTableJoin, latest_codec

Side: TypeAlias = Literal["left", "right"]
Join: TypeAlias = VersionedTableJoin[int, int]
KINDS: tuple[Kind, ...] = ("inner", "left", "outer")
CODEC = latest_codec(int, int)


class Event(NamedTuple):
    side: Side
    key: str
    timestamp: int
    value: int | None


class JsonRows(TimedDict[Latest[int, int]]):
    """Rows of which each `get` is a new one, read from JSON."""

    def get(self, key: str, /) -> Latest[int, int] | None:  # type: ignore[override]
        row = super().get(key)
        return row and CODEC.decode(CODEC.encode(row))


def key_of(event: Event) -> str:
    return event.key


def value_of(event: Any) -> Any:
    return event.value


def join_of(kind: Kind, history_ms: int = 100) -> Join:
    return VersionedTableJoin(
        kind=kind,
        history_ms=history_ms,
        left_key=key_of,
        left_value=value_of,
        right_key=key_of,
        right_value=value_of,
    )


def add(join: Any, events: Iterable[Event], rows: Any) -> list[Change[int, int]]:
    told = []
    for side, group in groupby(events, lambda event: event.side):
        told += (join.add_left if side == "left" else join.add_right)(list(group), rows)
    return told


class Outcome(NamedTuple):
    told: list[Change[int, int]]
    rows: dict[str, Latest[int, int]]
    late: list[Late]


def run(join: Join, events: Sequence[Event], cuts: Iterable[int] = ()) -> Outcome:
    """Add events up to each cut and fire then."""
    rows = JsonRows()
    told: list[Change[int, int]] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        told += add(join, events[begin:end], rows)
        assert rows.fire(join.fire) == []
    return Outcome(told, dict(rows), rows.late)


def left(time_ms: int, value: int | None) -> Event:
    return Event("left", "k", time_ms, value)


def right(time_ms: int, value: int | None) -> Event:
    return Event("right", "k", time_ms, value)


def told(kind: Kind, *events: Event) -> list[tuple[int | None, int | None]]:
    return [(change.left, change.right) for change in run(join_of(kind), events).told]


GONE = (None, None)


#   come as     left 1 at 10    right 2 at 20    left 3 at 5    left 4 at 10    right deleted at 19
#   left has    1               1                1              4               4
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [(1, 2), (4, 2)]),
        ("left", [(1, None), (1, 2), (4, 2)]),
        ("outer", [(1, None), (1, 2), (4, 2)]),
    ],
)
def test_a_change_older_than_its_sides_latest_gives_no_result(
    kind: Kind, expected: list[Any]
) -> None:
    events = left(10, 1), right(20, 2), left(5, 3), left(10, 4), right(19, None)
    assert told(kind, *events) == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("inner", [(1, 2), GONE]),
        ("left", [(1, None), (1, 2), GONE]),
        ("outer", [(1, None), (1, 2), (None, 2), GONE]),
    ],
)
def test_what_is_older_than_a_deletion_gives_no_result(kind: Kind, expected: list[Any]) -> None:
    events = left(10, 1), right(10, 2), left(30, None), left(29, 3), right(40, None), right(39, 4)
    assert told(kind, *events) == expected


def test_the_story_of_the_documents() -> None:
    # docs/tables.md tells it.
    events = left(10, 1), right(12, 2), left(8, 3), right(20, None), right(15, 4), left(22, 5)
    assert told("inner", *events) == [(1, 2), GONE]
    assert told("outer", *events) == [(1, None), (1, 2), (1, None), (5, None)]


def test_a_deletion_of_the_very_time_of_its_value_counts_and_stays() -> None:
    assert told("left", left(10, 1), left(10, None), left(9, 2)) == [(1, None), GONE]


def test_a_change_of_the_same_time_counts() -> None:
    assert told("left", left(10, 1), left(10, 2)) == [(1, None), (2, None)]


def test_a_change_has_the_time_of_the_younger_side() -> None:
    events = [left(10, 1), right(7, 2), right(8, None), left(11, None)]
    told = run(join_of("outer"), events).told
    assert told == [
        Change("k", 1, None, 10, events[0]),
        Change("k", 1, 2, 10, events[1]),
        Change("k", 1, None, 10, events[2]),
        Change("k", None, None, 11, events[3]),
    ]


def test_a_change_older_than_the_history_is_late() -> None:
    #  history 10: at 30 one at 20 is on time, and one at 19 late
    outcome = run(join_of("left", 10), [right(30, 1), left(19, 2), left(20, 3)])
    assert [change.left for change in outcome.told] == [3]
    assert outcome.late == [Late(left(19, 2), 19, 30, 1)]


def test_a_deletion_is_kept_until_nothing_on_time_is_older() -> None:
    join = join_of("left", 10)
    row = run(join, [left(5, 1), right(6, 2), left(20, None)]).rows["k"]
    assert row == Latest(31, Version(20, None), Version(6, 2))
    assert join.fire("k", row, 30) == (row, [])
    assert join.fire("k", row, 31) == (Latest(NEVER_MS, None, Version(6, 2)), [])


def test_a_row_without_values_goes_with_its_last_deletion() -> None:
    join = join_of("left", 10)
    row = run(join, [left(20, None), right(23, None)]).rows["k"]
    assert row.due_ms == 31
    left_over, _ = join.fire("k", row, 31)
    assert left_over == Latest(34, None, Version(23, None))
    assert join.fire("k", left_over, 34) == (None, [])


def test_rows_are_what_either_side_has_as_json() -> None:
    row: Latest[int, int] = Latest(31, Version(20, None), Version(6, 2))
    assert CODEC.encode(row) == b'{"due_ms":31,"left":[20,null],"right":[6,2]}'
    assert CODEC.decode(CODEC.encode(row)) == row
    assert CODEC.due_ms(CODEC.encode(row)) == 31


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a join's kind is one of inner, left, outer, not full$"):
        join_of("full")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^history_ms must be 0 or more, not -1$"):
        join_of("inner", -1)


EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from(["left", "right"]),
        st.sampled_from("aab"),
        st.integers(0, 60),
        st.none() | st.integers(0, 3),
    ),
    max_size=30,
)


def by_definition(kind: Kind, history_ms: int, events: Sequence[Event]) -> list[Change[int, int]]:
    """Tell what two plain tables tell of the events that are the latest of all so far of their side."""
    plain = TableTableJoin[int, int](
        kind=kind, left_key=key_of, left_value=value_of, right_key=key_of, right_value=value_of
    )
    rows: dict[str, Any] = {}
    told = []
    for n, event in enumerate(events):
        now_ms = max(before.timestamp for before in events[: n + 1])
        mine = [e for e in events[:n] if (e.side, e.key) == (event.side, event.key)]
        latest_ms = max((e.timestamp for e in mine), default=0)
        if event.timestamp >= max(latest_ms, now_ms - history_ms):
            told += add(plain, [event], rows)
    return told


@given(st.sampled_from(KINDS), st.integers(0, 40), EVENTS, st.lists(st.integers(0, 30), max_size=6))
def test_no_cut_changes_what_is_told_and_what_is_left(
    kind: Kind, history_ms: int, events: Sequence[Event], cuts: Sequence[int]
) -> None:
    join = join_of(kind, history_ms)
    whole = run(join, events)
    assert run(join, events, cuts) == whole
    assert run(join, events, range(len(events))) == whole
    assert whole.told == by_definition(kind, history_ms, events)
    now_ms = max((event.timestamp for event in events), default=0)
    for row in whole.rows.values():
        assert row.due_ms > now_ms
        assert row.left is not None or row.right is not None
