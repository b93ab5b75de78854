"""Deduplication: what is passed on, what repeats it, what is late, and what is kept for how long."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.deduplication import Deduplication, Passed, passed_codec
from streams.operators.timed import Late, TimedDict
from tests.unit.operators.cuts import CUTS, EVENTS, Event, at, key_of


def within(within_ms: int, grace_ms: int = 0) -> Deduplication:
    """Return the operator; the events' keys are their ids."""
    return Deduplication(within_ms=within_ms, grace_ms=grace_ms, id_of=key_of)


class Outcome(NamedTuple):
    passed: list[Event]
    late: list[Late]
    rows: dict[str, Passed]


def run(operator: Deduplication, events: Sequence[Event], cuts: Iterable[int] = ()) -> Outcome:
    """Give the operator the events up to each cut, and fire then."""
    rows: TimedDict[Passed] = TimedDict()
    passed: list[Event] = []
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        passed += operator.first(events[begin:end], rows)
        assert rows.fire(operator.fire) == []
    return Outcome(passed, rows.late, dict(rows))


def times(operator: Deduplication, *events_ms: int) -> list[int]:
    """Return the times of those events of one id that are passed on."""
    return [event.timestamp for event in run(operator, at(*events_ms)).passed]


#        10        20        30         within 10
#         |- within -|- within -|
#    9              p              31     what p, at 20, makes repeated lies between
@pytest.mark.parametrize(
    ("time_ms", "passed_ms"), [(9, [20, 9]), (10, [20]), (20, [20]), (30, [20]), (31, [20, 31])]
)
def test_an_event_repeats_one_that_was_passed_on_within_the_time_before_or_after(
    time_ms: int, passed_ms: list[int]
) -> None:
    assert times(within(10, 5), 20, time_ms) == passed_ms


def test_what_came_first_is_passed_on_though_it_is_not_the_oldest() -> None:
    assert times(within(10), 20, 15, 11) == [20]


def test_what_was_not_passed_on_makes_nothing_repeated() -> None:
    assert times(within(10), 20, 28, 36) == [20, 36]


def test_an_event_between_two_that_were_passed_on_repeats_either() -> None:
    operator = within(10, 100)
    assert times(operator, 0, 30, 15) == [0, 30, 15]
    assert times(operator, 0, 30, 10) == [0, 30]
    assert times(operator, 0, 30, 20) == [0, 30]


def test_the_story_of_the_documents() -> None:
    # docs/event-time.md tells it.
    story = run(within(10, 3), at(20, 28, 16, 31, 31, 44, 33, 20, 31))
    assert [event.timestamp for event in story.passed] == [20, 31, 44]
    assert [late.event.n for late in story.late] == [7]


def test_other_ids_are_other_events() -> None:
    events = [*at(1), *at(1, 2, key="b")]
    assert run(within(10), events).passed == events[:2]


#   t - 10        t        t + 10 + 3
#     |-- within --|-- within --|-- grace --|   past it, at 24, the one at 10 is late
def test_an_event_is_late_from_the_time_on_past_its_window_and_grace() -> None:
    operator = within(10, 3)
    assert times(operator, 23, 10) == [23, 10]
    outcome = run(operator, at(24, 10))
    assert [event.timestamp for event in outcome.passed] == [24]
    assert outcome.late == [Late(Event(10, "a", 1), 0, 21, 1)]


def test_a_late_event_is_not_passed_on_whether_it_repeats_another_or_not() -> None:
    outcome = run(within(10), [*at(10, 40), Event(10, "a", 2), Event(10, "b", 3)])
    assert [event.n for event in outcome.passed] == [0, 1]
    assert [late.event.n for late in outcome.late] == [2, 3]


def test_a_time_is_kept_until_nothing_on_time_can_repeat_it() -> None:
    #  10 + 10 + 10 + 3 = 33: then one at 20 is on time, and repeats the one at 10; at 34 it is late
    operator = within(10, 3)
    kept = run(operator, [*at(10), Event(33, "b")])
    assert kept.rows["a"] == Passed(34, (10,))
    assert times(operator, 10, 33, 20) == [10, 33]
    gone = run(operator, [*at(10), Event(34, "b")])
    assert set(gone.rows) == {"b"}
    outcome = run(operator, [*at(10), Event(34, "b"), Event(20, "a", 1)])
    assert [late.event.n for late in outcome.late] == [1]


