"""Aggregates by sliding window."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.operators.aggregates import collect
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.timed import Late
from streams.operators.windowing import Emits, Window
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
    key_of,
    run,
)


def aggregation(
    difference_ms: int, grace_ms: int, emits: Emits = "updates"
) -> SlidingAggregation[Event, Ids, Ids]:
    windows = SlidingWindows(difference_ms, grace_ms)
    return SlidingAggregation(windows, ids(), key=key_of, emits=emits)


#   10        20 21     26   30      36
#   |--------- 0 |       |            |    ends at 20
#                |------ 1 ---|       |    starts behind 20, and holds 26
#                 16 --- 1            |    ends at 26, and holds 20
def test_a_window_ends_at_each_event_and_one_starts_behind_it_if_it_holds_any() -> None:
    one = run(aggregation(10, 100), at(20, 26))
    assert one.told == [[("a", 10, 20, (0,)), ("a", 16, 26, (0, 1)), ("a", 21, 31, (1,))]]


def test_both_ends_of_a_window_are_in_it() -> None:
    assert run(aggregation(10, 100), at(20, 30)).table()["a", 20, 30] == (0, 1)
    assert run(aggregation(10, 100), at(20, 31)).table()["a", 21, 31] == (1,)


#   0    3    7    10
#   |--- 0 -- 1 ---|        one for all that no window of their own can end at
#         4 - 1 --------14
def test_early_events_share_the_window_that_starts_at_zero() -> None:
    one = run(aggregation(10, 100), at(3, 7))
    assert one.table() == {("a", 0, 10): (0, 1), ("a", 4, 14): (1,)}


def test_an_event_that_comes_between_two_divides_their_windows() -> None:
    one = run(aggregation(10, 100), at(20, 28, 24), [2])
    assert one.told[1] == [
        ("a", 14, 24, (0, 2)),
        ("a", 18, 28, (0, 1, 2)),
        ("a", 21, 31, (1, 2)),
        ("a", 25, 35, (1,)),
    ]


def test_a_window_holds_its_events_as_they_came() -> None:
    numbers = SlidingAggregation(
        SlidingWindows(10, 100), collect(lambda e: e.n, 9, int), key=key_of, emits="updates"
    )
    told = run(numbers, at(28, 20, 24)).told[0]
    assert ("a", 18, 28, (0, 1, 2)) in told
    assert ("a", 21, 31, (0, 2)) in told


@pytest.mark.parametrize(("now_ms", "is_closed"), [(25, False), (26, True)])
def test_a_window_closes_beyond_its_end_and_grace(now_ms: int, *, is_closed: bool) -> None:
    again = Event(20, "a", 2)
    events = [*at(20), Event(now_ms, "b", 1), again]
    one = run(aggregation(10, 5, "final"), events, [2])
    assert one.fired == ([("a", 10, 20, (0,))] if is_closed else [])
    assert one.late == ([Late(again, 10, 21, 0)] if is_closed else [])


def test_an_event_that_no_window_could_hold_any_more_is_late_for_the_last_that_might_have() -> None:
    events = [*at(100), Event(89, "b", 1), Event(90, "b", 2)]
    one = run(aggregation(10, 0), events)
    assert one.late == [Late(events[1], 89, 100, 0), Late(events[2], 80, 91, 9)]
    assert list(one.rows) == ["a"]


#   0          10  = now, no grace
#   |- 0 --|        [0, 8] has been told; what it held counts for [2, 10]
def test_what_a_closed_window_held_counts_for_later_ones() -> None:
    operator = aggregation(8, 0, "final")
    one = run(operator, at(5, 10), [1])
    assert one.fired == [("a", 0, 8, (0,))]
    assert one.rows["a"].windows == (
        Window(0, (0,), 5),
        Window(2, (0, 1), 10),
        Window(6, (1,), 10),
    )
    assert one.rows["a"].due_ms == 11
    # [0, 8] counts for none from 18 on, and [2, 10] from 20 on: at a multiple of 18 // 4 both are gone.
    later = run(operator, [*at(5, 10), Event(19, "b", 2)], [1])
    assert (later.rows["a"].due_ms, later.rows["a"].windows) == (20, one.rows["a"].windows)
    last = run(operator, [*at(5, 10), Event(20, "b", 2)], [1])
    assert (last.rows["a"].due_ms, last.rows["a"].windows) == (24, one.rows["a"].windows[2:])


@pytest.mark.parametrize(
    ("difference_ms", "grace_ms", "message"),
    [
        (-1, 0, "difference_ms must be 0 or more, not -1"),
        (0, -1, "grace_ms must be 0 or more, not -1"),
    ],
)
def test_windows_that_cannot_be_are_refused(
    difference_ms: int, grace_ms: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SlidingWindows(difference_ms, grace_ms)


# -- laws ------------------------------------------------------------------------------------------

WINDOWS = st.builds(SlidingWindows, difference_ms=st.integers(0, 12), grace_ms=GRACES)


class Store:
    """One key's windows as Kafka Streams makes them, event by event; none is ever forgotten.

    What KStreamSlidingWindowAggregate does in 4.3.1, step by step, with sets of events for aggregates.
    """

    def __init__(self, difference_ms: int) -> None:
        self.difference_ms = difference_ms
        self.windows: dict[int, list[Event]] = {}

    def last_ms(self, start_ms: int) -> int:
        return max(event.timestamp for event in self.windows[start_ms])

    def scan(self, low_ms: int, high_ms: int) -> list[int]:
        return sorted(
            start_ms for start_ms in self.windows if max(low_ms, 0) <= start_ms <= high_ms
        )

    def update(self, start_ms: int, held: list[Event], event: Event, close_ms: int) -> None:
        if start_ms + self.difference_ms >= close_ms:
            self.windows[start_ms] = [*held, event]

    def add(self, event: Event, close_ms: int) -> None:
        if event.timestamp + self.difference_ms < close_ms:
            return
        if event.timestamp < self.difference_ms:
            self.add_early(event, close_ms)
        else:
            self.add_other(event, close_ms)

    def add_early(self, event: Event, close_ms: int) -> None:
        time_ms = event.timestamp
        combined = previous_ms = right = None
        starts = self.scan(0, time_ms + 1)
        for start_ms in starts:
            held = self.windows[start_ms]
            if start_ms == 0:
                combined = held
                if self.last_ms(0) < time_ms:
                    previous_ms = self.last_ms(0)
            elif start_ms <= time_ms:
                right = held
                self.update(start_ms, held, event, close_ms)
        if right is None and combined is not None:
            right = combined
        self.make_right(time_ms, right)
        if previous_ms is not None and previous_ms + 1 not in starts:
            self.update(previous_ms + 1, [], event, close_ms)
        self.update(0, combined or [], event, close_ms)

    def add_other(self, event: Event, close_ms: int) -> None:
        time_ms = event.timestamp
        has_left = False
        previous_ms = right = left = None
        starts = self.scan(time_ms - 2 * self.difference_ms, time_ms + 1)
        for start_ms in reversed(starts):
            held, last_ms = self.windows[start_ms], self.last_ms(start_ms)
            end_ms = start_ms + self.difference_ms
            if start_ms == time_ms + 1:
                continue
            if end_ms > time_ms:
                right = right or held
                self.update(start_ms, held, event, close_ms)
            elif end_ms == time_ms:
                has_left = True
                self.update(start_ms, held, event, close_ms)
                if last_ms >= time_ms:
                    return
                previous_ms = last_ms
            else:
                left, previous_ms = held, last_ms
                break
        makes_right = previous_ms is not None and previous_ms + 1 + self.difference_ms >= time_ms
        if previous_ms is not None and makes_right and previous_ms + 1 not in starts:
            self.update(previous_ms + 1, [], event, close_ms)
        left_ms = time_ms - self.difference_ms
        if not has_left:
            counts = previous_ms is not None and left_ms <= previous_ms
            self.update(left_ms, left or [] if counts else [], event, close_ms)
        self.make_right(time_ms, right)

    def make_right(self, time_ms: int, held: list[Event] | None) -> None:
        last_ms = max((event.timestamp for event in held or []), default=time_ms)
        if time_ms + 1 not in self.windows and held and last_ms > time_ms:
            self.windows[time_ms + 1] = held


def stepwise(windows: SlidingWindows, events: list[Event]) -> Contents:
    """Return all windows there have been."""
    stores = {event.key: Store(windows.difference_ms) for event in events}
    for n, event in enumerate(events):
        now_ms = max(before.timestamp for before in events[: n + 1])
        stores[event.key].add(event, now_ms - windows.grace_ms)
    return {
        (key, start_ms, start_ms + windows.difference_ms): tuple(sorted(event.n for event in held))
        for key, store in stores.items()
        for start_ms, held in store.windows.items()
    }


def plain(difference_ms: int, events: list[Event]) -> Contents:
    """Return the windows there are if nothing is late, as the definition says."""
    contents = {}
    for event in events:
        for start_ms in [max(event.timestamp - difference_ms, 0), event.timestamp + 1]:
            end_ms = start_ms + difference_ms
            held = [
                one.n
                for one in events
                if one.key == event.key and start_ms <= one.timestamp <= end_ms
            ]
            if held:
                contents[event.key, start_ms, end_ms] = tuple(held)
    return contents


def script(*events: tuple[int, str]) -> list[Event]:
    return [Event(time_ms, key, n) for n, (time_ms, key) in enumerate(events)]


# What random events seldom hit: what has closed long ago makes nobody late; only windows that begin
# within twice the difference count; the last event before is asked of the window that ends before.
@example(SlidingWindows(5, 1), script((9, "b"), (17, "a"), (12, "b")), [], "final")
@example(
    SlidingWindows(12, 0),
    script((13, "a"), (5, "b"), (18, "b"), (14, "a"), (26, "a")),
    [],
    "updates",
)
@example(SlidingWindows(10, 4), script((4, "a"), (17, "b"), (5, "a"), (15, "a")), [], "updates")
@given(WINDOWS, EVENTS, CUTS, st.sampled_from(["final", "updates"]))
def test_sliding_windows_are_those_of_kafka_streams_for_any_cut(
    windows: SlidingWindows, events: list[Event], cuts: list[int], emits: Emits
) -> None:
    operator = SlidingAggregation(windows, ids(), key=key_of, emits=emits)
    one = assert_cuts_change_nothing(operator, events, cuts)
    contents = stepwise(windows, events)
    closed_ms = one.now_ms - windows.grace_ms
    closed = {window: n for window, n in contents.items() if window[2] < closed_ms}
    assert one.final() == (closed if emits == "final" else {})
    assert one.table() == (contents if emits == "updates" else {})
    left = {(key, w.start_ms): w.state for key in one.rows for w in one.rows[key].windows}
    stays_ms = 2 * windows.difference_ms + windows.grace_ms + 2
    gone_ms = (
        one.now_ms - one.now_ms % max(stays_ms // 4, 1) - stays_ms
    )  # they leave several at a time
    kept_ms = gone_ms + windows.difference_ms + 1
    assert left == {window[:2]: n for window, n in contents.items() if window[2] >= kept_ms}


@given(st.integers(0, 12), EVENTS, CUTS)
def test_where_nothing_is_late_each_set_of_events_close_together_has_a_window(
    difference_ms: int, events: list[Event], cuts: list[int]
) -> None:
    contents = run(aggregation(difference_ms, 10**6), events, cuts).table()
    assert contents == plain(difference_ms, events)
    for key in {event.key for event in events}:
        held = set(contents.values())
        times_ms = sorted(event.timestamp for event in events if event.key == key)
        for begin_ms in times_ms:
            near = [
                event.n
                for event in events
                if event.key == key and 0 <= event.timestamp - begin_ms <= difference_ms
            ]
            assert tuple(near) in held


@given(WINDOWS, EVENTS)
def test_an_event_is_late_only_for_windows_that_have_closed_and_would_hold_it(
    windows: SlidingWindows, events: list[Event]
) -> None:
    for event, start_ms, end_ms, by_ms in run(aggregation(*_of(windows)), events).late:
        now_ms = max(before.timestamp for before in events[: event.n + 1])
        assert start_ms <= event.timestamp < end_ms == start_ms + windows.difference_ms + 1
        assert by_ms == now_ms - end_ms - windows.grace_ms >= 0


def _of(windows: SlidingWindows) -> tuple[int, int]:
    return windows.difference_ms, windows.grace_ms
