"""Tables that remember: what was when, what is forgotten, and joins as of an event's time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.joins import Joined
from streams.operators.stream_table import TableJoinKind
from streams.operators.timed import NEVER_MS, Late, TimedDict
from streams.operators.versioned import (
    Version,
    VersionedJoin,
    VersionedTable,
    Versions,
    VersionsAndWaiting,
    Waiting,
    versioned_join_codec,
    versions_codec,
)

Side: TypeAlias = Literal["left", "right"]
KINDS: tuple[TableJoinKind, ...] = ("inner", "left")


class Event(msgspec.Struct, frozen=True):
    key: str
    timestamp: int
    number: int | None = 0


Table: TypeAlias = VersionedTable[int]
Join: TypeAlias = VersionedJoin[int, int]
JoinRow: TypeAlias = VersionsAndWaiting[int, int]


def key_of(event: Event) -> str:
    return event.key


def number_of(event: Any) -> Any:
    return event.number


def table_of(history_ms: int) -> Table:
    return VersionedTable(history_ms=history_ms, key=key_of, value=number_of)


def join_of(kind: TableJoinKind = "left", history_ms: int = 20, grace_ms: int = 0) -> Join:
    return VersionedJoin(
        kind=kind,
        history_ms=history_ms,
        grace_ms=grace_ms,
        left_key=key_of,
        right_key=key_of,
        right_value=number_of,
        keep_left=number_of,
    )


class Story:
    """A table of the key "k", whose values are the times of their puts unless told otherwise."""

    def __init__(self, history_ms: int) -> None:
        self.table = table_of(history_ms)
        self.rows: TimedDict[Versions[int]] = TimedDict()

    def put(self, *times_ms: int) -> list[int]:
        """Put values; return the times of those that were the latest of their key."""
        return self.set(*[(time_ms, time_ms) for time_ms in times_ms])

    def set(self, *puts: tuple[int, int | None]) -> list[int]:
        latest = self.table.put([Event("k", time_ms, value) for time_ms, value in puts], self.rows)
        assert self.rows.fire(self.table.fire) == []
        return [event.timestamp for event in latest]

    def at(self, *times_ms: int) -> list[int | None]:
        row = self.rows.get("k")
        return [self.table.as_of(row, time_ms, self.rows.now_ms) for time_ms in times_ms]

    @property
    def kept(self) -> list[int]:
        return [version.from_ms for version in self.rows["k"].versions]


#   come as 10 30 20      10        20        30
#                         |-- 10 ---|-- 20 ---|-- 30 ---
#   as of             9   10     19 20     29 30     99
def test_a_put_holds_from_its_time_to_the_next_in_whatever_order_they_come() -> None:
    story = Story(history_ms=100)
    assert story.put(10, 30, 20) == [10, 30]
    assert story.at(9, 10, 19, 20, 29, 30, 99) == [None, 10, 10, 20, 20, 30, 30]


def test_a_put_of_the_same_time_takes_the_place_of_the_one_before() -> None:
    story = Story(history_ms=100)
    assert story.set((10, 1), (20, 2), (10, 3), (20, 4)) == [10, 20, 20]
    assert story.at(10, 20) == [3, 4]


#   10         20   25        30
#   |--- 10 ---|nothing|-- 25 --         a deletion is a value as any other, and put back in time too
def test_a_deletion_holds_from_its_time_on() -> None:
    story = Story(history_ms=100)
    story.set((10, 1), (25, 2), (20, None))
    assert story.at(19, 20, 24, 25) == [1, None, None, 2]


#   now 40, history 20     19 |20 ------------ 40
#                        late |on time
def test_a_put_that_is_older_than_the_history_is_late() -> None:
    story = Story(history_ms=20)
    assert story.put(40, 20, 19, 17) == [40]
    assert story.at(20) == [20]
    assert story.rows.late == [
        Late(Event("k", 19, 19), 19, 40, 1),
        Late(Event("k", 17, 17), 17, 38, 3),
    ]


#   10        20                  now 100, history 20: known from 80 on
#   |-- 10 ---|-- 20 ------------------
def test_before_the_history_the_latest_value_alone_is_known() -> None:
    story = Story(history_ms=20)
    story.put(10, 20)
    story.table.put([Event("other", 100)], story.rows)
    row = story.rows["k"]
    assert [story.table.as_of(row, ms, 100) for ms in (10, 19, 20, 79, 80)] == [
        None,
        None,
        20,
        20,
        20,
    ]


#   history 20: what has gone leaves at multiples of 10
#   10 |-----| 15     30 |   10 held up to 15, of which 15 + 20 is the last time to ask: gone at 40
def test_versions_leave_when_nothing_in_the_history_has_them() -> None:
    story = Story(history_ms=20)
    story.put(10, 15)
    assert story.rows["k"].due_ms == 40
    story.put(39)
    assert story.kept == [10, 15, 39]
    story.put(40)
    assert story.kept == [15, 39, 40]


def test_the_latest_value_stays_for_ever() -> None:
    story = Story(history_ms=20)
    story.put(10)
    assert story.rows["k"].due_ms == NEVER_MS
    story.table.put([Event("other", 10**9)], story.rows)
    assert story.rows.fire(story.table.fire) == []
    assert story.at(10**9) == [10]


#   10 deleted, history 20: up to 30 a put before it is on time, so the row is still needed; it goes at 40
def test_the_row_of_a_deleted_key_goes_when_nothing_can_be_put_before_the_deletion() -> None:
    story = Story(history_ms=20)
    story.set((5, 5), (10, None))
    story.table.put([Event("other", 30)], story.rows)
    assert story.put(9, 10) == [10]
    story.set((10, None))
    assert story.at(10, 30) == [None, None]
    story.table.put([Event("other", 39)], story.rows)
    story.rows.fire(story.table.fire)
    assert "k" in story.rows
    story.table.put([Event("other", 40)], story.rows)
    story.rows.fire(story.table.fire)
    assert "k" not in story.rows
    assert story.at(40) == [None]


def test_without_history_a_table_is_what_it_is_now() -> None:
    story = Story(history_ms=0)
    story.put(10, 20, 19)
    assert story.at(20) == [20]
    assert [late.by_ms for late in story.rows.late] == [1]
    story.put(21)
    assert story.kept == [20, 21]
    story.put(22)
    assert story.kept == [21, 22]


def test_rows_are_json() -> None:
    encode, decode, due_ms = versions_codec(int)
    row = Versions(40, (Version(10, 1), Version(20, None)))
    assert encode(row) == b'{"due_ms":40,"versions":[[10,1],[20,null]]}'
    assert decode(encode(row)) == row
    assert due_ms(encode(row)) == 40


def test_a_history_is_not_negative() -> None:
    with pytest.raises(ValueError, match=r"^a table's history_ms is 0 or more, not -1$"):
        table_of(-1)


# -- joins -----------------------------------------------------------------------------------------


class JoinStory:
    """A join of the key "k", whose records are numbered by their own times."""

    def __init__(self, join: Join) -> None:
        self.join = join
        self.rows: TimedDict[JoinRow] = TimedDict()

    def left(self, *times_ms: int) -> list[tuple[int | None, int | None]]:
        joined = self.join.add_left([Event("k", ms, ms) for ms in times_ms], self.rows)
        return sides([*joined, *self.rows.fire(self.join.fire)])

    def right(self, *times_ms: int) -> list[tuple[int | None, int | None]]:
        self.join.add_right([Event("k", ms, ms) for ms in times_ms], self.rows)
        return sides(self.rows.fire(self.join.fire))


def sides(results: Iterable[Joined[int, int]]) -> list[tuple[int | None, int | None]]:
    return [(left, right) for _, left, right in results]


#   right    10        20
#   left       12   19 20 25  9      each as of its own time, in whatever order they come
def test_an_event_is_joined_with_what_the_table_was_at_its_time() -> None:
    story = JoinStory(join_of())
    story.right(10, 20)
    assert story.left(12, 25, 19, 20, 9) == [(12, 10), (25, 20), (19, 10), (20, 20), (9, None)]
    assert story.rows.late == []


@pytest.mark.parametrize(("kind", "expected"), [("inner", []), ("left", [(9, None)])])
def test_an_event_without_a_value_is_a_result_of_a_left_join_alone(
    kind: TableJoinKind, expected: list[Any]
) -> None:
    story = JoinStory(join_of(kind, grace_ms=5))
    assert story.left(9) + story.right(10, 20) == expected
    assert JoinStory(join_of(kind)).left(9) == expected


#   grace 5    l 10 ------- 15 joined
#                r 14  r 9                 9 comes at 14: in time for l
def test_an_event_waits_for_puts_that_are_late_by_no_more_than_the_grace() -> None:
    story = JoinStory(join_of(grace_ms=5))
    assert story.left(10) == []
    assert story.right(14, 9) == []
    assert story.left(14) == []
    assert story.left(15) == [(10, 9)]
    assert story.right(19) == [(14, 14)]


#   grace 5    l 10 ------- 15 joined
#                           r 15  r 9     9 comes when l has been joined, in the same batch or not
@pytest.mark.parametrize("cut", [0, 1])
def test_a_put_that_comes_when_an_event_is_due_does_not_count_for_it(cut: int) -> None:
    story = JoinStory(join_of(grace_ms=5))
    puts = [15, 9, 8]
    assert story.left(10) == []
    assert story.right(*puts[:cut]) + story.right(*puts[cut:]) == [(10, None)]
    assert story.left(10) == [(10, 9)]


def test_events_come_by_time_then_as_they_came() -> None:
    join = join_of(grace_ms=5)
    rows: TimedDict[JoinRow] = TimedDict()
    join.add_left([Event("k", ms, n) for n, ms in enumerate((12, 10, 12, 11))], rows)
    join.add_left([Event("other", 30)], rows)
    assert sides(rows.fire(join.fire)) == [(1, None), (3, None), (0, None), (2, None)]
    assert set(rows) == {"other"}


#   history and grace 6     r 1    l 5 --- 11 joined        r 100         r 200
#   one batch, in which the puts are before the event: 1 is needed until 11 has been
def test_puts_of_a_batch_do_not_take_away_what_an_event_of_it_finds() -> None:
    turns = [Turn("right", Event("k", ms, ms), ms) for ms in (1, 100, 200)]
    turns.insert(1, Turn("left", Event("k", 5, 5), 5))
    outcome = run(join_of(history_ms=6, grace_ms=6), turns, first="right")
    assert sides(outcome.joined) == [(5, 1)]
    assert [version.from_ms for version in outcome.rows["k"].versions] == [100, 200]


def test_rows_of_a_join_are_json() -> None:
    encode, decode, due_ms = versioned_join_codec(int, int)
    row = VersionsAndWaiting(15, (Version(10, 1),), (Waiting(10, 7), Waiting(11, 8, True, 1)))
    assert encode(row) == (
        b'{"due_ms":15,"versions":[[10,1]],"waiting":[[10,7,false,null],[11,8,true,1]]}'
    )
    assert decode(encode(row)) == row
    assert due_ms(encode(row)) == 15


def test_a_join_keeps_whole_events_unless_told_what_to_keep() -> None:
    join = VersionedJoin[Event, int](
        kind="left",
        history_ms=1,
        grace_ms=0,
        left_key=key_of,
        right_key=key_of,
        right_value=number_of,
    )
    rows: TimedDict[Any] = TimedDict()
    assert join.add_left([Event("k", 1)], rows) == [Joined("k", Event("k", 1), None)]
    assert (join.in_order_ms, join_of(grace_ms=7).in_order_ms) == (0, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("outer", 20, 0), "^a join's kind is one of inner, left, not outer$"),
        (("left", 20, -1), "^a join's grace_ms is 0 or more, not -1$"),
        (("left", -1, 0), "^a table's history_ms is 0 or more, not -1$"),
        (("left", 4, 5), "^a versioned join's history_ms is at least its grace_ms, 5, not 4: "),
    ],
)
def test_a_join_that_cannot_be_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        join_of(*arguments)


# -- laws ------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """A record at its turn."""

    side: Side
    event: Event
    now_ms: int


class Outcome(NamedTuple):
    joined: list[Joined[int, int]]
    late: list[Late]
    rows: dict[str, Any]


class AtTurns(TimedDict[Any]):
    """Rows that know the turns of all events beforehand, so that these can be given in any order."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__()
        self.now_of = {id(turn.event): turn.now_ms for turn in turns}

    def turns(self, events: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        for event in events:
            yield event, self.now_of[id(event)]


def run(
    join: Join, turns: Sequence[Turn], cuts: Sequence[int] = (), first: Side | None = None
) -> Outcome:
    """Join in steps, with fires between, each step in its order or with all of one side `first`.

    The latter only where no event of the step is behind by so much that the order shows.
    """
    rows = AtTurns(turns)
    joined: list[Joined[int, int]] = []
    for begin, end in pairwise([0, *sorted(cuts), len(turns)]):
        step = list(turns[begin:end])
        is_in_order = all(t.now_ms - t.event.timestamp < join.in_order_ms for t in step)
        if first is not None and is_in_order:
            step.sort(key=lambda turn: turn.side != first)
        # As the engine cuts it where the order shows.
        groups: Iterable[tuple[Side, Iterable[Turn]]] = groupby(step, lambda turn: turn.side)
        for side, group in groups:
            given_turns = list(group)
            events = [turn.event for turn in given_turns]
            if side == "left":
                joined += join.add_left(events, rows)
            else:
                join.add_right(events, rows)
            if not is_in_order:
                rows.now_ms = max(rows.now_ms, given_turns[-1].now_ms)
                joined += rows.fire(join.fire)
        rows.now_ms = max([rows.now_ms, *(turn.now_ms for turn in step)])
        joined += rows.fire(join.fire)
    return Outcome(joined, rows.late, dict(rows))


def value_at(
    history_ms: int, puts: Sequence[Turn], key: str, time_ms: int, now_ms: int
) -> int | None:
    """Return what the definition says: the last put of the latest time that is not beyond the asked one."""
    mine = [put.event for put in puts if put.event.key == key]
    latest_ms = max((event.timestamp for event in mine), default=0)
    if time_ms < now_ms - history_ms and latest_ms > time_ms:
        return None
    from_ms = max((e.timestamp for e in mine if e.timestamp <= time_ms), default=None)
    return next((e.number for e in reversed(mine) if e.timestamp == from_ms), None)


def versions_of(
    history_ms: int, puts: Sequence[Turn], key: str, now_ms: int
) -> tuple[Version[int], ...]:
    """Return the versions that are left: which hold somewhere in the history, as it was a while ago."""
    together_ms = max(history_ms // 2, 1)
    gone_ms = now_ms // together_ms * together_ms - history_ms
    found = {p.event.timestamp: p.event.number for p in puts if p.event.key == key}
    times = sorted(found)
    needed = [time_ms for time_ms, next_ms in pairwise([*times, NEVER_MS]) if next_ms >= gone_ms]
    if needed and found[needed[0]] is None and needed[0] < gone_ms:
        del needed[0]
    return tuple(Version(t, found[t]) for t in needed)


def due_of(history_ms: int, versions: Sequence[Version[int]]) -> int:
    """Return the first multiple of half the history at which the first of the versions would be gone."""
    if not versions:
        return NEVER_MS
    ends_ms = [v.from_ms for v in versions[:1] if v.value is None]
    ends_ms += [v.from_ms for v in versions[1:2]]
    together_ms = max(history_ms // 2, 1)
    return min(
        (((ms + history_ms) // together_ms + 1) * together_ms for ms in ends_ms), default=NEVER_MS
    )


def on_time(history_ms: int, turns: Sequence[Turn]) -> list[Turn]:
    return [t for t in turns if t.side == "right" and t.event.timestamp >= t.now_ms - history_ms]


def plain(join: Join, turns: Sequence[Turn]) -> Outcome:
    """Join as the definition says it, with all turns in view."""
    puts = on_time(join.history_ms, turns)
    told: list[tuple[tuple[int, ...], Joined[int, int]]] = []
    waiting: list[Turn] = []
    for place, turn in enumerate(turns):
        if turn.side == "right":
            continue
        due_ms = max(turn.event.timestamp + join.grace_ms, turn.now_ms)
        at = next((n for n in range(place, len(turns)) if turns[n].now_ms >= due_ms), None)
        if at is None:
            waiting.append(turn)
            continue
        before = [put for put in puts if put in turns[:at]]
        key, number = turn.event.key, turn.event.number
        found = value_at(join.history_ms, before, key, turn.event.timestamp, due_ms)
        if found is not None or join.kind == "left":
            assert number is not None
            told.append(((at, place), Joined(key, number, found)))
    now_ms = max((turn.now_ms for turn in turns), default=0)
    rows: dict[str, Any] = {}
    for key in {turn.event.key for turn in turns}:
        versions = versions_of(join.history_ms, puts, key, now_ms)
        mine = sorted(
            (turn for turn in waiting if turn.event.key == key), key=lambda t: t.event.timestamp
        )
        if versions or mine:
            due_ms = min(
                [due_of(join.history_ms, versions)]
                + [turn.event.timestamp + join.grace_ms for turn in mine]
            )
            waits: tuple[Waiting[Any, Any], ...] = tuple(
                Waiting(t.event.timestamp, t.event.number) for t in mine
            )
            rows[key] = VersionsAndWaiting(due_ms, versions, waits)
    late = [
        Late(
            t.event,
            t.event.timestamp,
            t.event.timestamp + join.history_ms + 1,
            t.now_ms - join.history_ms - t.event.timestamp,
        )
        for t in turns
        if t.side == "right" and t not in puts
    ]
    return Outcome([joined for _, joined in told], late, rows)


def in_no_order(outcome: Outcome) -> Outcome:
    """Return an outcome whose order tells nothing."""
    return outcome._replace(
        joined=sorted(outcome.joined, key=repr), late=sorted(outcome.late, key=repr)
    )


GRACES = st.integers(0, 12)
JOINS = st.builds(
    lambda kind, grace_ms, more_ms: join_of(kind, grace_ms + more_ms, grace_ms),
    st.sampled_from(KINDS),
    GRACES,
    st.integers(0, 12) | st.just(0),
)
STEPS_MS = st.integers(-20, 8) | st.sampled_from([0, 1, 40])
SIDES: st.SearchStrategy[Side] = st.sampled_from(["left", "right"])
CUTS = st.lists(st.integers(0, 24), max_size=6)


@st.composite
def turns_of_events(draw: st.DrawFn, sides: st.SearchStrategy[Side] = SIDES) -> list[Turn]:
    """Draw events: ties, equal times, out of order, gaps, deletions, two keys; each with its number."""
    turns: list[Turn] = []
    time_ms = now_ms = 30
    drawn = draw(
        st.lists(st.tuples(sides, st.sampled_from("aab"), STEPS_MS, st.integers(0, 4)), max_size=24)
    )
    for number, (side, key, step_ms, what) in enumerate(drawn):
        time_ms = max(0, time_ms + step_ms)
        now_ms = max(now_ms, time_ms)
        is_deletion = side == "right" and what == 0
        turns.append(Turn(side, Event(key, time_ms, None if is_deletion else number), now_ms))
    return turns


TURNS = turns_of_events()


def cuts_within(turns: Sequence[Turn], cuts: Sequence[int]) -> list[int]:
    return [min(cut, len(turns)) for cut in cuts]


@given(JOINS, TURNS, CUTS)
def test_results_and_rows_are_what_the_definition_says_however_the_input_is_cut(
    join: Join, turns: list[Turn], cuts: list[int]
) -> None:
    outcome = run(join, turns, cuts_within(turns, cuts))
    assert in_no_order(outcome) == in_no_order(plain(join, turns))


@given(JOINS, TURNS, CUTS, SIDES)
def test_one_side_of_a_step_may_be_added_before_the_other(
    join: Join, turns: list[Turn], cuts: list[int], first: Side
) -> None:
    outcome = run(join, turns, cuts_within(turns, cuts), first)
    assert in_no_order(outcome) == in_no_order(plain(join, turns))


@given(st.integers(0, 20), turns_of_events(st.just("right")), CUTS)
def test_a_table_knows_all_values_in_its_history_and_no_more_than_it_needs(
    history_ms: int, turns: list[Turn], cuts: list[int]
) -> None:
    table = table_of(history_ms)
    rows: TimedDict[Versions[int]] = TimedDict()
    rows.now_ms = 30
    latest: list[Event] = []
    for begin, end in pairwise([0, *sorted(cuts_within(turns, cuts)), len(turns)]):
        latest += table.put([turn.event for turn in turns[begin:end]], rows)
        assert rows.fire(table.fire) == []
    puts = on_time(history_ms, turns)
    for key in "ab":
        versions = versions_of(history_ms, puts, key, rows.now_ms)
        row = rows.get(key)
        assert row == (Versions(due_of(history_ms, versions), versions) if versions else None)
        for time_ms in range(max(0, rows.now_ms - 2 * history_ms - 2), rows.now_ms + 2):
            expected = value_at(history_ms, puts, key, time_ms, rows.now_ms)
            assert table.as_of(row, time_ms, rows.now_ms) == expected
    assert latest == [
        put.event
        for place, put in enumerate(puts)
        if all(
            before.event.timestamp <= put.event.timestamp
            for before in puts[:place]
            if before.event.key == put.event.key
        )
    ]


@given(JOINS, TURNS)
def test_rows_come_back_from_json_as_they_were(join: Join, turns: list[Turn]) -> None:
    encode, decode, _ = versioned_join_codec(int, int)
    for row in run(join, turns).rows.values():
        assert decode(encode(row)) == row


@given(JOINS, TURNS)
def test_at_its_due_time_a_row_has_something_to_do_and_not_before(
    join: Join, turns: list[Turn]
) -> None:
    for key, row in run(join, turns).rows.items():
        if row.due_ms < NEVER_MS:
            assert join.fire(key, row, row.due_ms - 1) == (row, [])
            left, _ = join.fire(key, row, row.due_ms)
            assert left is None or left.due_ms > row.due_ms
