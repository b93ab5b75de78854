"""Joins of a stream with a table: each event finds the row of its turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.stream_table import StreamTableJoin, TableJoinKind

KINDS: tuple[TableJoinKind, ...] = ("inner", "left")


class Event(NamedTuple):
    key: str | None
    number: int


def join_of(kind: TableJoinKind) -> StreamTableJoin[Event, int]:
    return StreamTableJoin(kind=kind, key=lambda event: event.key)


#   table     a: 1
#   events    a0   b1   None 2
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("inner", [(0, 1)]), ("left", [(0, 1), (1, None), (2, None)])],
)
def test_an_event_without_a_row_is_a_result_of_a_left_join_alone(
    kind: TableJoinKind, expected: list[tuple[int, int | None]]
) -> None:
    events = [Event("a", 0), Event("b", 1), Event(None, 2)]
    assert [(e.number, row) for e, row in join_of(kind).join(events, {"a": 1})] == expected


#   events    a0        a1        a2
#   table          a: 1      a: 2
def test_each_event_is_looked_up_when_it_is_asked_for() -> None:
    table: dict[str, int] = {}
    joined = join_of("left").join((Event("a", n) for n in range(3)), table)
    found = []
    for number, (_, row) in enumerate(joined, 1):
        found.append(row)
        table["a"] = number
    assert found == [None, 1, 2]


def test_there_are_two_kinds() -> None:
    kind: Any = "outer"
    with pytest.raises(ValueError, match=r"^a join's kind is one of inner, left, not outer$"):
        join_of(kind)


# -- laws ------------------------------------------------------------------------------------------


class AtTurns:
    """A table as of the turn of the event that is at work, as the engine gives it."""

    def __init__(self, tables: Mapping[int, Mapping[str, int]]) -> None:
        self.tables = tables
        self.at = 0

    def through(self, events: Sequence[Event]) -> Iterator[Event]:
        for event in events:
            self.at = event.number
            yield event

    def get(self, key: str, /) -> int | None:
        return self.tables[self.at].get(key)


Step = tuple[str | None, dict[str, int]]
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.dictionaries(st.sampled_from("ab"), st.integers(0, 3)),
    ),
    max_size=12,
)


@given(st.sampled_from(KINDS), STEPS, st.lists(st.integers(0, 12), max_size=4))
def test_results_are_what_the_definition_says_however_the_input_is_cut(
    kind: TableJoinKind, steps: list[Step], cuts: list[int]
) -> None:
    tables = {number: table for number, (_, table) in enumerate(steps)}
    events = [Event(key, number) for number, (key, _) in enumerate(steps)]
    joined: list[tuple[Event, int | None]] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        rows = AtTurns(tables)
        joined += join_of(kind).join(rows.through(events[begin:end]), rows)
    assert joined == [
        (event, row)
        for event in events
        for row in [None if event.key is None else tables[event.number].get(event.key)]
        if kind == "left" or row is not None
    ]
