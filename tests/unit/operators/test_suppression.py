"""Suppression: when a key is told, with which change, and what waits meanwhile."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.suppression import Held, Suppressed, Suppression, suppressed_codec
from streams.operators.timed import TimedDict
from tests.unit.operators.cuts import CUTS, EVENTS, Event, at, key_of


def within(limit_ms: int) -> Suppression[Event]:
    return Suppression(limit_ms=limit_ms, key=key_of)


class Outcome(NamedTuple):
    told: dict[str, list[int]]
    """By key, the numbers of the events that were told, in order."""
    rows: dict[str, Suppressed[Event]]


def run(operator: Suppression[Event], events: Sequence[Event], cuts: Iterable[int] = ()) -> Outcome:
    """Give the operator the events up to each cut, and fire then."""
    rows: TimedDict[Suppressed[Event]] = TimedDict()
    told: dict[str, list[int]] = {}
    for begin, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        operator.add(events[begin:end], rows)
        for event in rows.fire(operator.fire):
            told.setdefault(event.key, []).append(event.n)
    assert rows.late == []
    return Outcome(told, dict(rows))


def times(operator: Suppression[Event], *events_ms: int, key: str = "a") -> list[int]:
    """Return the times of those events of one key that are told."""
    events = at(*events_ms, key=key)
    return [events[n].timestamp for n in run(operator, events).told.get(key, [])]


#    10          20          30      limit 10
#    |-- waits ---|
#    a    15   19             b      at 20 a is due, and told as of 19
def test_a_key_is_told_when_its_first_change_is_as_old_as_the_limit_with_the_last() -> None:
    operator = within(10)
    assert times(operator, 10, 15, 19) == []
    row = run(operator, at(10, 15, 19)).rows["a"]
    assert row == Suppressed(20, (Held(20, Event(19, "a", 2)),))
    for end_ms, told in ((19, {}), (20, {"a": [2]}), (31, {"a": [2]})):
        assert run(operator, [*at(10, 15, 19), Event(end_ms, "b")]).told == told


def test_later_changes_do_not_put_it_off() -> None:
    assert times(within(10), 10, 19, 20, 29, 30, 99) == [19, 29, 30]


def test_the_event_that_makes_its_key_due_is_the_first_change_again() -> None:
    outcome = run(within(10), at(10, 20))
    assert outcome.told == {"a": [0]}
    assert outcome.rows["a"] == Suppressed(30, (Held(30, Event(20, "a", 1)),))


def test_the_change_that_came_last_counts_whatever_its_time() -> None:
    assert run(within(10), [*at(15, 12, 3), Event(25, "b")]).told == {"a": [2]}


def test_a_first_change_that_is_late_by_the_limit_is_told_at_once() -> None:
    assert run(within(10), [Event(20, "b"), *at(10, 9)]).told == {"a": [0, 1]}
    assert run(within(10), [Event(20, "b"), *at(11)]).told == {}


def test_the_story_of_the_documents() -> None:
    # docs/tables.md tells it.
    assert times(within(10), 10, 14, 18, 23, 25, 40) == [18, 25]


def test_each_key_has_its_own_time() -> None:
    events = [Event(10, "a", 0), Event(14, "b", 1), Event(20, "c", 2), Event(24, "c", 3)]
    assert run(within(10), events[:3]).told == {"a": [0]}
    assert run(within(10), events).told == {"a": [0], "b": [1]}


def test_keys_that_are_due_together_are_told_by_key() -> None:
    rows: TimedDict[Suppressed[Event]] = TimedDict()
    operator = within(10)
    operator.add([Event(5, "b"), Event(5, "a"), Event(4, "c"), Event(99, "d")], rows)
    assert [event.key for event in rows.fire(operator.fire)] == ["c", "a", "b"]


def test_of_a_change_that_is_kept_which_the_operator_is_told_to_keep() -> None:
    operator: Suppression[int] = Suppression(limit_ms=5, key=key_of, keep=lambda event: event.n)
    rows: TimedDict[Suppressed[int]] = TimedDict()
    operator.add(at(1, 2, 6), rows)
    assert rows.fire(operator.fire) == [1]
    assert rows == {"a": Suppressed(11, (Held(11, 2),))}


def test_rows_are_short_arrays_as_json() -> None:
    encode, decode, due_ms = suppressed_codec(int)
    row = Suppressed(20, (Held(20, 7), Held(31, 8)))
    assert encode(row) == b"[20,[[20,7],[31,8]]]"
    assert decode(encode(row)) == row
    assert due_ms(encode(row)) == 20
    with pytest.raises(msgspec.ValidationError):
        decode(b'[20,[[20,"a"]]]')


def test_a_limit_is_some_time() -> None:
    with pytest.raises(ValueError, match=r"^limit_ms must be 1 or more, not 0$"):
        within(0)


def by_definition(limit_ms: int, events: Sequence[Event]) -> dict[str, list[int]]:
    """Tell, for each first change, the last that came before stream time had gone on by the limit."""
    told: dict[str, list[int]] = {}
    turns_ms = [max(e.timestamp for e in events[: n + 1]) for n in range(len(events))]
    for key in {event.key for event in events}:
        mine = [n for n, event in enumerate(events) if event.key == key]
        while mine:
            due_ms = max(events[mine[0]].timestamp + limit_ms, turns_ms[mine[0]])
            together = [mine[0], *(n for n in mine[1:] if turns_ms[n] < due_ms)]
            if turns_ms[-1] >= due_ms:
                told.setdefault(key, []).append(together[-1])
            mine = mine[len(together) :]
    return told


@given(EVENTS, st.integers(1, 40), CUTS)
def test_no_cut_changes_what_is_told_and_what_waits(
    events: Sequence[Event], limit_ms: int, cuts: Sequence[int]
) -> None:
    operator = within(limit_ms)
    whole = run(operator, events)
    assert run(operator, events, cuts) == whole
    assert run(operator, events, range(len(events))) == whole
    if events:
        assert whole.told == by_definition(limit_ms, events)
    now_ms = max((event.timestamp for event in events), default=0)
    for row in whole.rows.values():
        assert len(row.held) == 1
        assert row.due_ms == row.held[0].due_ms > now_ms
    ended = run(operator, [*events, Event(10_000, "z")])
    last = {event.key: event.n for event in events}
    assert {key: told[-1] for key, told in ended.told.items()} == last
