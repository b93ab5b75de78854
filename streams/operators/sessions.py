"""Aggregates by key and session: a run of events of which none is far from the next."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, TypeVar

from streams.operators.aggregates import Aggregate
from streams.operators.timed import Fired, Late, TimedRows
from streams.operators.windowing import (
    Aggregation,
    Emits,
    Open,
    Turned,
    Window,
    Windowed,
    by_key,
)
from streams.operators.windows import T, at_least

S = TypeVar("S")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SessionWindows:
    """Runs of events of a key, each at most `gap_ms` from the next: `[first, last]`, both inclusive.

    A session has closed once stream time is beyond its last event + `gap_ms` + `grace_ms`: no event can
    be added to it any more, and one that would only be a session that has closed already is late. Raises
    ValueError for a gap below 1 or a grace below 0.
    """

    gap_ms: int
    grace_ms: int

    def __post_init__(self) -> None:
        at_least(1, gap_ms=self.gap_ms)
        at_least(0, grace_ms=self.grace_ms)


class _Sessions(list[Window[S]], Generic[S]):
    """A key's sessions while events are added to them, and what they were `before`."""

    __slots__ = ("before",)

    def __init__(self, row: Open[S] | None) -> None:
        self.before = row.windows if row else ()
        super().__init__(self.before)


