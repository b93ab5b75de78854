"""Aggregates by tumbling and hopping windows, and what all kinds of windows have in common."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.aggregates import count, first, highest, several
from streams.operators.timed import Late
from streams.operators.windowing import (
    Emits,
    HoppingWindows,
    Open,
    Window,
    WindowAggregation,
    open_codec,
)
from streams.operators.windows import TumblingWindows
from tests.unit.operators.cuts import (
    CUTS,
    EVENTS,
    GRACES,
    Contents,
    Event,
    Run,
    assert_cuts_change_nothing,
    at,
    ids,
    in_order,
    key_of,
    run,
)


def aggregation(
    windows: TumblingWindows | HoppingWindows, emits: Emits = "final"
) -> WindowAggregation[Event, tuple[int, ...], tuple[int, ...]]:
    return WindowAggregation(windows, ids(), key=key_of, emits=emits)


#   0         10        20
#   |- 0, 1 --|- 2 -----|
#                       '- closes both: nothing of them is told before
def test_a_tumbling_window_is_told_once_when_it_closes() -> None:
    one = run(aggregation(TumblingWindows(10, 0)), at(0, 9, 10, 20), [2, 3])
    assert one.told == [[], [], []]
    assert one.fired == [("a", 0, 10, (0, 1)), ("a", 10, 20, (2,))]
    assert one.rows == {"a": Open(30, (Window(20, (3,)),))}


#   0    5    10   15   20
#   |-- 0 ----|
#        |-- 0, 1 -|
#             |-- 1 ----|
def test_hopping_windows_overlap_and_none_begins_below_zero() -> None:
    one = run(aggregation(HoppingWindows(10, 5, 0), "updates"), at(7, 12))
    assert one.told == [[("a", 0, 10, (0,)), ("a", 5, 15, (0, 1)), ("a", 10, 20, (1,))]]
    assert run(aggregation(HoppingWindows(10, 5, 0), "updates"), at(4)).told == [
        [("a", 0, 10, (0,))]
    ]


def test_events_of_a_batch_with_the_same_windows_part_where_one_has_closed_between_them() -> None:
    events = [Event(7, "a", 0), Event(12, "b", 1), Event(8, "a", 2)]
    one = run(aggregation(HoppingWindows(10, 5, 0)), events)
    assert one.fired == [("a", 0, 10, (0,))]
    assert one.rows["a"].windows == (Window(5, (0, 2)),)
    assert one.late == [Late(events[2], 0, 10, 2)]


#   0    5    10   15 16
#   |---------|      '- now, grace 4: the first one has closed at 14
#        |--- 1 ---|
def test_an_event_is_late_for_each_window_that_has_closed_and_goes_to_the_others() -> None:
    events = at(16, 7, 2)
    one = run(aggregation(HoppingWindows(10, 5, 4), "updates"), events)
    assert one.table()["a", 5, 15] == (1,)
    assert one.late == [Late(events[1], 0, 10, 2), Late(events[2], 0, 10, 2)]


@pytest.mark.parametrize(("now_ms", "by_ms"), [(13, None), (14, 0), (15, 1)])
def test_a_window_closes_when_stream_time_reaches_its_end_and_grace(
    now_ms: int, by_ms: int | None
) -> None:
    one = run(aggregation(TumblingWindows(10, 4)), [*at(0, now_ms), Event(9, "a", 2)], [2])
    assert one.late == ([] if by_ms is None else [Late(Event(9, "a", 2), 0, 10, by_ms)])
    assert one.fired == ([] if by_ms is None else [("a", 0, 10, (0,))])


def test_a_key_of_which_all_is_late_gets_no_row() -> None:
    one = run(aggregation(TumblingWindows(10, 0)), [*at(50), Event(0, "b")])
    assert list(one.rows) == ["a"]
    assert len(one.late) == 1


def test_of_updates_each_window_is_told_as_the_call_leaves_it() -> None:
    updates = aggregation(TumblingWindows(10, 0), "updates")
    events = [*at(0, 1), *at(2, key="b"), *at(3)]
    one = run(updates, events, [1])
    assert one.told == [
        [("a", 0, 10, (0,))],
        [("a", 0, 10, (0, 0, 1)), ("b", 0, 10, (0,))],
    ]
    assert run(updates, at(0, 10)).fired == []


def test_rows_are_compact_json_with_states_of_the_aggregates_type() -> None:
    aggregate = several(n=count(), most=highest(lambda e: e.n), key=first(key_of, str))
    codec = open_codec(aggregate)
    windows: tuple[Window[tuple[object, ...]], ...] = (
        Window(10, (2, None, (10, "a"))),
        Window(15, (1, 2**70, None), 17),
    )
    row = Open(20, windows)
    assert codec.encode(row) == (
        b'[20,[[10,[2,null,[10,"a"]],0],[15,[1,1180591620717411303424,null],17]]]'
    )
    assert codec.decode(codec.encode(row)) == row


@pytest.mark.parametrize(
    ("size_ms", "advance_ms", "grace_ms", "message"),
    [
        (0, 1, 0, "size_ms must be 1 or more, not 0"),
        (5, 0, 0, "advance_ms must be 1 or more, not 0"),
        (5, 1, -1, "grace_ms must be 0 or more, not -1"),
        (5, 6, 0, "advance_ms 6 is above size_ms 5: events between two windows would be in none"),
    ],
)
def test_hopping_windows_that_cannot_be_are_refused(
    size_ms: int, advance_ms: int, grace_ms: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        HoppingWindows(size_ms, advance_ms, grace_ms)


@pytest.mark.parametrize(("size_ms", "grace_ms"), [(0, 0), (-5, 0), (5, -1)])
def test_tumbling_windows_that_cannot_be_are_refused(size_ms: int, grace_ms: int) -> None:
    with pytest.raises(ValueError, match=r"must be . or more, not"):
        TumblingWindows(size_ms, grace_ms)


# -- laws ------------------------------------------------------------------------------------------


@st.composite
def hopping(draw: st.DrawFn) -> HoppingWindows:
    size_ms = draw(st.integers(1, 12))
    return HoppingWindows(size_ms, draw(st.integers(1, size_ms)), draw(GRACES))


TUMBLING = st.builds(TumblingWindows, size_ms=st.integers(1, 12), grace_ms=GRACES)


def plain(
    size_ms: int, advance_ms: int, grace_ms: int, events: list[Event]
) -> tuple[Contents, list[Late]]:
    """Return what is in each window and what is late, as the definition says it, event by event."""
    contents: Contents = {}
    late = []
    for n, event in enumerate(events):
        now_ms = max(before.timestamp for before in events[: n + 1])
        for start_ms in range(0, event.timestamp + 1, advance_ms):
            end_ms = start_ms + size_ms
            if event.timestamp >= end_ms:
                continue
            if now_ms >= end_ms + grace_ms:
                late.append(Late(event, start_ms, end_ms, now_ms - end_ms - grace_ms))
                continue
            window = event.key, start_ms, end_ms
            contents[window] = (*contents.get(window, ()), event.n)
    return contents, late


def assert_is_plain(
    one: Run, contents: Contents, late: list[Late], grace_ms: int, emits: str
) -> None:
    assert one.late == late
    closed = {window: n for window, n in contents.items() if window[2] + grace_ms <= one.now_ms}
    left = {
        (key, window.start_ms): window.state for key in one.rows for window in one.rows[key].windows
    }
    assert left == {window[:2]: n for window, n in contents.items() if window not in closed}
    assert one.final() == (closed if emits == "final" else {})
    assert one.table() == (contents if emits == "updates" else {})


@given(hopping(), EVENTS, CUTS, st.sampled_from(["final", "updates"]))
def test_hopping_windows_are_what_the_definition_says_for_any_cut(
    windows: HoppingWindows, events: list[Event], cuts: list[int], emits: Emits
) -> None:
    one = assert_cuts_change_nothing(aggregation(windows, emits), events, cuts)
    plainly = plain(windows.size_ms, windows.advance_ms, windows.grace_ms, events)
    assert_is_plain(one, *plainly, windows.grace_ms, emits)


@given(
    TUMBLING | hopping() | st.just(HoppingWindows(60, 20, 40)) | st.just(TumblingWindows(80, 40)),
    EVENTS,
    CUTS,
)
def test_events_stand_in_their_order_for_any_cut(
    windows: TumblingWindows | HoppingWindows, events: list[Event], cuts: list[int]
) -> None:
    assert_cuts_change_nothing(WindowAggregation(windows, in_order(), key=key_of), events, cuts)


@given(TUMBLING, EVENTS, CUTS, st.sampled_from(["final", "updates"]))
def test_tumbling_windows_are_what_the_definition_says_for_any_cut(
    windows: TumblingWindows, events: list[Event], cuts: list[int], emits: Emits
) -> None:
    one = assert_cuts_change_nothing(aggregation(windows, emits), events, cuts)
    plainly = plain(windows.size_ms, windows.size_ms, windows.grace_ms, events)
    assert_is_plain(one, *plainly, windows.grace_ms, emits)