def test_the_times_of_an_id_leave_one_by_one() -> None:
    operator = within(10, 5)
    row = run(operator, at(20, 5)).rows["a"]
    assert row == Passed(31, (5, 20))
    assert operator.fire("a", row, 30) == (row, [])
    assert operator.fire("a", row, 31) == (Passed(46, (20,)), [])
    assert operator.fire("a", row, 46) == (None, [])


def test_rows_are_short_arrays_as_json() -> None:
    encode, decode, due_ms = passed_codec()
    row = Passed(31, (5, 20))
    assert encode(row) == b"[31,[5,20]]"
    assert decode(encode(row)) == row
    assert due_ms(encode(row)) == 31


@pytest.mark.parametrize(
    ("times_ms", "line"),
    [
        ((0, 0), "within_ms must be 1 or more, not 0"),
        ((-1, 0), "within_ms must be 1 or more, not -1"),
        ((1, -1), "grace_ms must be 0 or more, not -1"),
    ],
)
def test_times_that_cannot_be_are_refused_in_a_line(times_ms: tuple[int, int], line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        within(*times_ms)


# -- laws ------------------------------------------------------------------------------------------


def plain(operator: Deduplication, events: Sequence[Event]) -> Outcome:
    """Do what the definition says: each event beside all that were passed on before, none forgotten."""
    passed: list[Event] = []
    late: list[Late] = []
    now_ms = 0
    for event, now_ms in zip(
        events, accumulate((event.timestamp for event in events), max), strict=True
    ):
        first_ms, last_ms = (
            event.timestamp - operator.within_ms,
            event.timestamp + operator.within_ms,
        )
        if now_ms > last_ms + operator.grace_ms:
            by_ms = now_ms - last_ms - operator.grace_ms
            late.append(Late(event, first_ms, last_ms + 1, by_ms))
        elif not any(
            event.key == other.key and first_ms <= other.timestamp <= last_ms for other in passed
        ):
            passed.append(event)
    kept = [event for event in passed if can_be_repeated(operator, event.timestamp, now_ms)]
    rows: dict[str, Passed] = {}
    for key in {event.key for event in kept}:
        of_key = sorted(event.timestamp for event in kept if event.key == key)
        due_ms = now_ms
        while can_be_repeated(operator, of_key[0], due_ms):
            due_ms += 1
        rows[key] = Passed(due_ms, tuple(of_key))
    return Outcome(passed, late, rows)


def can_be_repeated(operator: Deduplication, passed_ms: int, now_ms: int) -> bool:
    """Tell whether an event could come that is on time and repeats one: try each time."""
    return any(
        max(now_ms, time_ms) <= time_ms + operator.within_ms + operator.grace_ms
        for time_ms in range(passed_ms - operator.within_ms, passed_ms + operator.within_ms + 1)
    )


OPERATORS = st.builds(within, st.integers(1, 12), st.integers(0, 12) | st.just(100))


@given(OPERATORS, EVENTS, CUTS)
def test_what_is_passed_on_and_kept_is_what_the_definition_says_however_the_input_is_cut(
    operator: Deduplication, events: list[Event], cuts: list[int]
) -> None:
    expected = plain(operator, events)
    assert run(operator, events) == expected
    assert run(operator, events, cuts) == expected
    assert run(operator, events, range(len(events))) == expected


@given(OPERATORS, EVENTS)
def test_what_is_passed_on_is_passed_on_whole_a_second_time(
    operator: Deduplication, events: list[Event]
) -> None:
    passed = run(operator, events).passed
    assert run(operator, passed).passed == passed


@given(OPERATORS, EVENTS)
def test_at_its_due_time_a_row_has_something_to_do_and_not_before(
    operator: Deduplication, events: list[Event]
) -> None:
    for key, row in run(operator, events).rows.items():
        assert operator.fire(key, row, row.due_ms - 1) == (row, [])
        left, _ = operator.fire(key, row, row.due_ms)
        assert left is None or left.due_ms > row.due_ms


@given(OPERATORS, EVENTS)
def test_rows_hold_few_times(operator: Deduplication, events: list[Event]) -> None:
    for row in run(operator, events).rows.values():
        gaps = [after - before for before, after in pairwise(row.times_ms)]
        assert all(gap > operator.within_ms for gap in gaps)
        assert len(row.times_ms) <= (operator.kept_ms // operator.within_ms) + 1
