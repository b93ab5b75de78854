"""Rows in columns: they are what a loop over the events leaves in a dict, however they are kept."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace
from numpy.typing import NDArray

from streams.operators.columns import Columns, KeyedColumns, Rows, WindowedColumns
from streams.operators.windows import StreamTime, TumblingWindows, key_and_start_ms

FAR_MS = 2**63 - 1


class Row(msgspec.Struct, frozen=True):
    orders: int = 0
    cents: int = 0
    first_ms: int = FAR_MS
    last_ms: int = 0
    vip: bool = False


class Event(NamedTuple):
    key: str
    timestamp: int
    cents: int = 0


def integers(values: Iterable[int]) -> NDArray[np.int64]:
    return np.array(list(values), np.int64)


def keys_of(events: Iterable[Event]) -> list[str]:
    return [event.key for event in events]


def times_of(events: Iterable[Event]) -> NDArray[np.int64]:
    return integers(event.timestamp for event in events)


def cents_of(events: Iterable[Event]) -> NDArray[np.int64]:
    return integers(event.cents for event in events)


def read_from(stored: Mapping[str, Row]) -> Callable[[Sequence[bytes]], list[Row | None]]:
    """Return what finds the rows of keys, which columns ask for."""
    return lambda texts: [stored.get(text.decode()) for text in texts]


def odd(events: Sequence[Event]) -> NDArray[np.int64]:
    """Return the events, by index, that set something."""
    return integers(n for n, event in enumerate(events) if event.timestamp % 2)


class Op(NamedTuple):
    """The same change twice: of all events' rows at once, and of one event's row."""

    of_all: Callable[[Rows, Sequence[Event]], None]
    of_one: Callable[[Row, Event], Row]


OPS = {
    "add one": Op(
        lambda rows, _events: rows.add("orders", 1),
        lambda row, _event: replace(row, orders=row.orders + 1),
    ),
    "add cents": Op(
        lambda rows, events: rows.add("cents", cents_of(events)),
        lambda row, event: replace(row, cents=row.cents + event.cents),
    ),
    "add as much as there are": Op(
        lambda rows, _events: rows.add("cents", 2**62),
        lambda row, _event: replace(row, cents=row.cents + 2**62),
    ),
    "lower": Op(
        lambda rows, events: rows.lower("first_ms", times_of(events)),
        lambda row, event: replace(row, first_ms=min(row.first_ms, event.timestamp)),
    ),
    "lift": Op(
        lambda rows, events: rows.lift("last_ms", times_of(events)),
        lambda row, event: replace(row, last_ms=max(row.last_ms, event.timestamp)),
    ),
    "set a truth value": Op(
        lambda rows, events: rows.set("vip", odd(events), value=True),
        lambda row, event: replace(row, vip=True) if event.timestamp % 2 else row,
    ),
    "set a number": Op(
        lambda rows, events: rows.set("cents", odd(events), value=7),
        lambda row, event: replace(row, cents=7) if event.timestamp % 2 else row,
    ),
}
SUMS = ("add one", "add cents", "lower", "lift", "set a truth value")
"""Those that may come in any order: each has a field of its own."""


def has_only_what_json_knows(columns: Columns[Row]) -> bool:
    """Tell whether all values are Python's own, which an encoder takes."""
    slots = np.arange(len(columns.column("orders")))
    return all({type(v) for v in values} <= {int, bool} for values in columns.values(slots))


# -- stories ---------------------------------------------------------------------------------------


def test_a_key_without_a_row_gets_one_with_the_defaults() -> None:
    columns = KeyedColumns(Row)
    rows = columns.rows(["a", "b", "a"])
    assert rows["orders"].tolist() == [0, 0, 0]
    assert columns.as_dict() == {"a": Row(), "b": Row()}


def test_each_event_of_a_row_changes_it() -> None:
    columns = KeyedColumns(Row)
    rows = columns.rows(["a", "b", "a", "a"])
    rows.add("orders", 1)
    rows.add("cents", integers([1, 20, 300, 4_000]))
    rows.lower("first_ms", integers([9, 8, 5, 7]))
    rows.lift("last_ms", integers([9, 8, 5, 7]))
    assert rows["orders"].tolist() == [3, 1, 3, 3]
    assert columns.as_dict() == {"a": Row(3, 4_301, 5, 9), "b": Row(1, 20, 8, 8)}


