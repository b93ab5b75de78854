"""Tables that remember: each key's values by the time from which they held, and joins as of an event's time.

The semantics are those of Kafka Streams' versioned stores (KIP-889, 914, 923); see VersionedTable. Puts
come in any order of time. What is remembered, and what an event is joined with, is a function of the
events at their turns alone, wherever the input is cut (law 1).
"""

from bisect import bisect_right, insort_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from streams.operators.joins import Joined
from streams.operators.stream_table import TableJoinKind, check_kind
from streams.operators.timed import NEVER_MS, Fired, Late, RowCodec, TimedRows, row_codec
from streams.operators.windows import Timed

L = TypeVar("L")
V = TypeVar("V")


class Version(msgspec.Struct, Generic[V], frozen=True, gc=False, array_like=True):
    """What a key's value is from a time on, until the next one's; None: it has none."""

    from_ms: int
    value: V | None


class Versions(msgspec.Struct, Generic[V], frozen=True, gc=False):
    """The row of a key: its versions by time, never none. From `due_ms` on some are not needed any more."""

    due_ms: int
    versions: tuple[Version[V], ...]


class Waiting(msgspec.Struct, Generic[L, V], frozen=True, gc=False, array_like=True):
    """An event that waits for puts which are still on time.

    `is_settled`: it is due, and has found `found`; later puts are none of its business.
    """

    time_ms: int
    value: L
    is_settled: bool = False
    found: V | None = None


class VersionsAndWaiting(msgspec.Struct, Generic[L, V], frozen=True, gc=False):
    """The row of a join key: the table's versions, and the events that wait, by time, then arrival."""

    due_ms: int
    versions: tuple[Version[V], ...]
    waiting: tuple[Waiting[L, V], ...]


def versions_codec(value: type[V]) -> RowCodec[Versions[V]]:
    """Return how rows of a VersionedTable are written and read; the type is that of its values."""
    return row_codec(Versions[value])  # type: ignore[valid-type]


def versioned_join_codec(left: type[L], value: type[V]) -> RowCodec[VersionsAndWaiting[L, V]]:
    """Return how rows of a VersionedJoin are written and read; the types are of what is kept."""
    return row_codec(VersionsAndWaiting[left, value])  # type: ignore[valid-type]


_from_of: Final = attrgetter("from_ms")
_time_of: Final = attrgetter("time_ms")
_Put: TypeAlias = tuple[Any, str, int]
"""A put that is on time, its key, and stream time at its turn."""


def _whole(event: Any) -> Any:
    return event


