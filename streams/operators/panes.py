"""Aggregates by tumbling or hopping windows, told when they close, kept in columns.

Rows are by *pane*: a piece of event time as long as the windows' advance, and so inside each window or
outside of it. An event changes the one row of its key and pane; a window's result is merged of its panes
when it closes (decision 0025). What is told, what is late, and in which order is as WindowAggregation has it.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, repeat
from operator import attrgetter
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np

from streams.operators.aggregates import Aggregate, Number
from streams.operators.columns import (
    Column,
    Integers,
    Rows,
    Slots,
    WindowedColumns,
    farthest,
    numbers,
)
from streams.operators.timed import NEVER_MS, Late
from streams.operators.windowing import HoppingWindows, Windowed
from streams.operators.windows import T, TumblingWindows

R = TypeVar("R")
_event_time_ms: Final = attrgetter("timestamp")
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_EVENTS: Final = "events"
_MOST: Final = 2**63 - 1


class PaneRows(Protocol):
    """What an operator sees of its rows."""

    def turns_ms(self, times_ms: Integers, /) -> Integers:
        """Return stream time at the turn of each event that was given, which are told by their times."""

    def rows(self, keys: Sequence[str], panes_ms: Integers, /) -> Rows:
        """Return the row of each key and pane, which is told by its start; one that has none gets one."""

    def is_late(self, late: Late, /) -> None:
        """Take note of an event that was not used: it is counted, and goes to the late records."""


class Pane(NamedTuple):
    """Rows of a pane: their keys, and their fields by column."""

    keys: list[str]
    columns: Sequence[Column]

    def with_rows(self, others: "Pane") -> "Pane":
        """Return these rows and others, of other keys."""
        columns = zip(self.columns, others.columns, strict=True)
        return Pane(self.keys + others.keys, [np.concatenate(both) for both in columns])


class Closed(Generic[R]):
    """A window that has closed: the result of each key, in the order of keys."""

    def __init__(
        self,
        start_ms: int,
        end_ms: int,
        merged: Pane,
        results: Callable[..., Sequence[R]],
    ) -> None:
        order = sorted(range(len(merged.keys)), key=merged.keys.__getitem__)
        self._window_ms = start_ms, end_ms
        self._keys = [merged.keys[at] for at in order]
        self._columns = [column[order] for column in merged.columns]
        self._results = results

    def __len__(self) -> int:
        return len(self._keys)

    def told(self, begin: int, end: int) -> list[Windowed[R]]:
        """Return results `begin` to `end` (exclusive)."""
        start_ms, end_ms = self._window_ms
        keys = self._keys[begin:end]
        results = self._results(*(column[begin:end].tolist() for column in self._columns))
        told = zip(keys, repeat(start_ms), repeat(end_ms), results, strict=False)
        return list(map(Windowed._make, told))


class PaneAggregation(Generic[T, R]):
    """Aggregates by tumbling or hopping windows, each told once, when it closes."""

    def __init__(
        self,
        windows: TumblingWindows | HoppingWindows,
        aggregate: Aggregate[T, Any, R],
        *,
        key: Callable[[T], str],
    ) -> None:
        """Raise ValueError for windows or an aggregate that only WindowAggregation can do."""
        if isinstance(windows, TumblingWindows):
            windows = HoppingWindows(windows.size_ms, windows.size_ms, windows.grace_ms)
        if windows.size_ms % windows.advance_ms:
            raise ValueError(
                f"size_ms {windows.size_ms} is no multiple of advance_ms {windows.advance_ms}: "
                "such windows are for WindowAggregation"
            )
        if aggregate.numbers is None:
            raise ValueError(
                "only count, total, lowest, highest, mean, variance and several of them are kept in "
                "columns: others are for WindowAggregation"
            )
        self._numbers, self._results = aggregate.numbers
        names = [_EVENTS, *(number.name for number in self._numbers)]
        if twice := [name for name, times in Counter(names).items() if times > 1]:
            raise ValueError(
                f"two numbers of a row would be called {twice[0]}: rename an aggregate"
            )
        self._key = key
        self.windows = windows
        self.panes = TumblingWindows(
            windows.advance_ms, windows.size_ms - windows.advance_ms + windows.grace_ms
        )
        """Panes as windows: one is gone when the last window that it is in has closed."""
        self._lives_ms = min(windows.size_ms + windows.grace_ms, NEVER_MS)
        self.row_type: type[Any] = msgspec.defstruct(
            "Pane", [(name, int, 0) for name in names], frozen=True, gc=False
        )
        """A row: how many events there are, and the aggregate's numbers."""
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(self.row_type).decode

    def encode(self, *columns: Sequence[int]) -> list[bytes]:
        """Return rows, which are given by column, as JSON."""
        # As a list: of any other iterable msgspec 0.22 keeps a reference for ever.
        return _encode_lines(list(map(self.row_type, *columns))).split(b"\n")[:-1]

    # -- adding ---------------------------------------------------------------------------------

    def add(self, events: Iterable[T], rows: PaneRows) -> None:
        """Add events to their panes, but those that are late for all windows; tell of the late."""
        given = events if isinstance(events, Sequence) else list(events)
        times_ms = _times_ms(given)
        panes_ms = times_ms - times_ms % self.windows.advance_ms
        # A window has closed at an event's turn if it starts no later than this.
        closed_ms = rows.turns_ms(times_ms) - self._lives_ms
        late = np.flatnonzero(self._first_starts_ms(panes_ms) <= closed_ms)
        if len(late):
            for index in late.tolist():
                self._tell_late(given[index], int(panes_ms[index]), int(closed_ms[index]), rows)
            kept = np.flatnonzero(panes_ms > closed_ms)
            given, panes_ms = [given[index] for index in kept.tolist()], panes_ms[kept]
        if given:
            self._add(given, rows.rows(list(map(self._key, given)), panes_ms))

    def _tell_late(self, event: T, pane_ms: int, closed_ms: int, rows: PaneRows) -> None:
        size_ms = self.windows.size_ms
        for start_ms in self.windows_of(pane_ms):
            if start_ms > closed_ms:
                break
            rows.is_late(Late(event, start_ms, start_ms + size_ms, closed_ms - start_ms))

    def _add(self, events: Sequence[T], rows: Rows) -> None:
        begun = np.flatnonzero(rows[_EVENTS] == 0)
        rows.add(_EVENTS, 1)
        values: dict[Callable[[Any], int], Column] = {}
        for name, of, keeps in self._numbers:
            if of not in values:  # several numbers of the same values
                values[of] = numbers(list(map(of, events)))
            if keeps == "sum":
                rows.add(name, values[of])
                continue
            rows.set(name, begun, values[of][begun])  # what is lowest of nothing is no number
            (rows.lower if keeps == "lowest" else rows.lift)(name, values[of])

    def _first_starts_ms(self, panes_ms: Integers) -> Integers:
        """Return the start of the first window of each pane."""
        return np.maximum(panes_ms - (self.windows.size_ms - self.windows.advance_ms), 0)

    # -- closing --------------------------------------------------------------------------------

    @property
    def has_overlaps(self) -> bool:
        """Tell whether a pane is in several windows."""
        return self.windows.advance_ms < self.windows.size_ms

    def until_told(self, events: Sequence[Any], stream_time_ms: int) -> int:
        """Return how many of the next events may be added before anything else is told.

        All that has closed by the present stream time was told. Not the first event, nor those behind it,
        that goes into a pane of a window which has closed by its turn: it is not to be in that.
        """
        times_ms, untold_ms = _times_ms(events), self.first_open_ms(stream_time_ms)
        if not len(times_ms) or self.first_open_ms(int(times_ms.max())) <= untold_ms:
            return len(times_ms)
        closed_ms = np.maximum.accumulate(np.maximum(times_ms, stream_time_ms)) - self._lives_ms
        closed_ms -= closed_ms % self.windows.advance_ms
        panes_ms = times_ms - times_ms % self.windows.advance_ms
        seen = (closed_ms >= np.maximum(self._first_starts_ms(panes_ms), untold_ms)) & (
            closed_ms < panes_ms
        )
        return int(seen.argmax()) if seen.any() else len(times_ms)

    def first_open_ms(self, stream_time_ms: int) -> int:
        """Return the start of the first window that has not closed at a stream time."""
        closed_ms = stream_time_ms - self._lives_ms
        return max(closed_ms - closed_ms % self.windows.advance_ms + self.windows.advance_ms, 0)

    def closes_ms(self, start_ms: int) -> int:
        """Return the stream time at which a window closes."""
        return start_ms + self._lives_ms

    def first_with_ms(self, pane_ms: int, from_ms: int) -> int:
        """Return the start of the first window, of those from one on, that a pane is in."""
        return max(pane_ms - self.windows.size_ms + self.windows.advance_ms, from_ms)

    def windows_of(self, pane_ms: int) -> Iterable[int]:
        """Return the starts of the windows that a pane is in."""
        return range(self.first_with_ms(pane_ms, 0), pane_ms + 1, self.windows.advance_ms)

    def close(self, start_ms: int, panes: Iterable[Pane]) -> Closed[R]:
        """Return what is told of a window that has closed, by those of its panes that have rows."""
        end_ms = start_ms + self.windows.size_ms
        return Closed(start_ms, end_ms, self._merged(list(panes)), self._results)

    def _merged(self, panes: Sequence[Pane]) -> Pane:
        if len(panes) == 1:
            return panes[0]
        slot_of: defaultdict[str, int] = defaultdict(count().__next__)
        slots = [
            np.fromiter(map(slot_of.__getitem__, pane.keys), np.int64, len(pane.keys))
            for pane in panes
        ]
        keys = list(slot_of)
        columns = [
            _merged_column(number.keeps, [pane.columns[n] for pane in panes], slots, len(keys))
            for n, number in enumerate((Number(_EVENTS, len, "sum"), *self._numbers))
        ]
        return Pane(keys, columns)

    def pane_of(self, keys: list[str], rows: Sequence[Any]) -> Pane:
        """Return rows, and their keys, by column."""
        names = self.row_type.__struct_fields__
        return Pane(keys, [numbers([getattr(row, name) for row in rows]) for name in names])

    def pane_in(self, columns: WindowedColumns[Any], start_ms: int) -> Pane:
        """Return the rows of a pane that are in columns, but those of which no event stayed."""
        keys, slots = columns.window(start_ms)
        fields = [columns.column(name)[slots] for name in self.row_type.__struct_fields__]
        has_events = fields[0] > 0
        if has_events.all():
            return Pane(keys, fields)
        kept = np.flatnonzero(has_events)
        return Pane([keys[at] for at in kept.tolist()], [field[kept] for field in fields])