def test_what_a_batch_changed_can_be_undone_however_often_it_asked_for_rows() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["a"]).add("orders", 1)
    columns.accept()
    for keys in (["a", "b"], ["a", "a"]):
        columns.rows(keys).add("orders", 10)
    was_in_batch = columns.in_batch
    columns.undo()
    assert (was_in_batch, columns.in_batch) == (True, False)
    assert columns.as_dict()["a"] == Row(1)
    assert columns.rows(["b"])["orders"].tolist() == [0]


def test_what_was_accepted_is_told_once() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["a", "b"]).add("orders", 1)
    columns.accept()
    columns.rows(["b", "c"]).add("orders", 1)
    columns.undo()
    told = columns.take_changed()
    assert columns.rows_by_key(told) == {"a": Row(1), "b": Row(1)}
    assert columns.take_changed().tolist() == []


def test_rows_of_the_running_batch_are_told_with_its_changes_each_once() -> None:
    columns = KeyedColumns(Row)
    assert columns.touched().tolist() == []
    columns.rows(["a", "b"]).add("orders", 1)
    columns.rows(["b", "c"]).add("orders", 1)
    assert columns.rows_by_key(columns.touched()) == {"a": Row(1), "b": Row(2), "c": Row(1)}
    assert len(columns.touched()) == 3


@pytest.mark.parametrize("before", [0, 2**63 - 10, 2**70])
def test_a_count_is_told_as_it_was_right_after_each_event(before: int) -> None:
    columns = KeyedColumns(Row, read_from({"a": Row(before), "b": Row(5)}))
    rows = columns.rows(["a", "b", "a", "c", "a", "b"])
    rows.add("orders", 1)
    of_a_and_b = integers([0, 1, 2, 4, 5])
    assert rows.counts("orders", of_a_and_b).tolist() == [before + 1, 6, before + 2, before + 3, 7]
    assert rows.counts("orders", integers([])).tolist() == []


def test_the_first_event_of_each_row_is_told_in_the_order_of_events() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["d", "c", "b", "a"])
    rows = columns.rows(["a", "b", "a", "d", "b", "d"])
    assert rows.first_of_each(integers([0, 1, 2, 3, 4, 5])).tolist() == [0, 1, 3]
    assert rows.first_of_each(integers([2, 3, 4, 5])).tolist() == [2, 3, 4]
    assert rows.first_of_each(integers([])).tolist() == []


def test_a_sum_beyond_64_bits_is_exact_and_so_is_its_undoing() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["a"]).add("cents", 2**63 - 1)
    columns.accept()
    columns.rows(["a", "b"]).add("cents", 1)
    assert columns.as_dict() == {"a": Row(cents=2**63), "b": Row(cents=1)}
    columns.undo()
    assert columns.as_dict()["a"] == Row(cents=2**63 - 1)
    columns.rows(["a", "b", "a"]).add("cents", integers([2**63 - 1, 5, 2**63 - 1]))
    columns.accept()
    assert columns.as_dict() == {"a": Row(cents=3 * (2**63 - 1)), "b": Row(cents=5)}
    assert has_only_what_json_knows(columns)


def test_a_sum_beyond_64_bits_stays_exact_when_rows_are_forgotten_and_more_come() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["a"]).add("cents", 2**63 - 1)
    columns.rows(["a"]).add("cents", 2**63 - 1)
    columns.accept()
    columns.forget_oldest(0)
    many = [str(number) for number in range(300)]
    columns.rows([*many, "a"]).add("cents", 2**62)
    columns.accept()
    expected = {key: Row(cents=2**62) for key in many}
    assert columns.as_dict() == expected | {"a": Row(cents=2**64 - 2 + 2**62)}
    assert has_only_what_json_knows(columns)


def test_a_row_beyond_64_bits_is_read_and_goes_on() -> None:
    stored = {"a": Row(2**63, 2**70, 2**64, 2**65, vip=True)}
    columns = KeyedColumns(Row, read_from(stored))
    columns.rows(["b"]).add("cents", 3)
    rows = columns.rows(["a", "b"])
    rows.add("orders", 1)
    rows.add("cents", integers([1, 1]))
    rows.lower("first_ms", integers([2**62, 2**62]))
    rows.lift("last_ms", integers([2**62, 2**62]))
    assert columns.as_dict() == {
        "a": Row(2**63 + 1, 2**70 + 1, 2**62, 2**65, vip=True),
        "b": Row(1, 4, 2**62, 2**62),
    }
    assert has_only_what_json_knows(columns)


