"""Aggregates by key and session: a run of events of which none is far from the next."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streams.operators.aggregates import Aggregate
from streams.operators.timed import Fired, Late, TimedRows
from streams.operators.windowing import Aggregation, Emits, Open, Window, Windowed, at_least
from streams.operators.windows import T

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
        key_of, gap_ms, lives_ms = self._key, self._gap_ms, self._lives_ms
        sessions_of: dict[str, _Sessions[S]] = {}
        for event, now_ms in rows.turns(events):
            time_ms = event.timestamp
            key = key_of(event)
            sessions = sessions_of.get(key)
            if sessions is None:
                sessions = _Sessions(rows.get(key))
            closed_ms = now_ms - lives_ms
            # Those that have closed are not merged, though they may be here still.
            low_ms, high_ms = max(time_ms - gap_ms, closed_ms), time_ms + gap_ms
            near = [one for one in sessions if one.last_ms >= low_ms and one.start_ms <= high_ms]
            if time_ms < closed_ms and not near:
                rows.is_late(Late(event, time_ms, time_ms + 1, closed_ms - time_ms - 1))
                continue
            for one in near:
                sessions.remove(one)
            sessions.append(self._joined(near, event))
            sessions_of[key] = sessions
        return self._put(sessions_of, rows)

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
