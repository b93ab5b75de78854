"""Deduplication: of events of equal id that are close in event time, the first that comes, and no other.

The definition speaks of event times and turns alone, so where the input is cut changes nothing (law 1).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from streams.operators.timed import Fired, Late, RowCodec, TimedRows, row_codec
from streams.operators.windows import T, at_least


class Passed(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The row of an id: the times of the events that were passed on, in order, never none.

    From `due_ms` on the first of them is of no use any more.
    """

    due_ms: int
    times_ms: tuple[int, ...]


def passed_codec() -> RowCodec[Passed]:
    """Return how rows are written and read."""
    return row_codec(Passed)


@dataclass(frozen=True, kw_only=True)
class Deduplication:
    """Passes an event on unless one with its id was, whose event time is within `within_ms` of its own.

    - An event at t repeats one that was passed on at p if p - within_ms <= t <= p + within_ms, whichever
      of the two is older: what came first is passed on. One that was not passed on is repeated by none.
    - An event is late if stream time (the highest event time so far) is past t + within_ms + grace_ms at
      its turn. It is not passed on: whether it repeats anything cannot be told any more.
    - A time p is kept until stream time is past p + 2 * within_ms + grace_ms.

    `id_of` tells an event's id, which must hold what tells equal ids of two keys apart. Raises ValueError
    for a `within_ms` below 1 or a `grace_ms` below 0.
    """

    within_ms: int
    grace_ms: int
    id_of: Callable[[Any], str]

    def __post_init__(self) -> None:
        """Raise ValueError for times that cannot be."""
        at_least(1, within_ms=self.within_ms)
        at_least(0, grace_ms=self.grace_ms)

    @cached_property
    def kept_ms(self) -> int:
        """How far stream time goes past an event before nothing on time can repeat it."""
        # What repeats the one at p has t <= p + within, and is on time while stream time <= t + within
        # + grace: as for a join of the stream with itself.
        return 2 * self.within_ms + self.grace_ms

    def first(self, events: Iterable[T], rows: TimedRows[Passed]) -> list[T]:
        """Return the events that are passed on, in their order."""
        id_of, within_ms, kept_ms = self.id_of, self.within_ms, self.kept_ms
        lives_ms = within_ms + self.grace_ms
        passed: list[T] = []
        changed: dict[str, Passed] = {}
        for event, now_ms in rows.turns(events):
            time_ms = event.timestamp
            if time_ms + lives_ms < now_ms:
                by_ms = now_ms - time_ms - lives_ms
                rows.is_late(Late(event, time_ms - within_ms, time_ms + within_ms + 1, by_ms))
                continue
            id_ = id_of(event)
            if (row := changed.get(id_) or rows.get(id_)) is None:  # as mostly
                changed[id_] = Passed(time_ms + kept_ms + 1, (time_ms,))
            elif any(abs(time_ms - each_ms) <= within_ms for each_ms in row.times_ms):
                continue
            else:
                changed[id_] = self._row(tuple(sorted((*row.times_ms, time_ms))))
            passed.append(event)
        rows.update(changed)
        return passed

    def fire(self, _id: str, row: Passed, now_ms: int) -> Fired[Passed, Any]:
        """Return what may still be repeated of an id's row, None for nothing. It tells nothing."""
        gone_ms = now_ms - self.kept_ms
        left = tuple([time_ms for time_ms in row.times_ms if time_ms >= gone_ms])
        return (self._row(left) if left else None), []

    def _row(self, times_ms: tuple[int, ...]) -> Passed:
        return Passed(times_ms[0] + self.kept_ms + 1, times_ms)
