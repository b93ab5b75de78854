"""Suppression: of a table's changes, for each key, no more than one in a time; the last is never lost."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from streams.operators.timed import Fired, RowCodec, TimedRows, row_codec
from streams.operators.windows import Timed, at_least

V = TypeVar("V")


class Held(msgspec.Struct, Generic[V], frozen=True, gc=False, array_like=True):
    """A change that is told when stream time comes to `due_ms`, unless another takes its place."""

    due_ms: int
    change: V


class Suppressed(msgspec.Struct, Generic[V], frozen=True, gc=False, array_like=True):
    """The row of a key: what is to be told of it, in order, never nothing.

    The last alone may still be replaced: the others, which there are within a batch alone, were due.
    """

    due_ms: int
    held: tuple[Held[V], ...]


def suppressed_codec(kept: type[V]) -> RowCodec[Suppressed[V]]:
    """Return how rows are written and read; the type is that of what is kept of a change."""
    return row_codec(Suppressed[kept])  # type: ignore[valid-type]


def _whole(event: Any) -> Any:
    return event


@dataclass(frozen=True, kw_only=True)
class Suppression(Generic[V]):
    """Tells the changes of each key at most once in `limit_ms` of event time.

    - The first change of a key that waits for nothing, at t, makes it due at t + limit_ms. Those that
      come before stream time is there take its place, in the order in which they come, whatever their
      event times; when it is due does not change.
    - A key is told when it is due: with the change that it had before stream time got there. What comes
      from then on, the event included that brought stream time there, is the first change again.
    - A first change that is late by limit_ms or more is told at once.

    Nothing is dropped, and a deletion is a change like any other. What waits lies in rows, one for each
    key that changed within the limit: no buffer can be full. `keep` makes of an event what is told.
    Raises ValueError for a limit below 1.
    """

    limit_ms: int
    key: Callable[[Any], str]
    keep: Callable[[Any], V] = _whole

    def __post_init__(self) -> None:
        """Raise ValueError for a time that cannot be."""
        at_least(1, limit_ms=self.limit_ms)

    def add(self, events: Iterable[Timed], rows: TimedRows[Suppressed[V]]) -> None:
        """Have changes wait, in place of those that do already; `fire` tells them."""
        changed: dict[str, list[Held[V]]] = {}
        for event, now_ms in rows.turns(events):
            key = self.key(event)
            if (held := changed.get(key)) is None:
                row = rows.get(key)
                held = changed[key] = [] if row is None else list(row.held)
            if held and held[-1].due_ms > now_ms:
                held[-1] = Held(held[-1].due_ms, self.keep(event))
            else:  # what was due by this turn is told as it was, wherever the batch ends (law 1)
                due_ms = max(event.timestamp + self.limit_ms, now_ms)
                held.append(Held(due_ms, self.keep(event)))
        rows.update({key: Suppressed(held[0].due_ms, tuple(held)) for key, held in changed.items()})

    def fire(self, key: str, row: Suppressed[V], now_ms: int) -> Fired[Suppressed[V], V]:  # noqa: ARG002
        """Return what waits on of a key's row, None for nothing; and the changes that are told."""
        left = tuple([held for held in row.held if held.due_ms > now_ms])
        told = [held.change for held in row.held[: len(row.held) - len(left)]]
        return (Suppressed(left[0].due_ms, left) if left else None), told
