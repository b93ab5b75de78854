"""Joins of two streams: what matches, what is late, and when a record without a match leaves."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.joins import Entry, Joined, Kind, Pending, StreamJoin, pending_codec
from streams.operators.timed import Late, TimedDict

Side: TypeAlias = Literal["left", "right"]
KINDS: tuple[Kind, ...] = ("inner", "left", "outer")


class Event(msgspec.Struct, frozen=True):
    key: str
    timestamp: int
    number: int = 0


class Left(msgspec.Struct, frozen=True):
    """What is kept of an event of the left stream."""

    number: int


class Right(msgspec.Struct, frozen=True):
    """What is kept of an event of the right stream."""

    number: int


Row: TypeAlias = Pending[Left, Right]
Result: TypeAlias = Joined[Left, Right]
Join: TypeAlias = StreamJoin[Left, Right]


def key_of(event: Event) -> str:
    return event.key


def join_of(kind: Kind = "outer", before_ms: int = 3, after_ms: int = 5, grace_ms: int = 0) -> Join:
    return StreamJoin(
        kind=kind,
        before_ms=before_ms,
        after_ms=after_ms,
        grace_ms=grace_ms,
        left_key=key_of,
        right_key=key_of,
        keep_left=lambda event: Left(event.number),
        keep_right=lambda event: Right(event.number),
    )


class Story:
    """A join of one key "k" whose records are numbered by their own event times."""

    def __init__(self, join: Join) -> None:
        self.join = join
        self.rows: TimedDict[Row] = TimedDict()

    def left(self, *times_ms: int) -> list[tuple[int | None, int | None]]:
        """Return what left records match, and what leaves behind them without a match."""
        joined = self.join.add_left([Event("k", time, time) for time in times_ms], self.rows)
        return numbers([*joined, *self.rows.fire(self.join.fire)])

    def right(self, *times_ms: int) -> list[tuple[int | None, int | None]]:
        """Do as `left` with right records."""
        joined = self.join.add_right([Event("k", time, time) for time in times_ms], self.rows)
        return numbers([*joined, *self.rows.fire(self.join.fire)])


def numbers(results: Iterable[Result]) -> list[tuple[int | None, int | None]]:
    return [(number_of(left), number_of(right)) for _key, left, right in results]


def number_of(record: Left | Right | None) -> int | None:
    return None if record is None else record.number


#        7        10             15
#        |- before |-- after 5 --|
#   6    7         l             15   16     rights
#   no   yes                     yes  no
@pytest.mark.parametrize(
    ("right_ms", "expected"), [(6, []), (7, [(10, 7)]), (15, [(10, 15)]), (16, [])]
)
@pytest.mark.parametrize("kind", KINDS)
def test_both_ends_of_a_window_match_whichever_comes_first(
    kind: Kind, right_ms: int, expected: list[tuple[int, int]]
) -> None:
    left_first, right_first = (Story(join_of(kind, grace_ms=100)) for _ in range(2))
    assert left_first.left(10) + left_first.right(right_ms) == expected
    assert right_first.right(right_ms) + right_first.left(10) == expected
    assert left_first.rows == right_first.rows


#   rights, in order of arrival    12 10 12 9 | 20
#   the left at 11 matches         9 10 12 12, not 20
def test_matches_come_by_event_time_then_by_arrival() -> None:
    story = Story(join_of(grace_ms=100))
    rights = [Event("k", ms, number) for number, ms in enumerate((12, 10, 12, 9, 20))]
    story.join.add_right(rights, story.rows)
    assert story.left(11) == [(11, 3), (11, 1), (11, 0), (11, 2)]


def test_each_of_equal_records_matches_by_itself() -> None:
    story = Story(join_of())
    assert story.left(10, 10) == []
    assert story.right(11, 11) == [(10, 11)] * 4


def test_records_of_other_keys_do_not_match() -> None:
    story = Story(join_of())
    assert story.left(10) == []
    assert story.join.add_right([Event("other", 10)], story.rows) == []
    assert set(story.rows) == {"k", "other"}


def test_a_join_without_a_window_matches_equal_times_alone() -> None:
    story = Story(join_of("inner", 0, 0, 10))
    assert story.left(10) + story.right(9, 10, 11) == [(10, 10)]


#   left:   7 |- before - 10 -- after --| 15 - grace 4 - 19 |   late from 20 on
#   right:         5 |-- after -- 10 - before -| 13 - grace 4 - 17 |   late from 18 on
def test_a_record_is_late_when_its_own_window_and_grace_are_behind_stream_time() -> None:
    story = Story(join_of("inner", grace_ms=4))
    story.left(17)
    story.right(10)
    assert story.rows.late == []
    story.left(18)
    story.right(10)
    assert story.rows.late == [Late(Event("k", 10, 10), 5, 14, 1)]
    story.left(19, 10, 23, 10)
    assert story.rows.late[1:] == [Late(Event("k", 10, 10), 7, 16, 4)]


def test_a_late_record_matches_nothing_and_is_not_kept() -> None:
    story = Story(join_of())
    story.right(10, 20)
    before = dict(story.rows)
    assert story.left(9) == []
    assert [late.by_ms for late in story.rows.late] == [6]
    assert story.rows == before


#   l 10 -- after 5 --| 15                 its own window closes here
#                       r 15 - before 3 -| 18    but this right is on time up to 18, and matches
@pytest.mark.parametrize("kind", KINDS)
def test_a_left_record_whose_window_has_closed_still_matches_what_is_on_time(kind: Kind) -> None:
    story = Story(join_of(kind))
    assert story.left(10) == []
    assert story.right(18) == []
    assert story.right(15) == [(10, 15)]


#   r 10 - before 3 -| 13                  its own window closes here
#                      l 13 -- after 5 --| 18    but this left is on time up to 18, and matches
@pytest.mark.parametrize("kind", KINDS)
def test_a_right_record_whose_window_has_closed_still_matches_what_is_on_time(kind: Kind) -> None:
    story = Story(join_of(kind))
    assert story.right(10) == []
    assert story.left(18) == []
    assert story.left(13) == [(13, 10)]


#   10 - before 3 + after 5 + grace 4 - 22 |   at 23 nothing on time can match it
@pytest.mark.parametrize(
    ("kind", "left", "right"),
    [("inner", [], []), ("left", [(10, None)], []), ("outer", [(10, None)], [(None, 10)])],
)
def test_what_has_not_matched_leaves_once_when_nothing_can_match_it(
    kind: Kind, left: list[Any], right: list[Any]
) -> None:
    join = join_of(kind, grace_ms=4)
    of_left, of_right = Story(join), Story(join)
    assert of_left.left(10) + of_right.right(10) == []
    assert of_left.rows["k"].due_ms == (23 if left else 24)  # 24 is a multiple of half of 12
    assert of_right.rows["k"].due_ms == (23 if right else 24)
    assert of_left.left(22) + of_right.left(22) == []
    assert of_left.left(23) == left
    assert of_right.left(23) == right
    assert of_left.left(23) + of_right.left(23) == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_matched_leaves_without_a_word(kind: Kind) -> None:
    story = Story(join_of(kind))
    assert story.left(10) + story.right(10) == [(10, 10)]
    rows = story.rows
    assert join_of(kind).fire("k", rows["k"], rows["k"].due_ms) == (None, [])


def test_what_is_not_due_stays_as_it_is() -> None:
    story = Story(join_of())
    story.left(10)
    row = story.rows["k"]
    assert story.join.fire("k", row, row.due_ms - 1) == (row, [])


def test_a_row_that_was_read_is_not_changed() -> None:
    story = Story(join_of())
    story.left(10)
    row = story.rows["k"]
    assert story.right(11) == [(10, 11)]
    assert row == Pending(19, (Entry(10, False, Left(10)),), ())
    assert story.rows["k"] == Pending(
        20, (Entry(10, True, Left(10)),), (Entry(11, True, Right(11)),)
    )


def test_the_join_key_may_be_finer_than_the_key_of_the_records() -> None:
    join: StreamJoin[Event, Event] = StreamJoin(
        kind="left",
        before_ms=5,
        after_ms=5,
        grace_ms=0,
        left_key=lambda event: f"{event.key}/{event.number}",
        right_key=lambda event: f"{event.key}/{event.number}",
    )
    rows: TimedDict[Pending[Event, Event]] = TimedDict()
    lefts = [Event("user", 10, 1), Event("user", 10, 2)]
    right = Event("user", 12, 2)
    assert join.add_left(lefts, rows) == []
    assert join.add_right([right], rows) == [Joined("user/2", lefts[1], right)]
    join.add_right([Event("user", 21, 3)], rows)
    assert rows.fire(join.fire) == [Joined("user/1", lefts[0], None)]
    assert set(rows) == {"user/2", "user/3"}


def test_rows_are_json_with_an_array_for_each_record() -> None:
    encode, decode, _ = pending_codec(Left, Right)
    row = Pending(19, (Entry(10, True, Left(1)),), (Entry(11, False, Right(2)),))
    text = b'{"due_ms":19,"lefts":[[10,true,{"number":1}]],"rights":[[11,false,{"number":2}]]}'
    assert encode(row) == text
    assert decode(text) == row


@pytest.mark.parametrize(
    ("name", "times_ms"),
    [("before_ms", (-1, 0, 0)), ("after_ms", (0, -1, 0)), ("grace_ms", (0, 0, -1))],
)
def test_no_time_may_be_negative(name: str, times_ms: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"^a join's {name} is 0 or more, not -1$"):
        join_of("inner", *times_ms)


def test_there_are_three_kinds() -> None:
    kind: Any = "right"
    with pytest.raises(ValueError, match=r"one of inner, left, outer, not right$"):
        join_of(kind)


# -- laws ------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """An event at its turn."""

    side: Side
    event: Event
    now_ms: int


class AtTurns(TimedDict[Row]):
    """Rows that know the turns of all events beforehand, so that these can be given in any order."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__()
        self.now_of = {turn.event.number: turn.now_ms for turn in turns}

    def turns(self, events: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        for event in events:
            yield event, self.now_of[event.number]


class Outcome(NamedTuple):
    joined: list[Result]
    unmatched: list[Result]
    late: list[Late]
    rows: dict[str, Row]


def side_of(turn: Turn) -> Side:
    return turn.side


def add(join: Join, side: Side, turns: Iterable[Turn], rows: TimedDict[Row]) -> list[Result]:
    method = join.add_left if side == "left" else join.add_right
    return method([turn.event for turn in turns], rows)


def run(
    join: Join, turns: Sequence[Turn], cuts: Sequence[int] = (), first: Side | None = None
) -> Outcome:
    """Join in steps, with fires between, each step in its order or with all of one side `first`."""
    rows = AtTurns(turns)
    joined: list[Result] = []
    unmatched: list[Result] = []
    for begin, end in pairwise([0, *sorted(cuts), len(turns)]):
        step = list(turns[begin:end])
        if first is not None:
            step.sort(key=lambda turn: turn.side != first)
        for side, group in groupby(step, side_of):
            joined += add(join, side, group, rows)
        rows.now_ms = max([rows.now_ms, *(turn.now_ms for turn in step)])
        unmatched += rows.fire(join.fire)
    return Outcome(joined, unmatched, rows.late, dict(rows))


def window(join: Join, turn: Turn) -> tuple[int, int]:
    """Return the first and last time that a record can match, as the definition has it."""
    time_ms = turn.event.timestamp
    if turn.side == "left":
        return time_ms - join.before_ms, time_ms + join.after_ms
    return time_ms - join.after_ms, time_ms + join.before_ms


def is_late(join: Join, turn: Turn) -> bool:
    return window(join, turn)[1] + join.grace_ms < turn.now_ms


def can_match(join: Join, turn: Turn, now_ms: int) -> bool:
    """Tell whether a record of the other side could come that is on time and matches: try each."""
    first_ms, last_ms = window(join, turn)
    other: Side = "right" if turn.side == "left" else "left"
    return any(
        not is_late(join, Turn(other, Event("", time_ms), max(now_ms, time_ms)))
        for time_ms in range(first_ms, last_ms + 1)
    )


def match(join: Join, one: Turn, two: Turn) -> bool:
    first_ms, last_ms = window(join, one)
    return (
        one.side != two.side
        and one.event.key == two.event.key
        and first_ms <= two.event.timestamp <= last_ms
    )


def pair(one: Turn, two: Turn | None = None) -> Result:
    left, right = (one, two) if one.side == "left" else (two, one)
    return Joined(
        one.event.key, left and Left(left.event.number), right and Right(right.event.number)
    )


def leaves(join: Join, turn: Turn, on_time: Sequence[Turn], now_ms: int) -> bool:
    """Tell whether a record is kept no more: it cannot match.

    If it has to be told that it has not, at once; if not, at the next of the times that lie half as far
    apart as long as any may match.
    """
    if not tells(join, turn, on_time):
        now_ms -= now_ms % max((join.before_ms + join.after_ms + join.grace_ms) // 2, 1)
    return not can_match(join, turn, now_ms)


def tells(join: Join, turn: Turn, on_time: Sequence[Turn]) -> bool:
    """Tell whether a record is a result without a match."""
    has_matched = any(match(join, turn, other) for other in on_time)
    return turn.side in unmatched_sides(join) and not has_matched


def row_of(join: Join, kept: Sequence[Turn], on_time: Sequence[Turn], now_ms: int) -> Row:
    """Return a key's row, which lasts until one of its records leaves."""
    due_ms = now_ms
    while not any(leaves(join, turn, on_time, due_ms) for turn in kept):
        due_ms += 1
    sides: dict[Side, list[Entry[Any]]] = {"left": [], "right": []}
    for turn in sorted(kept, key=lambda turn: turn.event.timestamp):
        is_followed = turn.side in unmatched_sides(join)
        has_matched = is_followed and any(match(join, turn, other) for other in on_time)
        value = Left if turn.side == "left" else Right
        entry = Entry[Any](turn.event.timestamp, has_matched, value(turn.event.number))
        sides[turn.side].append(entry)
    return Pending(due_ms, tuple(sides["left"]), tuple(sides["right"]))


def unmatched_sides(join: Join) -> tuple[str, ...]:
    return {"inner": (), "left": ("left",), "outer": ("left", "right")}[join.kind]


def plain(join: Join, turns: Sequence[Turn]) -> Outcome:
    """Join as the definition says it, with all turns in view, each record with each."""
    on_time = [turn for turn in turns if not is_late(join, turn)]
    joined = [
        pair(turn, other)
        for n, turn in enumerate(on_time)
        for other in sorted(on_time[:n], key=lambda other: other.event.timestamp)
        if match(join, turn, other)
    ]
    now_ms = max((turn.now_ms for turn in turns), default=0)
    gone = [turn for turn in on_time if leaves(join, turn, on_time, now_ms)]
    unmatched = [
        pair(turn)
        for turn in sorted(gone, key=lambda turn: (turn.event.timestamp, turn.event.key, turn.side))
        if tells(join, turn, on_time)
    ]
    late = []
    for turn in turns:
        first_ms, last_ms = window(join, turn)
        if is_late(join, turn):
            by_ms = turn.now_ms - (last_ms + join.grace_ms)
            late.append(Late(turn.event, first_ms, last_ms + 1, by_ms))
    rows = {
        key: row_of(join, kept, on_time, now_ms)
        for key in {turn.event.key for turn in on_time}
        if (kept := [turn for turn in on_time if turn.event.key == key and turn not in gone])
    }
    return Outcome(joined, unmatched, late, rows)


def in_no_order(outcome: Outcome) -> Outcome:
    """Return an outcome whose order tells nothing."""
    joined = sorted(outcome.joined, key=repr)
    return outcome._replace(joined=joined, late=sorted(outcome.late, key=repr))


LENGTHS = st.integers(0, 6)
JOINS = st.builds(join_of, st.sampled_from(KINDS), LENGTHS, LENGTHS, LENGTHS)
STEPS_MS = st.integers(-12, 8) | st.sampled_from([0, 1, 40])
SIDES: st.SearchStrategy[Side] = st.sampled_from(["left", "right"])
CUTS = st.lists(st.integers(0, 24), max_size=6)


@st.composite
def turns_of_events(draw: st.DrawFn) -> list[Turn]:
    """Draw events of both sides: ties, equal ones, out of order, gaps, two keys."""
    turns: list[Turn] = []
    time_ms = now_ms = 20
    drawn = draw(st.lists(st.tuples(SIDES, st.sampled_from("aab"), STEPS_MS), max_size=24))
    for number, (side, key, step_ms) in enumerate(drawn):
        time_ms = max(0, time_ms + step_ms)
        now_ms = max(now_ms, time_ms)
        turns.append(Turn(side, Event(key, time_ms, number), now_ms))
    return turns


TURNS = turns_of_events()


def cuts_within(turns: Sequence[Turn], cuts: Sequence[int]) -> list[int]:
    return [min(cut, len(turns)) for cut in cuts]


@given(JOINS, TURNS, CUTS)
def test_results_and_rows_are_what_the_definition_says_however_the_input_is_cut(
    join: Join, turns: list[Turn], cuts: list[int]
) -> None:
    assert run(join, turns, cuts_within(turns, cuts)) == plain(join, turns)


@given(JOINS, TURNS, CUTS, SIDES)
def test_one_side_of_a_step_may_be_added_before_the_other(
    join: Join, turns: list[Turn], cuts: list[int], first: Side
) -> None:
    outcome = run(join, turns, cuts_within(turns, cuts), first)
    assert in_no_order(outcome) == in_no_order(plain(join, turns))


@given(JOINS, TURNS)
def test_a_record_is_never_both_matched_and_unmatched(join: Join, turns: list[Turn]) -> None:
    end = Turn("left", Event("end", 10**6, len(turns)), 10**6)
    outcome = run(join, [*turns, end], range(len(turns)))
    matched = {number for joined in numbers(outcome.joined) for number in joined}
    alone = [left or right for _key, left, right in outcome.unmatched]
    kept = [
        turn.event.number
        for turn in turns
        if turn.side in unmatched_sides(join) and not is_late(join, turn)
    ]
    assert sorted(record.number for record in alone if record) == sorted({*kept} - matched)
    assert set(outcome.rows) == {"end"}


@given(JOINS, TURNS)
def test_rows_come_back_from_json_as_they_were(join: Join, turns: list[Turn]) -> None:
    encode, decode, _ = pending_codec(Left, Right)
    for row in run(join, turns).rows.values():
        assert decode(encode(row)) == row


@given(JOINS, TURNS)
def test_at_its_due_time_a_row_has_something_to_do_and_not_before(
    join: Join, turns: list[Turn]
) -> None:
    for key, row in run(join, turns).rows.items():
        assert join.fire(key, row, row.due_ms - 1) == (row, [])
        left, _ = join.fire(key, row, row.due_ms)
        assert left is None or left.due_ms > row.due_ms


@given(JOINS, TURNS)
def test_a_fire_that_comes_late_lets_the_same_go(join: Join, turns: list[Turn]) -> None:
    for key, row in run(join, turns).rows.items():
        rows: TimedDict[Row] = TimedDict()
        rows[key] = row
        rows.now_ms = row.due_ms + 10
        step_by_step = rows.fire(join.fire)
        left, at_once = join.fire(key, row, rows.now_ms)
        assert left == rows.get(key)
        assert sorted(at_once, key=repr) == sorted(step_by_step, key=repr)