class SessionAggregation(Aggregation[T, S, R | None]):
    """Aggregates by session.

    An event that is near two sessions makes them one: their states are merged, the earlier one first.
    Where updates are told, sessions that were told before and have become part of another are told with
    the value None.
    """

    def __init__(
        self,
        windows: SessionWindows,
        aggregate: Aggregate[T, S, R],
        *,
        key: Callable[[T], str],
        emits: Emits = "final",
    ) -> None:
        super().__init__(aggregate, key, emits)
        self._gap_ms = windows.gap_ms
        self._lives_ms = windows.gap_ms + windows.grace_ms

    def add(self, events: Iterable[T], rows: TimedRows[Open[S]]) -> list[Windowed[R | None]]:
        """See Aggregation."""
        turned = list(rows.turns(events))
        if not turned:
            return []
        oldest_ms = min([event.timestamp for event, _ in turned])
        if oldest_ms < turned[-1][1] - self._lives_ms:
            return self._put(self._some_late(turned, rows), rows)
        sessions_of: dict[str, _Sessions[S]] = {}
        for key, of_key in by_key(turned, self._key).items():
            row, runs = rows.get(key), list(self._runs(of_key))
            if self._is_final and len(runs) == 1 and (grown := self._grown(row, of_key)):
                rows[key] = grown
                continue
            sessions = sessions_of[key] = _Sessions(row)
            for run in runs:
                self._add_run(run, sessions)
        return self._put(sessions_of, rows)

    def _some_late(
        self, turned: Iterable[Turned[T]], rows: TimedRows[Open[S]]
    ) -> dict[str, _Sessions[S]]:
        """Add events in their order, so that the late are told in it; return what has changed."""
        sessions_of: dict[str, _Sessions[S]] = {}
        for event, now_ms in turned:
            key, time_ms = self._key(event), event.timestamp
            sessions = sessions_of.get(key) or _Sessions(rows.get(key))
            if self._add_one(event, now_ms, sessions):
                sessions_of[key] = sessions
            else:
                by_ms = now_ms - self._lives_ms - time_ms - 1
                rows.is_late(Late(event, time_ms, time_ms + 1, by_ms))
        return sessions_of

    def _runs(self, turned: Sequence[Turned[T]]) -> Iterator[Sequence[Turned[T]]]:
        """Cut a key's events into runs in order of time, without a gap in them."""
        begin = 0
        for at, ((before, _), (event, _)) in enumerate(pairwise(turned), 1):
            if not 0 <= event.timestamp - before.timestamp <= self._gap_ms:
                yield turned[begin:at]
                begin = at
        yield turned[begin:] if begin else turned

    def _grown(self, row: Open[S] | None, run: Sequence[Turned[T]]) -> Open[S] | None:
        """Return a row whose one session begins, or goes on, with a run of events; None for all else."""
        one = row.windows[0] if row else None
        events = [event for event, _ in run]
        if row and one:
            low_ms, high_ms = one.start_ms - self._gap_ms, one.last_ms + self._gap_ms
            is_near = low_ms <= events[0].timestamp <= high_ms
            if len(row.windows) > 1 or not is_near or row.due_ms <= run[-1][1]:
                return None
        grown = self._extended(one, events)
        return Open(grown.last_ms + self._lives_ms + 1, (grown,))

    def _add_run(self, run: Sequence[Turned[T]], sessions: _Sessions[S]) -> None:
        """Add a run of which no event is late: at once, where one after the other would come to the same."""
        events = [event for event, _ in run]
        low_ms, high_ms = events[0].timestamp - self._gap_ms, events[-1].timestamp + self._gap_ms
        near = [one for one in sessions if one.last_ms >= low_ms and one.start_ms <= high_ms]
        if not near:
            sessions.append(self._extended(None, events))
            return
        one, *others = near
        is_open = one.last_ms >= run[-1][1] - self._lives_ms
        if is_open and not others and one.start_ms <= events[0].timestamp + self._gap_ms:
            sessions.remove(one)
            sessions.append(self._extended(one, events))
            return
        for event, now_ms in run:
            self._add_one(event, now_ms, sessions)

    def _extended(self, session: Window[S] | None, events: Sequence[T]) -> Window[S]:
        """Return a session, or a new one, with events that are in order of time and near it."""
        aggregate, start_ms, last_ms = self._aggregate, events[0].timestamp, events[-1].timestamp
        if session is None:
            return Window(start_ms, aggregate.add_all(aggregate.initial, events), last_ms)
        return Window(
            min(start_ms, session.start_ms),
            aggregate.add_all(session.state, events),
            max(last_ms, session.last_ms),
        )

    def _add_one(self, event: T, now_ms: int, sessions: _Sessions[S]) -> bool:
        """Add an event to a key's sessions; return False if it is late and nothing was done."""
        time_ms, closed_ms = event.timestamp, now_ms - self._lives_ms
        # Those that have closed are not merged, though they may be here still.
        low_ms, high_ms = max(time_ms - self._gap_ms, closed_ms), time_ms + self._gap_ms
        near = [one for one in sessions if one.last_ms >= low_ms and one.start_ms <= high_ms]
        if time_ms < closed_ms and not near:
            return False
        for one in near:
            sessions.remove(one)
        sessions.append(self._joined(near, event))
        return True

    def _joined(self, near: list[Window[S]], event: T) -> Window[S]:
        """Return the session that sessions become with an event that is near all of them."""
        time_ms, aggregate = event.timestamp, self._aggregate
        if not near:
            return Window(time_ms, aggregate.add(aggregate.initial, event), time_ms)
        near.sort(key=_by_start)
        state = near[0].state
        for one in near[1:]:
            state = aggregate.merge(state, one.state)
        start_ms, last_ms = min(time_ms, near[0].start_ms), max(time_ms, near[-1].last_ms)
        return Window(start_ms, aggregate.add(state, event), last_ms)

    def _put(
        self, sessions_of: dict[str, _Sessions[S]], rows: TimedRows[Open[S]]
    ) -> list[Windowed[R | None]]:
        told: list[Windowed[R | None]] = []
        for key, sessions in sessions_of.items():
            sessions.sort(key=_by_start)
            rows[key] = self._row(tuple(sessions))
            if not self._is_final:
                told += self._changes(key, sessions)
        return told

    def _changes(self, key: str, sessions: _Sessions[S]) -> list[Windowed[R | None]]:
        left = set(map(_by_start, sessions))
        told: list[Windowed[R | None]] = [
            Windowed(key, *at, None) for at in map(_by_start, sessions.before) if at not in left
        ]
        unchanged = set(map(id, sessions.before))  # one that has got an event is another object
        told += [self._told(key, one.last_ms, one) for one in sessions if id(one) not in unchanged]
        return told

    def fire(self, key: str, row: Open[S], now_ms: int) -> Fired[Open[S], Windowed[R | None]]:
        """See Aggregation."""
        closed_ms = now_ms - self._lives_ms
        left = tuple([one for one in row.windows if one.last_ms >= closed_ms])
        told = [
            self._told(key, one.last_ms, one)
            for one in row.windows
            if one.last_ms < closed_ms and self._is_final
        ]
        return self._row(left) if left else None, told

    def _row(self, sessions: tuple[Window[S], ...]) -> Open[S]:
        return Open(min([one.last_ms for one in sessions]) + self._lives_ms + 1, sessions)


def _by_start(session: Window[S]) -> tuple[int, int]:
    return session.start_ms, session.last_ms