@dataclass(frozen=True)
class _History(Generic[V]):
    """How far versions reach behind stream time."""

    history_ms: int

    def __post_init__(self) -> None:
        if self.history_ms < 0:
            raise ValueError(f"a table's history_ms is 0 or more, not {self.history_ms}")

    @cached_property
    def _together_ms(self) -> int:
        """How far the times lie apart at which versions leave: a busy key is not fired for each.

        Fixed times: what is left must not hang on where the input was cut (law 1).
        """
        return max(self.history_ms // 2, 1)

    def on_time(
        self, events: Iterable[Timed], rows: TimedRows[Any], key_of: Callable[[Any], str]
    ) -> Iterable[_Put]:
        """Yield what is not older than the history at its turn; tell of the rest."""
        for event, now_ms in rows.turns(events):
            time_ms = event.timestamp
            if time_ms < now_ms - self.history_ms:
                by_ms = now_ms - self.history_ms - time_ms
                rows.is_late(Late(event, time_ms, time_ms + self.history_ms + 1, by_ms))
            else:
                yield event, key_of(event), now_ms

    @staticmethod
    def put(versions: list[Version[V]], time_ms: int, value: V | None) -> bool:
        """Put a value in its place, over one of the same time; return whether it is the latest."""
        new = Version(time_ms, value)
        if not versions or versions[-1].from_ms < time_ms:
            versions.append(new)
            return True
        place = bisect_right(versions, time_ms, key=_from_of)
        if place and versions[place - 1].from_ms == time_ms:
            versions[place - 1] = new
            return place == len(versions)
        versions.insert(place, new)
        return False

    def as_of(self, versions: Sequence[Version[V]], time_ms: int, now_ms: int) -> V | None:
        """Return the value at a time. Before the history only the latest is known, if it holds that long."""
        if versions and versions[-1].from_ms <= time_ms:  # mostly: nothing has changed since
            return versions[-1].value
        if time_ms < now_ms - self.history_ms:
            versions = versions[-1:]
        place = bisect_right(versions, time_ms, key=_from_of)
        return versions[place - 1].value if place else None

    def left(self, versions: Sequence[Version[V]], now_ms: int) -> tuple[Version[V], ...]:
        """Return what is still needed: no time in the history has any of the rest."""
        if len(versions) == 1 and versions[0].value is not None:  # mostly: it is never forgotten
            return tuple(versions)
        gone_ms = now_ms - now_ms % self._together_ms - self.history_ms
        first = 0
        while first + 1 < len(versions) and versions[first + 1].from_ms < gone_ms:
            first += 1
        # That there is no value needs no version, once nothing can be put before it.
        if versions and versions[first].value is None and versions[first].from_ms < gone_ms:
            first += 1
        return tuple(versions[first:])

    def due_ms(self, versions: Sequence[Version[V]]) -> int:
        """Return from which stream time on some are not needed any more."""
        if not versions:
            return NEVER_MS
        if versions[0].value is None:
            gone_ms = versions[0].from_ms
        elif len(versions) > 1:
            gone_ms = versions[1].from_ms
        else:
            return NEVER_MS
        together_ms = self._together_ms
        return (gone_ms + self.history_ms) // together_ms * together_ms + together_ms


@dataclass(frozen=True, kw_only=True)
class VersionedTable(Generic[V]):
    """A table that knows what its values were up to `history_ms` behind stream time.

    - A put holds from its event's time on, until that of the next: it goes to its place, however late
      it comes, and over one of the same time. `value` of an event is None where the key is deleted.
    - It is late, and not used, if it is older than stream time - history_ms at its turn.
    - A key's latest value is never forgotten. A deleted key's row goes when nothing can be put before
      the deletion any more.

    Raises ValueError for a negative history.
    """

    history_ms: int
    key: Callable[[Any], str]
    value: Callable[[Any], V | None]

    def __post_init__(self) -> None:
        _ = self._history

    @cached_property
    def _history(self) -> _History[V]:
        return _History(self.history_ms)

    def put(self, events: Iterable[Timed], rows: TimedRows[Versions[V]]) -> list[Any]:
        """Put events in their places; return those that were, at their turn, the latest of their key.

        They alone are changes of the table as it is now: what another table is joined with.
        """
        history, value_of = self._history, self.value
        latest: list[Any] = []
        changed: dict[str, list[Version[V]]] = {}
        for event, key, _ in history.on_time(events, rows, self.key):
            if (versions := changed.get(key)) is None:
                row = rows.get(key)
                versions = changed[key] = [] if row is None else list(row.versions)
            if history.put(versions, event.timestamp, value_of(event)):
                latest.append(event)
        rows.update({key: Versions(history.due_ms(of), tuple(of)) for key, of in changed.items()})
        return latest

    def as_of(self, row: Versions[V] | None, time_ms: int, now_ms: int) -> V | None:
        """Return a key's value at a time, at stream time `now_ms`; None where it had none.

        None, too, for a time before the history, unless the latest value has held since.
        """
        return None if row is None else self._history.as_of(row.versions, time_ms, now_ms)

    def fire(self, key: str, row: Versions[V], now_ms: int) -> Fired[Versions[V], Any]:  # noqa: ARG002
        """Return what is still needed of a row, None for nothing; there is nothing to tell."""
        left = self._history.left(row.versions, now_ms)
        return (Versions(self._history.due_ms(left), left) if left else None), []


@dataclass(frozen=True, kw_only=True)
class VersionedJoin(Generic[L, V]):
    """A stream, the left side, joined with a table as of each event's time; see VersionedTable.

    - An event at t is joined when stream time reaches t + grace_ms: with the value that the table has
      at t then. So puts may come up to grace_ms later than the events that they are for.
    - If stream time is there at its turn, which without grace it always is, it is joined at once.
    - One without a value is joined with None where `kind` is left, and is no result where it is inner.

    Stream time is the highest event time so far of both. A timed table of these rows has `in_order_ms`,
    and its flow reads the table's topic before the stream's: so on ties the put comes first.
    """

    kind: TableJoinKind
    history_ms: int
    grace_ms: int
    left_key: Callable[[Any], str]
    right_key: Callable[[Any], str]
    right_value: Callable[[Any], V | None]
    keep_left: Callable[[Any], L] = _whole

    def __post_init__(self) -> None:
        """Raise ValueError for a kind that there is not, a negative time, or a grace beyond the history."""
        check_kind(self.kind, TableJoinKind)
        if self.grace_ms < 0:
            raise ValueError(f"a join's grace_ms is 0 or more, not {self.grace_ms}")
        if self._history.history_ms < self.grace_ms:
            raise ValueError(
                f"a versioned join's history_ms is at least its grace_ms, {self.grace_ms}, not "
                f"{self.history_ms}: an event that has waited would find the table forgotten"
            )

    @property
    def in_order_ms(self) -> int:
        """From which lateness on it shows in which order events and puts come; see TimedTable."""
        # A put that comes when an event is due, and holds at the event's time, is behind by the grace.
        return self.grace_ms

    @cached_property
    def _history(self) -> _History[V]:
        return _History(self.history_ms)

    def add_left(
        self, events: Iterable[Timed], rows: TimedRows[VersionsAndWaiting[L, V]]
    ) -> list[Joined[L, V]]:
        """Have the stream's events wait; return what those give that are joined at once, in turn."""
        told: list[Joined[L, V]] = []
        changed: dict[str, tuple[tuple[Version[V], ...], list[Waiting[L, V]]]] = {}
        key_of, keep, grace_ms = self.left_key, self.keep_left, self.grace_ms
        is_inner = self.kind == "inner"
        for event, now_ms in rows.turns(events):
            key, time_ms, value = key_of(event), event.timestamp, keep(event)
            sides = changed.get(key)
            row = rows.get(key) if sides is None else None
            if time_ms + grace_ms <= now_ms:
                versions = sides[0] if sides else row.versions if row else ()
                found = self._history.as_of(versions, time_ms, now_ms)
                if found is not None or not is_inner:
                    told.append(Joined(key, value, found))
                continue
            if sides is None:
                sides = ((), []) if row is None else (row.versions, list(row.waiting))
                changed[key] = sides
            waiting = sides[1]
            if waiting and waiting[-1].time_ms > time_ms:
                insort_right(waiting, Waiting(time_ms, value), key=_time_of)
            else:
                waiting.append(Waiting(time_ms, value))
        row_of = self._row
        rows.update({key: row_of(of[0], tuple(of[1])) for key, of in changed.items()})
        return told

    def add_right(self, events: Iterable[Timed], rows: TimedRows[VersionsAndWaiting[L, V]]) -> None:
        """Put the table's events in their places; see VersionedTable.put."""
        changed: dict[str, tuple[list[Version[V]], tuple[Waiting[L, V], ...]]] = {}
        for event, key, now_ms in self._history.on_time(events, rows, self.right_key):
            if (sides := changed.get(key)) is None:
                row = rows.get(key)
                sides = ([], ()) if row is None else (list(row.versions), row.waiting)
            versions, waiting = sides
            changed[key] = versions, self._settled(versions, waiting, now_ms)
            self._history.put(versions, event.timestamp, self.right_value(event))
        rows.update({key: self._row(tuple(of[0]), of[1]) for key, of in changed.items()})

    def fire(
        self, key: str, row: VersionsAndWaiting[L, V], now_ms: int
    ) -> Fired[VersionsAndWaiting[L, V], Joined[L, V]]:
        """Return what is left of a row, None for nothing; and what gives the events that are due."""
        told: list[Joined[L, V]] = []
        due, waiting = self._split(row.waiting, now_ms)
        is_inner = self.kind == "inner"
        for one in due:
            found = one.found if one.is_settled else self._found(row.versions, one)
            if found is not None or not is_inner:
                told.append(Joined(key, one.value, found))
        versions = self._history.left(row.versions, now_ms)
        return (self._row(versions, waiting) if versions or waiting else None), told

    def _split(
        self, waiting: tuple[Waiting[L, V], ...], now_ms: int
    ) -> tuple[tuple[Waiting[L, V], ...], tuple[Waiting[L, V], ...]]:
        """Return who is due, and who waits on."""
        last_ms = now_ms - self.grace_ms
        if waiting and waiting[-1].time_ms <= last_ms:  # as mostly: all of them
            return waiting, ()
        count = bisect_right(waiting, last_ms, key=_time_of)
        return waiting[:count], waiting[count:]

    def _settled(
        self, versions: Sequence[Version[V]], waiting: tuple[Waiting[L, V], ...], now_ms: int
    ) -> tuple[Waiting[L, V], ...]:
        """Have those who are due find what there is now: a put in the same batch may come after."""
        due, others = self._split(waiting, now_ms)
        if not due:
            return others
        settled: list[Waiting[L, V]] = []
        for one in due:
            if not one.is_settled:
                found = self._found(versions, one)
                one = Waiting(one.time_ms, one.value, True, found)  # noqa: PLW2901
            settled.append(one)
        return (*settled, *others)

    def _found(self, versions: Sequence[Version[V]], one: Waiting[L, V]) -> V | None:
        """Return what an event finds that is due, as of when it came to be."""
        return self._history.as_of(versions, one.time_ms, one.time_ms + self.grace_ms)

    def _row(
        self, versions: tuple[Version[V], ...], waiting: tuple[Waiting[L, V], ...]
    ) -> VersionsAndWaiting[L, V]:
        due_ms = self._history.due_ms(versions)
        if waiting:
            due_ms = min(due_ms, waiting[0].time_ms + self.grace_ms)
        return VersionsAndWaiting(due_ms, versions, waiting)