@pytest.mark.parametrize("count", [63, 64, 65, 128, 129, 1_000])
def test_there_is_room_for_any_number_of_rows(count: int) -> None:
    columns = KeyedColumns(Row)
    keys = [str(number) for number in range(count)]
    columns.rows(keys[:10]).add("orders", 5)
    columns.accept()
    columns.rows(keys).add("orders", 1)
    columns.accept()
    assert len(columns) == count
    assert columns.as_dict() == {key: Row(6 if n < 10 else 1) for n, key in enumerate(keys)}
    columns.forget_oldest(count)
    columns.take_changed()
    assert len(columns.forget_oldest(count // 2)) == count - count // 2


def test_what_was_not_used_for_longest_is_forgotten_and_what_changed_stays() -> None:
    columns = KeyedColumns(Row)
    for key in "abcda":
        columns.rows([key]).add("orders", 1)
        columns.accept()
    columns.take_changed()
    columns.rows(["b"]).add("orders", 1)
    columns.undo()  # a use that left nothing
    assert columns.forget_oldest(3) == ["b"]
    assert columns.forget_oldest(2) == ["c"]
    columns.rows(["d"]).add("orders", 1)
    columns.accept()
    assert columns.forget_oldest(0) == ["a"]
    assert columns.as_dict() == {"d": Row(2)}
    assert columns.rows_by_key(columns.take_changed()) == {"d": Row(2)}


def test_what_was_forgotten_is_read() -> None:
    stored: dict[str, Row] = {}
    columns = KeyedColumns(Row, read_from(stored))
    columns.rows(["a", "b"]).add("cents", integers([1, 2]))
    columns.accept()
    stored |= columns.rows_by_key(columns.take_changed())
    assert sorted(columns.forget_oldest(0)) == ["a", "b"]
    assert columns.as_dict() == {}
    assert columns.rows(["b", "a"])["cents"].tolist() == [2, 1]


def test_after_all_is_forgotten_it_begins_anew() -> None:
    columns = KeyedColumns(Row)
    columns.rows(["a"]).add("cents", 2**63 - 1)
    columns.rows(["a"]).add("cents", 1)
    columns.clear()
    assert (columns.as_dict(), columns.in_batch, len(columns)) == ({}, False, 0)
    assert columns.take_changed().tolist() == []
    columns.rows(["b"]).add("cents", 1)
    assert columns.as_dict() == {"b": Row(cents=1)}


def test_all_rows_that_are_not_there_are_asked_for_at_once_and_each_once() -> None:
    asked: list[list[bytes]] = []

    def read(texts: Sequence[bytes]) -> list[Row | None]:
        asked.append(list(texts))
        return [None] * len(texts)

    columns = KeyedColumns(Row, read)
    for keys in (["a", "b", "a"], ["b"], [], ["c", "a", "é"]):
        columns.rows(keys)
    assert asked == [[b"a", b"b"], [b"c", "é".encode()]]


def unreadable(texts: Sequence[bytes]) -> list[Row | None]:
    if any(text.startswith(b"bad") for text in texts):
        raise ValueError("nobody can read this")
    return [Row(5) for _ in texts]


def test_a_row_that_cannot_be_read_is_not_there_and_is_asked_for_again() -> None:
    columns = KeyedColumns(Row, unreadable)
    columns.rows(["a"])
    columns.undo()
    for others in ([], ["b"], [str(number) for number in range(100)]):
        with pytest.raises(ValueError, match="nobody can read this"):
            columns.rows(["bad", *others])
        columns.undo()
        columns.rows(["c"])
        columns.undo()
        assert columns.as_dict() == {"a": Row(5), "c": Row(5)}
        assert columns.forget_oldest(9) == []
    columns.rows(["b", "a"]).add("orders", 1)
    columns.accept()
    assert columns.rows_by_key(columns.take_changed()) == {"a": Row(6), "b": Row(6)}


#   0     3     6
#   |- a -|     |
#         '4 ms grace: gone at 7
def test_what_is_late_is_left_out_of_each_change() -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 4))
    rows = columns.rows(["a", "b", "a", "b"], integers([2, 7, 1, 4]))
    rows.add("orders", 1)
    rows.add("cents", integers([1, 20, 300, 4_000]))
    rows.lower("first_ms", integers([2, 7, 1, 4]))
    rows.lift("last_ms", integers([2, 7, 1, 4]))
    assert columns.as_dict() == {
        ("a", 0): Row(1, 1, 2, 2),
        ("b", 6): Row(1, 20, 7, 7),
        ("b", 3): Row(1, 4_000, 4, 4),
    }
    assert (columns.stream_time.now_ms, columns.stream_time.late) == (7, 1)