class PaneDict(Generic[T, R]):
    """Such rows in memory, for tests of operators and rules."""

    def __init__(self, aggregation: PaneAggregation[T, R]) -> None:
        self._aggregation = aggregation
        self._columns = WindowedColumns(aggregation.row_type, aggregation.panes)
        self._told_to_ms = 0
        self.now_ms = 0
        self.late: list[Late] = []

    def as_dict(self) -> dict[tuple[str, int], Any]:
        """Return the rows of panes that are in a window which was not told, by key and start."""
        return self._columns.as_dict()

    def turns_ms(self, times_ms: Integers) -> Integers:
        """Return stream time at the turn of each of the events, their own times included."""
        turns_ms = np.maximum.accumulate(np.maximum(times_ms, self.now_ms))
        self.now_ms = int(turns_ms[-1]) if len(turns_ms) else self.now_ms
        return turns_ms

    def rows(self, keys: Sequence[str], panes_ms: Integers) -> Rows:
        """Return the row of each key and pane."""
        return self._columns.rows_at(keys, panes_ms)

    def is_late(self, late: Late) -> None:
        """Take note of an event that was not used."""
        self.late.append(late)

    def steps(self, events: Sequence[T]) -> Iterator[Sequence[T]]:
        """Yield events in such portions as an engine gives to a rule. Behind each, it fires."""
        while events:
            until = self._aggregation.until_told(events, self.now_ms)
            portion, events = events[:until], events[until:]
            yield portion

    def fire(self) -> list[Windowed[R]]:
        """Return the results of the windows that have closed by now and were not told: by start, then key."""
        aggregation, told = self._aggregation, []
        open_ms = aggregation.first_open_ms(self.now_ms)
        panes_ms = list(self._columns.starts_ms())
        starts_ms = {start for pane_ms in panes_ms for start in aggregation.windows_of(pane_ms)}
        for start_ms in sorted(starts_ms):
            if self._told_to_ms <= start_ms < open_ms:
                end_ms = start_ms + aggregation.windows.size_ms
                of_window = [pane_ms for pane_ms in panes_ms if start_ms <= pane_ms < end_ms]
                panes = [aggregation.pane_in(self._columns, pane_ms) for pane_ms in of_window]
                closed = aggregation.close(start_ms, panes)
                told += closed.told(0, len(closed))
        self._told_to_ms = open_ms
        self._columns.accept()
        self._columns.forget_gone(open_ms - 1)
        return told


def _times_ms(events: Sequence[Any]) -> Integers:
    return np.fromiter(map(_event_time_ms, events), np.int64, len(events))


def _merged_column(
    keeps: str, columns: Sequence[Column], slots: Sequence[Slots], length: int
) -> Column:
    """Return a number of merged rows: each pane's value goes to the slot of its key."""
    is_wide = any(column.dtype == np.object_ for column in columns)
    if keeps == "sum":
        is_wide = is_wide or sum(map(farthest, columns)) > _MOST
        merged = np.zeros(length, np.object_ if is_wide else np.int64)
        for column, at in zip(columns, slots, strict=True):
            merged[at] = merged[at] + column  # a pane has a key once
        return merged
    merged = np.zeros(length, np.object_ if is_wide else np.int64)
    is_there = np.zeros(length, np.bool_)
    choose = np.minimum if keeps == "lowest" else np.maximum
    for column, at in zip(columns, slots, strict=True):
        merged[at] = np.where(is_there[at], choose(merged[at], column), column)
        is_there[at] = True
    return merged
