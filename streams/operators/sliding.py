"""Aggregates by key and sliding window: for each set of events that lie close together (KIP-450)."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, Generic, TypeVar

from streams.operators.aggregates import Aggregate
from streams.operators.timed import Fired, Late, TimedRows
from streams.operators.windowing import Aggregation, Emits, Open, Window, Windowed
from streams.operators.windows import T, at_least

S = TypeVar("S")
R = TypeVar("R")

_NONE_MS: Final = -1
"""A time below all."""


@dataclass(frozen=True, slots=True)
class SlidingWindows:
    """Windows `[start, start + difference_ms]`, both inclusive, that end or begin where events are.

    An event at t has the window that ends at t, `[0, difference_ms]` where t is below; and, if events
    lie in it, the one that starts at t + 1. So each set of events of which none is further than
    `difference_ms` from another has a window. It has closed once stream time is beyond its end +
    `grace_ms`; what comes for it then is late. Raises ValueError if one is below 0.
    """

    difference_ms: int
    grace_ms: int

    def __post_init__(self) -> None:
        at_least(0, difference_ms=self.difference_ms, grace_ms=self.grace_ms)


class SlidingAggregation(Aggregation[T, S, R]):
    """Aggregates by sliding windows.

    A new window is made from what those around it hold, as in Kafka Streams: an event that came too late
    for all windows that were there is missed in later ones, too.

    A window that has closed stays in its row for another `difference_ms` + 1 at least, as later ones may
    be made from it. Where results are final it has been told if it closed before the row's `due_ms`.
    """

    def __init__(
        self,
        windows: SlidingWindows,
        aggregate: Aggregate[T, S, R],
        *,
        key: Callable[[T], str],
        emits: Emits = "final",
    ) -> None:
        super().__init__(aggregate, key, emits)
        self._difference_ms = windows.difference_ms
        self._grace_ms = windows.grace_ms
        self._lives_ms = windows.difference_ms + windows.grace_ms + 1
        self._stays_ms = self._lives_ms + windows.difference_ms + 1
        # Times, so far apart, at which windows leave their rows: one firing for many of them. Fixed ones, so
        # that what is left does not hang on where the input was cut (law 1).
        self._together_ms = max(self._stays_ms // 4, 1)

    def add(self, events: Iterable[T], rows: TimedRows[Open[S]]) -> list[Windowed[R]]:
        """See Aggregation."""
        key_of, lives_ms = self._key, self._lives_ms
        found: dict[str, _Windows[T, S]] = {}
        for event, now_ms in rows.turns(events):
            time_ms = event.timestamp
            if time_ms + lives_ms <= now_ms:
                late = [time_ms]
            else:
                key = key_of(event)
                windows = found.get(key)
                if windows is None:
                    windows = found[key] = _Windows(rows.get(key), lives_ms, self._aggregate)
                late = windows.add(
                    event, self._difference_ms, now_ms - lives_ms, now_ms - self._stays_ms
                )
            for start_ms in late:
                end_ms = start_ms + self._difference_ms + 1
                rows.is_late(Late(event, start_ms, end_ms, now_ms - start_ms - lives_ms))
        return self._put(found, rows)

    def _put(
        self, found: dict[str, "_Windows[T, S]"], rows: TimedRows[Open[S]]
    ) -> list[Windowed[R]]:
        told: list[Windowed[R]] = []
        for key, windows in found.items():
            if not windows.changed:
                continue
            in_order = windows.in_order()
            rows[key] = self._row(in_order, bisect_right(in_order, windows.told_ms, key=_start_ms))
            if not self._is_final:
                told += self._results(key, windows.changes())
        return told

    def fire(self, key: str, row: Open[S], now_ms: int) -> Fired[Open[S], Windowed[R]]:
        """See Aggregation."""
        windows, told_to = row.windows, 0
        told: list[Windowed[R]] = []
        if self._is_final:
            begin = told_to = bisect_left(windows, row.due_ms - self._lives_ms, key=_start_ms)
            closed_ms = now_ms - self._lives_ms
            while told_to < len(windows) and windows[told_to].start_ms <= closed_ms:
                told_to += 1  # one, mostly
            told = self._results(key, windows[begin:told_to])
        gone_ms = now_ms - now_ms % self._together_ms - self._stays_ms
        if windows[0].start_ms > gone_ms:
            return self._row(windows, told_to), told
        gone = bisect_right(windows, gone_ms, key=_start_ms)
        return self._row(windows[gone:], told_to - gone) if gone < len(windows) else None, told

    def _results(self, key: str, windows: Iterable[Window[S]]) -> list[Windowed[R]]:
        difference_ms = self._difference_ms
        return [self._told(key, one.start_ms + difference_ms, one) for one in windows]

    def _row(self, windows: tuple[Window[S], ...], told: int) -> Open[S]:
        """Return a row of windows of which so many, the first ones, have been told."""
        together_ms = self._together_ms
        due_ms = -(-(windows[0].start_ms + self._stays_ms) // together_ms) * together_ms
        if self._is_final and told < len(windows):
            due_ms = min(due_ms, windows[told].start_ms + self._lives_ms)
        return Open(due_ms, windows)


class _Windows(Generic[T, S]):
    """A key's windows while events are added to them."""

    __slots__ = ("_aggregate", "_starts_ms", "_windows", "changed", "told_ms")

    def __init__(
        self, row: Open[S] | None, lives_ms: int, aggregate: Aggregate[T, S, object]
    ) -> None:
        self._windows = list(row.windows) if row else []
        self._starts_ms = [window.start_ms for window in self._windows]
        self.changed: set[int] = set()
        self._aggregate = aggregate
        told = bisect_left(self._starts_ms, row.due_ms - lives_ms) if row else 0
        self.told_ms = self._starts_ms[told - 1] if told else _NONE_MS

    def in_order(self) -> tuple[Window[S], ...]:
        return tuple(self._windows)

    def changes(self) -> list[Window[S]]:
        return [window for window in self._windows if window.start_ms in self.changed]

    def add(self, event: T, difference_ms: int, closed_ms: int, gone_ms: int) -> list[int]:
        """Add an event to its windows, new ones included; return the starts of those it is late for.

        Windows that start at `closed_ms` or before have closed; at `gone_ms` or before, they are not
        there at all.
        """
        time_ms = event.timestamp
        left_ms = max(time_ms - difference_ms, 0)
        starts_ms, windows, aggregate = self._starts_ms, self._windows, self._aggregate
        low = bisect_left(starts_ms, left_ms)
        high = bisect_right(starts_ms, time_ms, low)
        left = windows[low] if low < high and starts_ms[low] == left_ms else None
        new: list[Window[S]] = []
        if left is None or left.last_ms != time_ms:
            seen_ms = max(gone_ms + 1, left_ms - difference_ms)
            before = windows[low - 1] if low and starts_ms[low - 1] >= seen_ms else None
            latest = windows[high - 1] if low < high else None
            new = self._new(time_ms, left_ms, left, before)
            if latest and latest.last_ms > time_ms and not self._has(time_ms + 1):
                self._insert(Window(time_ms + 1, latest.state, latest.last_ms))
        late = [start_ms for start_ms in starts_ms[low:high] if start_ms <= closed_ms]
        # What the event is by itself is found once: an `add` takes twice as long as a `merge`.
        merge, alone = aggregate.merge, aggregate.add(aggregate.initial, event)
        for place in range(low + len(late), high):
            window = windows[place]
            last_ms = window.last_ms if window.last_ms > time_ms else time_ms  # noqa: FURB136 - a tenth of all
            windows[place] = Window(window.start_ms, merge(window.state, alone), last_ms)
        self.changed.update(starts_ms[low + len(late) : high])
        for window in new:
            if window.start_ms > closed_ms:
                self._insert(Window(window.start_ms, merge(window.state, alone), time_ms))
            else:
                late.append(window.start_ms)
        return late

    def _new(
        self, time_ms: int, left_ms: int, left: Window[S] | None, before: Window[S] | None
    ) -> list[Window[S]]:
        """Return the windows that an event makes and is in, without it yet.

        They are the one that ends at it, if it is not there (`left`), and the one that starts behind the
        last event before it. `before` is the latest window that ends before the event, if it is seen.
        """
        new = []
        initial = self._aggregate.initial
        previous = before or left
        if previous and left_ms <= previous.last_ms < time_ms:
            start_ms = previous.last_ms + 1
            if not self._has(start_ms):
                new.append(Window(start_ms, initial, time_ms))
        if left is None:
            state = before.state if before and before.last_ms >= left_ms else initial
            new.append(Window(left_ms, state, time_ms))
        return new

    def _has(self, start_ms: int) -> bool:
        place = bisect_left(self._starts_ms, start_ms)
        return place < len(self._starts_ms) and self._starts_ms[place] == start_ms

    def _insert(self, window: Window[S]) -> None:
        place = bisect_left(self._starts_ms, window.start_ms)
        self._starts_ms.insert(place, window.start_ms)
        self._windows.insert(place, window)
        self.changed.add(window.start_ms)


_start_ms = attrgetter("start_ms")