def test_a_batch_of_late_events_and_one_of_none_ask_for_no_row() -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 4))
    columns.rows(["a"], integers([9])).add("orders", 1)
    columns.accept()
    for keys, times_ms in ((["b", "c"], [0, 1]), ([], [])):
        rows = columns.rows(keys, integers(times_ms))
        rows.add("orders", 1)
        rows.add("cents", integers(times_ms))
        assert rows["orders"].tolist() == []
    assert columns.as_dict() == {("a", 9): Row(1)}
    assert columns.stream_time.late == 2


def test_rows_of_gone_windows_are_forgotten_with_their_changes_and_their_slots_used_again() -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 4))
    columns.rows(["a", "b", "c"], integers([0, 1, 3])).add("orders", 7)
    columns.accept()
    columns.forget_gone(0)
    assert columns.as_dict() == {("c", 3): Row(7)}
    assert len(columns) == 1
    columns.rows(["a", "d", "e"], integers([6, 6, 6])).add("orders", 1)
    columns.accept()
    expected = {("c", 3): Row(7), ("a", 6): Row(1), ("d", 6): Row(1), ("e", 6): Row(1)}
    assert columns.as_dict() == expected
    assert columns.rows_by_key(columns.take_changed()) == expected
    columns.forget_gone(3)
    assert len(columns.forget_oldest(2)) == 1
    assert len(columns) == 2


@pytest.mark.parametrize("others", [1, 100])
@pytest.mark.parametrize("first", [0, 3, 6])
def test_where_a_row_of_one_window_cannot_be_read_those_of_others_are_as_if_not_asked_for(
    first: int, others: int
) -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 4), unreadable)
    columns.rows(["a"], integers([0]))
    columns.undo()
    keys = [f"{n}" for n in range(others)]
    asked = [("bad", first), *((key, start_ms) for start_ms in (3, 6) for key in keys)]
    for _ in range(2):
        with pytest.raises(ValueError, match="nobody can read this"):
            columns.rows([key for key, _ in asked], integers(time_ms for _, time_ms in asked))
        columns.undo()
        columns.rows(["b"], integers([0])).add("orders", 1)
        columns.accept()
        known = columns.as_dict()
        assert known["b", 0].orders > 5
        assert {key: row for key, row in known.items() if key != ("b", 0)} == {
            key: Row(5) for key in known if key != ("b", 0)
        }
        assert len(columns) == len(known)
        columns.forget_oldest(200)
        assert columns.as_dict() == known
    assert columns.rows_by_key(columns.take_changed()) == {("b", 0): Row(7)}
    columns.forget_gone(3)
    assert {start_ms for _, start_ms in columns.as_dict()} <= {6}
    columns.rows(keys, integers([6] * others)).add("orders", 1)
    columns.accept()
    assert columns.rows_by_key(columns.take_changed()) == {(key, 6): Row(6) for key in keys}


def test_a_slot_that_is_used_again_sums_as_exactly_as_the_first_time() -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 4))
    for start_ms in (0, 6):
        rows = columns.rows(["a"], integers([start_ms]))
        for _ in range(3):
            rows.add("cents", 2**62)
        columns.accept()
        assert columns.as_dict() == {("a", start_ms): Row(cents=3 * 2**62)}
        assert has_only_what_json_knows(columns)
        columns.forget_gone(start_ms)


