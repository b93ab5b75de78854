"""Windows of event time: which one holds an event, when it is gone, and what is late for it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.windows import StreamTime, TumblingWindows, WindowedDict

MINUTES = TumblingWindows(size_ms=60, grace_ms=100)


class At(NamedTuple):
    timestamp: int


def events(*times_ms: int) -> list[At]:
    return [At(time_ms) for time_ms in times_ms]


def taken(stream_time: StreamTime, *times_ms: int) -> list[tuple[int, int]]:
    """Return event time and window of what is on time."""
    return [(event.timestamp, start) for event, start in stream_time.on_time(events(*times_ms))]


@pytest.mark.parametrize(
    ("time_ms", "start_ms"), [(0, 0), (59, 0), (60, 60), (119, 60), (10**12 + 59, 10**12 + 20)]
)
def test_a_window_holds_its_start_and_not_its_end(time_ms: int, start_ms: int) -> None:
    assert MINUTES.start_ms(time_ms) == start_ms
    assert taken(StreamTime(MINUTES), time_ms) == [(time_ms, start_ms)]


#   0         60        120       160
#   |- window |- window |         |
#             '- grace 100 -------'  here the first one is gone
def test_a_window_lives_up_to_the_millisecond_before_its_end_and_grace() -> None:
    stream_time = StreamTime(MINUTES)
    assert taken(stream_time, 159, 0, 59) == [(159, 120), (0, 0), (59, 0)]
    assert taken(stream_time, 160, 0, 59, 60) == [(160, 120), (60, 60)]
    assert (stream_time.now_ms, stream_time.late) == (160, 2)


@pytest.mark.parametrize(
    ("now_ms", "gone_ms"), [(0, -160), (159, -1), (160, 0), (219, 59), (220, 60)]
)
def test_the_latest_start_that_is_gone_follows_stream_time(now_ms: int, gone_ms: int) -> None:
    assert MINUTES.gone_ms(now_ms) == gone_ms


@pytest.mark.parametrize("grace_ms", [0, 100])
def test_an_event_that_moves_stream_time_is_never_late_itself(grace_ms: int) -> None:
    stream_time = StreamTime(TumblingWindows(60, grace_ms))
    assert len(taken(stream_time, 5, 60, 10**12, 10**12)) == 4
    assert stream_time.late == 0


def test_without_grace_an_event_is_late_as_soon_as_the_next_window_begins() -> None:
    stream_time = StreamTime(TumblingWindows(60, 0))
    assert taken(stream_time, 10, 59, 11, 60, 59, 61) == [
        (10, 0), (59, 0), (11, 0), (60, 60), (61, 60),
    ]  # fmt: skip
    assert stream_time.late == 1


def test_the_first_event_of_all_may_be_at_time_zero() -> None:
    stream_time = StreamTime(MINUTES)
    assert taken(stream_time, 0, 0) == [(0, 0), (0, 0)]
    assert (stream_time.now_ms, stream_time.late) == (0, 0)


def test_stream_time_goes_on_from_where_it_was_committed() -> None:
    stream_time = StreamTime(MINUTES, 160)
    assert taken(stream_time, 59, 60) == [(60, 60)]
    assert (stream_time.now_ms, stream_time.late) == (160, 1)


def test_events_are_judged_one_by_one_as_they_are_asked_for() -> None:
    stream_time = StreamTime(MINUTES)
    walk = stream_time.on_time(events(10, 160))
    assert next(walk) == (At(10), 0)
    assert stream_time.now_ms == 10


def test_a_windowed_table_in_memory_takes_its_time_from_the_events() -> None:
    rows: WindowedDict[int] = WindowedDict(MINUTES)
    for event, start_ms in rows.on_time(events(10, 160, 10)):
        rows["a", start_ms] = event.timestamp
    assert rows == {("a", 0): 10, ("a", 120): 160}
    assert rows.stream_time.late == 1


# -- laws ------------------------------------------------------------------------------------------

WINDOWS = st.builds(TumblingWindows, size_ms=st.integers(1, 7), grace_ms=st.integers(0, 9))
TIMES = st.lists(st.integers(0, 60), max_size=40)


def plain(windows: TumblingWindows, times_ms: Sequence[int]) -> tuple[list[tuple[int, int]], int]:
    """Return what is on time and how many are late, as the definition says it, event by event."""
    on_time, late = [], 0
    for n, time_ms in enumerate(times_ms):
        highest_ms = max(times_ms[: n + 1])
        number = time_ms // windows.size_ms
        end_ms = (number + 1) * windows.size_ms
        if highest_ms >= end_ms + windows.grace_ms:
            late += 1
        else:
            on_time.append((time_ms, number * windows.size_ms))
    return on_time, late


@given(WINDOWS, TIMES)
def test_what_is_on_time_is_what_the_definition_says(
    windows: TumblingWindows, times_ms: list[int]
) -> None:
    stream_time = StreamTime(windows)
    on_time = taken(stream_time, *times_ms)
    assert (on_time, stream_time.late) == plain(windows, times_ms)
    assert stream_time.now_ms == max(times_ms, default=0)


@given(WINDOWS, TIMES, st.lists(st.integers(0, 40), max_size=5))
def test_where_the_events_are_cut_changes_nothing(
    windows: TumblingWindows, times_ms: list[int], cuts: list[int]
) -> None:
    whole, cut = StreamTime(windows), StreamTime(windows)
    bounds = [0, *sorted(cuts), len(times_ms)]
    parts = [found for begin, end in pairwise(bounds) for found in taken(cut, *times_ms[begin:end])]
    assert parts == taken(whole, *times_ms)
    assert (cut.now_ms, cut.late) == (whole.now_ms, whole.late)


@given(WINDOWS, st.integers(0, 60), st.integers(0, 60))
def test_gone_starts_are_those_for_which_an_event_is_late(
    windows: TumblingWindows, now_ms: int, time_ms: int
) -> None:
    is_late = not taken(StreamTime(windows, now_ms), time_ms)
    assert is_late == (windows.start_ms(time_ms) <= windows.gone_ms(max(now_ms, time_ms)))
