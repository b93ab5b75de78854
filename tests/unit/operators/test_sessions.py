"""Aggregates by session."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.aggregates import collect
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.timed import Late, TimedDict
from streams.operators.windowing import Emits, Open, Window
from tests.unit.operators.cuts import (
    CUTS,
    EVENTS,
    GRACES,
    Contents,
    Event,
    Ids,
    assert_cuts_change_nothing,
    at,
    ids,
    in_order,
    key_of,
    run,
)


def aggregation(
    gap_ms: int, grace_ms: int, emits: Emits = "final"
) -> SessionAggregation[Event, Ids, Ids]:
    return SessionAggregation(SessionWindows(gap_ms, grace_ms), ids(), key=key_of, emits=emits)


#   0    5    10   15   20   25
#   0....1....2         |          gap 5: as far as that, and no further
#   |--- one -|         3
def test_events_that_are_the_gap_apart_are_one_session() -> None:
    one = run(aggregation(5, 0), at(0, 5, 10, 16))
    assert one.fired == [("a", 0, 10, (0, 1, 2))]
    assert one.rows == {"a": Open(22, (Window(16, (3,), 16),))}


#   0    4    8
#   0         1      two sessions, told
#   |--- 2 ---|      one, and the two are no more
def test_an_event_between_two_sessions_makes_them_one() -> None:
    one = run(aggregation(5, 9, "updates"), at(0, 8, 4), [2])
    assert one.told == [
        [("a", 0, 0, (0,)), ("a", 8, 8, (1,))],
        [("a", 0, 0, None), ("a", 8, 8, None), ("a", 0, 8, (0, 1, 2))],
    ]
    assert one.table() == {("a", 0, 8): (0, 1, 2)}


def test_states_are_merged_by_time_not_as_they_came() -> None:
    numbers = SessionAggregation(
        SessionWindows(5, 9), collect(lambda e: e.n, 9, int), key=key_of, emits="updates"
    )
    assert run(numbers, at(8, 0, 4)).told == [[("a", 0, 8, (1, 0, 2))]]


def test_an_event_inside_a_session_changes_its_value_alone() -> None:
    one = run(aggregation(5, 9, "updates"), at(0, 4, 2), [2])
    assert one.told == [[("a", 0, 4, (0, 1))], [("a", 0, 4, (0, 1, 2))]]


def test_sessions_that_an_event_does_not_change_are_not_told() -> None:
    one = run(aggregation(5, 99, "updates"), at(0, 20, 40, 24), [3])
    assert one.told[1] == [("a", 20, 20, None), ("a", 20, 24, (1, 3))]


@pytest.mark.parametrize(("now_ms", "is_closed"), [(18, False), (19, True)])
def test_a_session_closes_beyond_its_last_event_and_gap_and_grace(
    now_ms: int, *, is_closed: bool
) -> None:
    late = Event(10, "a", 2)
    one = run(aggregation(5, 3), [*at(10), Event(now_ms, "b", 1), late])
    assert one.fired == ([("a", 10, 10, (0,))] if is_closed else [])
    assert one.late == ([Late(late, 10, 11, 0)] if is_closed else [])
    assert (one.rows["a"].windows[0].state == (0, 2)) if not is_closed else "a" not in one.rows


#   100 103    106   110        120 = now, grace 10, gap 5: what ended before 105 has closed
#   |----|      3    |------------|
#               |-----------------|
def test_an_event_never_joins_a_session_that_had_closed_at_its_turn() -> None:
    events = at(100, 103, 110, 115, 120, 106)
    operator = aggregation(5, 10)
    rows: TimedDict[Open[Ids]] = TimedDict()
    operator.add(events, rows)
    assert rows["a"].windows == (Window(100, (0, 1), 103), Window(106, (2, 3, 4, 5), 120))
    assert rows.fire(operator.fire) == [("a", 100, 103, (0, 1))]
    assert run(operator, events, range(6)).rows == rows


def test_an_old_event_that_joins_an_open_session_is_not_late() -> None:
    one = run(aggregation(5, 0), at(4, 9, 3))
    assert one.rows["a"].windows == (Window(3, (0, 1, 2), 9),)


@pytest.mark.parametrize(
    ("gap_ms", "grace_ms", "message"),
    [(0, 0, "gap_ms must be 1 or more, not 0"), (1, -1, "grace_ms must be 0 or more, not -1")],
)
def test_sessions_that_cannot_be_are_refused(gap_ms: int, grace_ms: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SessionWindows(gap_ms, grace_ms)


# -- laws ------------------------------------------------------------------------------------------

WINDOWS = st.builds(SessionWindows, gap_ms=st.integers(1, 12), grace_ms=GRACES)


def extent(session: list[Event]) -> tuple[str, int, int]:
    times_ms = [event.timestamp for event in session]
    return session[0].key, min(times_ms), max(times_ms)


def contents(sessions: list[list[Event]]) -> Contents:
    return {extent(session): tuple(sorted(event.n for event in session)) for session in sessions}


def plain(windows: SessionWindows, events: list[Event]) -> tuple[list[list[Event]], list[Late]]:
    """Return all sessions there have been and what is late, as the definition says, event by event."""
    sessions: list[list[Event]] = []
    late = []
    for n, event in enumerate(events):
        now_ms = max(before.timestamp for before in events[: n + 1])
        closed_ms = now_ms - windows.grace_ms - windows.gap_ms
        merged = [event]
        for session in list(sessions):
            key, _, last_ms = extent(session)
            distance_ms = min(abs(one.timestamp - event.timestamp) for one in session)
            if key == event.key and last_ms >= closed_ms and distance_ms <= windows.gap_ms:
                merged += session
                sessions.remove(session)
        if extent(merged)[2] < closed_ms:
            late.append(
                Late(event, event.timestamp, event.timestamp + 1, closed_ms - event.timestamp - 1)
            )
        else:
            sessions.append(merged)
    return sessions, late


@given(WINDOWS, EVENTS, CUTS)
def test_events_stand_in_their_order_for_any_cut(
    windows: SessionWindows, events: list[Event], cuts: list[int]
) -> None:
    operator = SessionAggregation[Event, Ids, Ids](windows, in_order(), key=key_of)
    assert_cuts_change_nothing(operator, events, cuts)


@given(WINDOWS, EVENTS, CUTS, st.sampled_from(["final", "updates"]))
def test_sessions_are_what_the_definition_says_for_any_cut(
    windows: SessionWindows, events: list[Event], cuts: list[int], emits: Emits
) -> None:
    operator = aggregation(windows.gap_ms, windows.grace_ms, emits)
    one = assert_cuts_change_nothing(operator, events, cuts)
    sessions, late = plain(windows, events)
    assert one.late == late
    closed_ms = one.now_ms - windows.gap_ms - windows.grace_ms
    closed = contents([session for session in sessions if extent(session)[2] < closed_ms])
    left = {
        (key, w.start_ms, w.last_ms): w.state for key in one.rows for w in one.rows[key].windows
    }
    assert left | closed == contents(sessions)
    assert not left.keys() & closed.keys()
    assert one.final() == (closed if emits == "final" else {})
    assert one.table() == (contents(sessions) if emits == "updates" else {})


@given(st.integers(1, 12), EVENTS, CUTS)
def test_where_nothing_is_late_a_session_ends_where_the_next_event_is_beyond_the_gap(
    gap_ms: int, events: list[Event], cuts: list[int]
) -> None:
    sessions: list[list[Event]] = []
    for key in {event.key for event in events}:
        ordered = sorted(event for event in events if event.key == key)
        sessions.append(ordered[:1])
        for one, other in pairwise(ordered):
            if other.timestamp - one.timestamp > gap_ms:
                sessions.append([])
            sessions[-1].append(other)
    assert run(aggregation(gap_ms, 10**6, "updates"), events, cuts).table() == contents(sessions)