# -- laws ------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "", "é", "huge"])
CENTS = st.integers(0, 99) | st.sampled_from([2**62, 2**63 - 2, 2**63 - 1])
EVENTS = st.lists(st.builds(Event, KEYS, st.integers(0, 60), CENTS), max_size=30)
HUGE = Row(2**63 - 1, 2**80, 2**64, 2**65)


@given(events=EVENTS, cuts=st.lists(st.integers(0, 30), max_size=5), kept=st.integers(0, 9))
def test_where_the_events_are_cut_changes_nothing(
    events: list[Event], cuts: list[int], kept: int
) -> None:
    whole: dict[str, Row] = {"huge": HUGE}
    for event in events:
        row = whole.get(event.key, Row())
        for name in SUMS:
            row = OPS[name].of_one(row, event)
        whole[event.key] = row
    stored: dict[str, Row] = {"huge": HUGE}
    columns = KeyedColumns(Row, read_from(stored))
    for begin, end in pairwise([0, *sorted(cuts), len(events)]):
        some = events[begin:end]
        for accepted in (False, True):
            rows = columns.rows(keys_of(some))
            for name in SUMS:
                OPS[name].of_all(rows, some)
            if accepted:
                columns.accept()
            else:
                columns.undo()
        stored |= columns.rows_by_key(columns.take_changed())
        columns.forget_oldest(kept)
    assert stored == whole


