"""Aggregates by key and window: what a window is, what a key has open, and tumbling and hopping windows.

The semantics are those of Kafka Streams 4.3. Sliding windows and sessions stand in modules of their own.
All kinds keep one law: where the input is cut changes no result. So an event sees windows as they are at
its own turn, also where `fire` has not yet taken what has closed before.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

from streams.operators.aggregates import Aggregate
from streams.operators.timed import Fired, Late, RowCodec, TimedRows, row_codec
from streams.operators.windows import T, TumblingWindows, at_least

S = TypeVar("S")
R = TypeVar("R")
_start_ms: Final = attrgetter("start_ms")
Emits: TypeAlias = Literal["final", "updates"]
"""Each window's result once, when it closes; or its latest value whenever events have changed it."""


@dataclass(frozen=True, slots=True)
class HoppingWindows:
    """Windows `[start, start + size_ms)`, one every `advance_ms`, the first of them at 0.

    A window has closed, and what comes for it is late, from the moment that stream time reaches its end
    + `grace_ms`. Raises ValueError for a size or an advance below 1, an advance above the size, or a
    grace below 0.
    """

    size_ms: int
    advance_ms: int
    grace_ms: int

    def __post_init__(self) -> None:
        at_least(1, size_ms=self.size_ms, advance_ms=self.advance_ms)
        at_least(0, grace_ms=self.grace_ms)
        if self.advance_ms > self.size_ms:
            raise ValueError(
                f"advance_ms {self.advance_ms} is above size_ms {self.size_ms}: "
                "events between two windows would be in none"
            )


class Window(msgspec.Struct, Generic[S], frozen=True, array_like=True, gc=False):
    """What a key has of a window."""

    start_ms: int
    state: S
    last_ms: int = 0
    """The latest event time in it; kept for sliding windows and sessions alone."""


class Open(msgspec.Struct, Generic[S], frozen=True, array_like=True, gc=False):
    """A key's row: its windows by start, never none. For `due_ms` see TimedRow."""

    due_ms: int
    windows: tuple[Window[S], ...]


class Windowed(NamedTuple, Generic[R]):
    """A window's result. Its end is exclusive; of sliding windows and sessions, inclusive."""

    key: str
    start_ms: int
    end_ms: int
    value: R


def open_codec(aggregate: Aggregate[T, S, R]) -> RowCodec[Open[S]]:
    """Return how rows with an aggregate's states are written and read."""
    return row_codec(Open[aggregate.state_type])  # type: ignore[name-defined]


Turned: TypeAlias = tuple[T, int]
"""An event with stream time at its turn, ms."""


def by_key(
    turned: Iterable[Turned[T]], key_of: Callable[[T], str]
) -> Mapping[str, Sequence[Turned[T]]]:
    """Return events by key, in their order."""
    found: defaultdict[str, list[Turned[T]]] = defaultdict(list)
    for each in turned:
        found[key_of(each[0])].append(each)
    return found


class Aggregation(ABC, Generic[T, S, R]):
    """An operator that aggregates events by key and window."""

    def __init__(
        self, aggregate: Aggregate[T, S, R], key: Callable[[T], str], emits: Emits = "final"
    ) -> None:
        self._aggregate = aggregate
        self._key = key
        self._is_final = emits == "final"

    @abstractmethod
    def add(self, events: Iterable[T], rows: TimedRows[Open[S]]) -> list[Windowed[R]]:
        """Add events to their windows, and return what is to be told of the changes: see Emits.

        A window is told once, as all the events leave it. By key, as they first came, then by start.
        """

    @abstractmethod
    def fire(self, key: str, row: Open[S], now_ms: int) -> Fired[Open[S], Windowed[R]]:
        """Close what is due of a key's row; see Fire. Results are told where they are final."""

    def _told(self, key: str, end_ms: int, window: Window[S]) -> Windowed[R]:
        return Windowed(key, window.start_ms, end_ms, self._aggregate.result(window.state))


class _Changed(dict[int, S], Generic[S]):
    """The states that a call has changed of a key's windows, by start; others are found as they were."""

    __slots__ = ("before", "initial")

    def __init__(self, row: Open[S] | None, initial: S) -> None:
        super().__init__()
        self.before = row.windows if row else ()
        self.initial = initial

    def __missing__(self, start_ms: int) -> S:
        for window in self.before:  # a few
            if window.start_ms == start_ms:
                return window.state
        return self.initial

    def windows(self) -> tuple[Window[S], ...]:
        windows = [window for window in self.before if window.start_ms not in self]
        windows += [Window(start_ms, state) for start_ms, state in self.items()]
        windows.sort(key=_start_ms)
        return tuple(windows)


