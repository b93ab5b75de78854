"""Aggregates by key and sliding window: for each set of events that lie close together (KIP-450)."""

from bisect import bisect_left, bisect_right, insort
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

    A window that has closed stays in its row for another `difference_ms` + 1, as later ones may be made
    from it. Where results are final it has been told if it closed before the row's `due_ms`.
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
            rows[key] = self._row(windows.in_order(), windows.told_ms)
            if not self._is_final:
                told += self._results(key, windows.changes())
        return told

    def fire(self, key: str, row: Open[S], now_ms: int) -> Fired[Open[S], Windowed[R]]:
        """See Aggregation."""
        windows, closed_ms = row.windows, now_ms - self._lives_ms
        gone = bisect_right(windows, now_ms - self._stays_ms, key=_start_ms)
        left = windows[gone:] if gone else windows
        told: list[Windowed[R]] = []
        if self._is_final:
            begin = bisect_left(windows, row.due_ms - self._lives_ms, key=_start_ms)
            end = bisect_right(windows, closed_ms, begin, key=_start_ms)
            told = self._results(key, windows[begin:end])
        return self._row(left, closed_ms) if left else None, told

    def _results(self, key: str, windows: Iterable[Window[S]]) -> list[Windowed[R]]:
        difference_ms = self._difference_ms
        return [self._told(key, one.start_ms + difference_ms, one) for one in windows]

    def _row(self, windows: tuple[Window[S], ...], told_ms: int) -> Open[S]:
        """Return a row of windows of which those that start at `told_ms` or before have been told."""
        due_ms = windows[0].start_ms + self._stays_ms
        if self._is_final:
            untold = bisect_right(windows, told_ms, key=_start_ms)
            if untold < len(windows):
                due_ms = min(due_ms, windows[untold].start_ms + self._lives_ms)
        return Open(due_ms, windows)


class _Windows(Generic[T, S]):
    """A key's windows while events are added to them."""

    __slots__ = ("_aggregate", "_of", "_starts_ms", "changed", "told_ms")

    def __init__(
        self, row: Open[S] | None, lives_ms: int, aggregate: Aggregate[T, S, object]
    ) -> None:
        windows = row.windows if row else ()
        self.changed: set[int] = set()
        self._aggregate = aggregate
        self._starts_ms = [window.start_ms for window in windows]
        self._of = dict(zip(self._starts_ms, windows, strict=True))
        told = bisect_left(self._starts_ms, row.due_ms - lives_ms) if row else 0
        self.told_ms = self._starts_ms[told - 1] if told else _NONE_MS

    def in_order(self) -> tuple[Window[S], ...]:
        return tuple([self._of[start_ms] for start_ms in self._starts_ms])

    def changes(self) -> list[Window[S]]:
        return [self._of[start_ms] for start_ms in sorted(self.changed)]

    def add(self, event: T, difference_ms: int, closed_ms: int, gone_ms: int) -> list[int]:
        """Add an event to its windows, new ones included; return the starts of those it is late for.

        Windows that start at `closed_ms` or before have closed; at `gone_ms` or before, they are not
        there at all.
        """
        time_ms = event.timestamp
        left_ms = max(time_ms - difference_ms, 0)
        starts_ms = self._starts_ms
        low, high = bisect_left(starts_ms, left_ms), bisect_right(starts_ms, time_ms)
        to_add = [self._of[start_ms] for start_ms in starts_ms[low:high]]
        left = self._of.get(left_ms)
        if left is None or left.last_ms != time_ms:
            seen_ms = max(gone_ms + 1, left_ms - difference_ms)
            before = self._of[starts_ms[low - 1]] if low and starts_ms[low - 1] >= seen_ms else None
            latest = to_add[-1] if to_add else None
            to_add += self._new(time_ms, left_ms, left, before)
            if latest and latest.last_ms > time_ms and time_ms + 1 not in self._of:
                self._set(Window(time_ms + 1, latest.state, latest.last_ms))
        add = self._aggregate.add
        for window in to_add:
            if window.start_ms > closed_ms:
                last_ms = max(window.last_ms, time_ms)
                self._set(Window(window.start_ms, add(window.state, event), last_ms))
        return [window.start_ms for window in to_add if window.start_ms <= closed_ms]

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
            if start_ms not in self._of:
                new.append(Window(start_ms, initial, time_ms))
        if left is None:
            state = before.state if before and before.last_ms >= left_ms else initial
            new.append(Window(left_ms, state, time_ms))
        return new

    def _set(self, window: Window[S]) -> None:
        start_ms = window.start_ms
        if start_ms not in self._of:
            insort(self._starts_ms, start_ms)
        self._of[start_ms] = window
        self.changed.add(start_ms)


_start_ms = attrgetter("start_ms")