class KeyedModel(RuleBasedStateMachine):
    """Columns against a dict for each of their layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stored = {"huge": HUGE}
        self.columns = KeyedColumns(Row, read_from(self.stored))
        self.accepted = dict(self.stored)
        self.shown = dict(self.stored)
        self.touched: set[str] = set()
        self.changed: set[str] = set()

    def asked_for(self, events: Sequence[Event]) -> Rows:
        self.touched |= set(keys_of(events))
        for key in keys_of(events):
            self.shown.setdefault(key, Row())
        return self.columns.rows(keys_of(events))

    def do(self, name: str, rows: Rows, events: Sequence[Event]) -> None:
        op = OPS[name]
        op.of_all(rows, events)
        for event in events:
            self.shown[event.key] = op.of_one(self.shown[event.key], event)

    @rule(events=EVENTS, names=st.lists(st.sampled_from(sorted(OPS)), max_size=4))
    def change(self, events: list[Event], names: list[str]) -> None:
        rows = self.asked_for(events)
        for name in names:
            self.do(name, rows, events)
        for field in Row.__struct_fields__:
            expected = [getattr(self.shown[event.key], field) for event in events]
            assert rows[field].tolist() == expected

    @rule(number=st.integers(1, 3))
    def change_many(self, number: int) -> None:
        events = [Event(f"{number}-{n}", n, n) for n in range(70)]
        self.do("add cents", self.asked_for(events), events)

    @rule(events=EVENTS, keys=st.sets(KEYS))
    def count(self, events: list[Event], keys: set[str]) -> None:
        """Count events one by one; look at those of some keys."""
        rows = self.asked_for(events)
        rows.add("orders", 1)
        counts, firsts, seen = [], [], set()
        for n, event in enumerate(events):
            row = self.shown[event.key]
            self.shown[event.key] = replace(row, orders=row.orders + 1)
            if event.key in keys:
                counts.append(row.orders + 1)
                firsts += [n] if event.key not in seen else []
                seen.add(event.key)
        of_keys = integers(n for n, event in enumerate(events) if event.key in keys)
        assert rows.counts("orders", of_keys).tolist() == counts
        assert rows.first_of_each(of_keys).tolist() == firsts

    @rule()
    def accept(self) -> None:
        self.columns.accept()
        self.accepted = dict(self.shown)
        self.changed |= self.touched
        self.touched = set()

    @rule()
    def undo(self) -> None:
        self.columns.undo()
        self.shown = dict(self.accepted)
        self.touched = set()

    @precondition(lambda self: not self.columns.in_batch)
    @rule()
    def take_changed(self) -> None:
        told = self.columns.rows_by_key(self.columns.take_changed())
        assert told == {key: self.accepted[key] for key in self.changed}
        self.stored |= told
        self.changed = set()

    @precondition(lambda self: not self.columns.in_batch)
    @rule(kept=st.integers(0, 90))
    def forget_oldest(self, kept: int) -> None:
        before = self.columns.as_dict()
        forgotten = self.columns.forget_oldest(kept)
        left = self.columns.as_dict()
        assert sorted([*forgotten, *left]) == sorted(before)
        assert left.keys() >= self.changed
        assert len(left) == min(len(before), max(kept, len(self.changed)))

    @rule()
    def forget_all(self) -> None:
        self.columns.clear()
        self.accepted, self.shown = dict(self.stored), dict(self.stored)
        self.touched, self.changed = set(), set()

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        known = self.columns.as_dict()
        assert known == {key: self.shown.get(key, Row()) for key in known}
        assert len(self.columns) == len(known)
        assert has_only_what_json_knows(self.columns)
        touched = self.columns.rows_by_key(self.columns.touched())
        assert touched == {key: self.shown[key] for key in self.touched}


TestKeyedModel = KeyedModel.TestCase
TestKeyedModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)

WindowKey = tuple[str, int]
ALL_WINDOWS = st.builds(TumblingWindows, size_ms=st.integers(1, 7), grace_ms=st.integers(0, 9))


def looped(events: Iterable[Event], time: StreamTime, rows: dict[WindowKey, Row]) -> None:
    """Sum each event that is on time in its row, in a plain loop."""
    for event, start_ms in time.on_time(events):
        row = rows.get((event.key, start_ms), Row())
        for name in SUMS[:4]:
            row = OPS[name].of_one(row, event)
        rows[event.key, start_ms] = row


def summed(events: Sequence[Event], columns: WindowedColumns[Row]) -> None:
    """Do the same by columns."""
    rows = columns.rows(keys_of(events), times_of(events))
    for name in SUMS[:4]:
        OPS[name].of_all(rows, events)


@given(windows=ALL_WINDOWS, events=EVENTS, cuts=st.lists(st.integers(0, 30), max_size=5))
@example(windows=TumblingWindows(5, 0), events=[], cuts=[0])
def test_events_cut_anywhere_are_summed_in_their_windows_as_in_a_loop(
    windows: TumblingWindows, events: list[Event], cuts: list[int]
) -> None:
    time, rows = StreamTime(windows), dict[WindowKey, Row]()
    looped(events, time, rows)
    columns = WindowedColumns(Row, windows)
    for begin, end in pairwise([0, *sorted(cuts), len(events)]):
        summed(events[begin:end], columns)
        columns.accept()
    assert columns.as_dict() == rows
    assert (columns.stream_time.now_ms, columns.stream_time.late) == (time.now_ms, time.late)


@given(
    windows=ALL_WINDOWS,
    times_ms=st.lists(st.integers(0, 60), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    now_ms=st.integers(0, 60),
)
def test_many_events_are_judged_as_they_are_one_by_one_wherever_they_are_cut(
    windows: TumblingWindows, times_ms: list[int], cuts: list[int], now_ms: int
) -> None:
    one_by_one, at_once = StreamTime(windows, now_ms), StreamTime(windows, now_ms)
    for begin, end in pairwise([0, *sorted(cuts), len(times_ms)]):
        some = [Event("a", time_ms, n) for n, time_ms in enumerate(times_ms[begin:end])]
        on_time = list(one_by_one.on_time(some))
        starts_ms, kept = at_once.judge(times_of(some))
        assert starts_ms.tolist() == [start_ms for _, start_ms in on_time]
        which = range(len(some)) if kept is None else kept.tolist()
        assert list(which) == [event.cents for event, _ in on_time]
        assert (at_once.now_ms, at_once.late) == (one_by_one.now_ms, one_by_one.late)
        assert type(at_once.now_ms) is int


WINDOWS = TumblingWindows(3, 4)


class WindowedModel(RuleBasedStateMachine):
    """Windowed columns against a dict and a stream time for each of their layers."""

    aheads_ms = st.sampled_from([*range(-8, 5), 0, 0, 0, 20])
    steps = st.lists(st.tuples(KEYS, aheads_ms, CENTS), max_size=12)

    def __init__(self) -> None:
        super().__init__()
        self.stored: dict[WindowKey, Row] = {("huge", 0): HUGE}
        self.columns = WindowedColumns(Row, WINDOWS, self.read)
        self.accepted: dict[WindowKey, Row] = dict(self.stored)
        self.shown: dict[WindowKey, Row] = dict(self.stored)
        self.time = StreamTime(WINDOWS)
        self.accepted_ms = 0
        self.known: set[WindowKey] = set()

    def read(self, texts: Sequence[bytes]) -> list[Row | None]:
        keys = [key_and_start_ms(text.decode()) for text in texts]
        assert len(set(keys)) == len(keys)
        assert not set(keys) & self.known
        [start_ms] = {start_ms for _, start_ms in keys}
        assert start_ms > WINDOWS.gone_ms(self.accepted_ms)
        return [self.stored.get(key) for key in keys]

    def _sum(self, events: Sequence[Event]) -> None:
        summed(events, self.columns)
        looped(events, self.time, self.shown)
        assert self.columns.stream_time.late == self.time.late
        assert self.columns.stream_time.now_ms == self.time.now_ms

    @rule(steps=steps)
    def change(self, steps: list[tuple[str, int, int]]) -> None:
        """Sum events whose times lie around the present stream time."""
        events, now_ms = [], self.time.now_ms
        for key, ahead_ms, cents in steps:
            events.append(Event(key, max(0, now_ms + ahead_ms), cents))
            now_ms = max(now_ms, events[-1].timestamp)
        self._sum(events)

    @rule()
    def change_many(self) -> None:
        self._sum([Event(f"many-{n}", self.time.now_ms, n) for n in range(70)])

    @rule()
    def accept(self) -> None:
        self.columns.accept()
        self.accepted, self.accepted_ms = dict(self.shown), self.time.now_ms

    @rule()
    def undo(self) -> None:
        self.columns.undo()
        self.shown = dict(self.accepted)
        late = self.time.late
        self.time = StreamTime(WINDOWS, self.accepted_ms)
        self.columns.stream_time = StreamTime(WINDOWS, self.accepted_ms)
        self.time.late = self.columns.stream_time.late = late

    @precondition(lambda self: not self.columns.in_batch)
    @rule()
    def forget_gone_and_take_changed(self) -> None:
        gone_ms = WINDOWS.gone_ms(self.accepted_ms)
        self.columns.forget_gone(gone_ms)
        told = self.columns.rows_by_key(self.columns.take_changed())
        alive = {key: row for key, row in self.accepted.items() if key[1] > gone_ms}
        assert told == {key: row for key, row in alive.items() if row != self.stored.get(key)}
        self.stored = dict(alive)
        self.accepted, self.shown = dict(alive), dict(alive)
        assert all(key[1] > gone_ms for key in self.columns.as_dict())

    @precondition(lambda self: not self.columns.in_batch)
    @rule(kept=st.integers(0, 90))
    def forget_oldest(self, kept: int) -> None:
        before = self.columns.as_dict()
        forgotten = self.columns.forget_oldest(kept)
        left = self.columns.as_dict()
        assert sorted([*forgotten, *left]) == sorted(before)
        assert {key: self.stored[key] for key in forgotten if before[key] != Row()} == {
            key: before[key] for key in forgotten if before[key] != Row()
        }

    @invariant()
    def holds_what_the_dict_holds(self) -> None:
        known = self.columns.as_dict()
        assert known == {key: self.shown.get(key, Row()) for key in known}
        assert len(self.columns) == len(known)
        assert has_only_what_json_knows(self.columns)
        self.known = set(known)


TestWindowedModel = WindowedModel.TestCase
TestWindowedModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_keys_that_were_looked_up_in_vain_are_not_there_afterwards() -> None:
    columns = WindowedColumns(Row, TumblingWindows(3, 0))
    with pytest.raises(ValueError, match="argument"):
        columns.rows(["a", "b", "c"], np.array([0, 3]))
    columns.rows(["z"], np.array([6]))
    columns.accept()
    assert columns.as_dict().keys() == {("z", 6)}
    columns.take_changed()
    assert columns.forget_oldest(0) == [("z", 6)]


@pytest.mark.parametrize("grace_ms", [2**63 - 1, 2**80])
def test_a_grace_for_ever_lets_nothing_be_late(grace_ms: int) -> None:
    time = StreamTime(TumblingWindows(60_000, grace_ms))
    starts_ms, kept = time.judge(np.array([10**14, 5]))
    assert (starts_ms.tolist(), kept) == ([10**14 - 10**14 % 60_000, 0], None)