class WindowAggregation(Aggregation[T, S, R]):
    """Aggregates by tumbling or hopping windows.

    Each event goes to those of its windows that have not closed at its turn, and is late for the others.
    """

    def __init__(
        self,
        windows: TumblingWindows | HoppingWindows,
        aggregate: Aggregate[T, S, R],
        *,
        key: Callable[[T], str],
        emits: Emits = "final",
    ) -> None:
        """Raise ValueError for windows that cannot be; see HoppingWindows."""
        super().__init__(aggregate, key, emits)
        if isinstance(windows, TumblingWindows):
            windows = HoppingWindows(windows.size_ms, windows.size_ms, windows.grace_ms)
        self._windows = windows
        self._lives_ms = windows.size_ms + windows.grace_ms

    def add(self, events: Iterable[T], rows: TimedRows[Open[S]]) -> list[Windowed[R]]:
        """See Aggregation."""
        added = self._tumbled if self._windows.advance_ms == self._windows.size_ms else self._hopped
        told: list[Windowed[R]] = []
        for key, turned in by_key(self._on_time(events, rows), self._key).items():
            row, starts_ms = added(rows.get(key), turned)
            rows[key] = row
            if not self._is_final:
                told += [
                    self._told(key, window.start_ms + self._windows.size_ms, window)
                    for window in row.windows
                    if window.start_ms in starts_ms
                ]
        return told

    def _on_time(self, events: Iterable[T], rows: TimedRows[Open[S]]) -> Sequence[Turned[T]]:
        """Return events at their turns, but those that are late for all their windows; tell of the late."""
        turned = list(rows.turns(events))
        if not turned:
            return turned
        oldest_ms = min([event.timestamp for event, _ in turned])
        if self._first_start_ms(oldest_ms) + self._lives_ms > turned[-1][1]:
            return turned
        return [each for each in turned if self._is_on_time(*each, rows)]

    def _is_on_time(self, event: T, now_ms: int, rows: TimedRows[Open[S]]) -> bool:
        """Tell for which windows an event is late; return whether there is one for which it is not."""
        time_ms, start_ms = event.timestamp, self._first_start_ms(event.timestamp)
        while start_ms <= time_ms and start_ms + self._lives_ms <= now_ms:
            end_ms = start_ms + self._windows.size_ms
            rows.is_late(Late(event, start_ms, end_ms, now_ms - start_ms - self._lives_ms))
            start_ms += self._windows.advance_ms
        return start_ms <= time_ms

    def _tumbled(
        self, row: Open[S] | None, turned: Iterable[Turned[T]]
    ) -> tuple[Open[S], Collection[int]]:
        """Return a key's row with events in it that are on time, and which windows those are in, by start."""
        size_ms = self._windows.size_ms
        found: dict[int, list[T]] = {}
        for event, _ in turned:
            time_ms = event.timestamp
            found.setdefault(time_ms - time_ms % size_ms, []).append(event)
        for start_ms, events in found.items():
            row = self._grown(row, start_ms, events)
        assert row is not None  # noqa: S101 - a key is there for its events
        return row, found

    def _grown(self, row: Open[S] | None, start_ms: int, events: Sequence[T]) -> Open[S]:
        """Return a row with events in one of its windows, which is the latest, or a later one, mostly."""
        initial, add_all = self._aggregate.initial, self._aggregate.add_all
        if row is None:
            new = Window(start_ms, add_all(initial, events))
            return Open(start_ms + self._lives_ms, (new,))
        *earlier, latest = row.windows
        if latest.start_ms == start_ms:
            grown = Window(start_ms, add_all(latest.state, events))
            return Open(row.due_ms, (*earlier, grown))
        if latest.start_ms < start_ms:
            return Open(row.due_ms, (*row.windows, Window(start_ms, add_all(initial, events))))
        changed = _Changed(row, initial)
        changed[start_ms] = add_all(changed[start_ms], events)
        return self._row(changed.windows())

    def _hopped(
        self, row: Open[S] | None, turned: Sequence[Turned[T]]
    ) -> tuple[Open[S], Collection[int]]:
        """Do the same where windows overlap: each event goes to those that are open at its turn."""
        changed = _Changed(row, self._aggregate.initial)
        if len(turned) == 1 or not self._add_together(turned, changed):
            advance_ms, lives_ms, add = (
                self._windows.advance_ms,
                self._lives_ms,
                self._aggregate.add,
            )
            for event, now_ms in turned:
                time_ms = event.timestamp
                for start_ms in range(self._first_start_ms(time_ms), time_ms + 1, advance_ms):
                    if start_ms + lives_ms > now_ms:
                        changed[start_ms] = add(changed[start_ms], event)
        return self._row(changed.windows()), changed

    def _add_together(self, turned: Sequence[Turned[T]], changed: _Changed[S]) -> bool:
        """Add events that have the same windows, all of them open; return whether they were such."""
        advance_ms, aggregate = self._windows.advance_ms, self._aggregate
        events = [event for event, _ in turned]
        times_ms = [event.timestamp for event in events]
        oldest_ms, newest_ms = min(times_ms), max(times_ms)
        first_ms, last_ms = self._first_start_ms(oldest_ms), newest_ms - newest_ms % advance_ms
        if first_ms != self._first_start_ms(newest_ms) or last_ms > oldest_ms:
            return False
        if first_ms + self._lives_ms <= turned[-1][1]:
            return False
        starts_ms = range(first_ms, last_ms + 1, advance_ms)
        if not aggregate.merges_exactly:
            for start_ms in starts_ms:
                changed[start_ms] = aggregate.add_all(changed[start_ms], events)
            return True
        together, merge = aggregate.add_all(aggregate.initial, events), aggregate.merge
        for start_ms in starts_ms:
            changed[start_ms] = merge(changed[start_ms], together)
        return True

    def _first_start_ms(self, time_ms: int) -> int:
        """Return the start of the first window that holds an event time."""
        start_ms = max(time_ms - self._windows.size_ms + self._windows.advance_ms, 0)
        return start_ms - start_ms % self._windows.advance_ms

    def fire(self, key: str, row: Open[S], now_ms: int) -> Fired[Open[S], Windowed[R]]:
        """See Aggregation."""
        closed_ms = now_ms - self._lives_ms
        size_ms = self._windows.size_ms
        left = tuple([window for window in row.windows if window.start_ms > closed_ms])
        told = [
            self._told(key, window.start_ms + size_ms, window)
            for window in row.windows[: len(row.windows) - len(left)]
            if self._is_final
        ]
        return self._row(left) if left else None, told

    def _row(self, windows: tuple[Window[S], ...]) -> Open[S]:
        return Open(windows[0].start_ms + self._lives_ms, windows)
