"""A task's part of a timed table: rows that are fired when stream time comes to what they say is due.

On disk the table's index tells in which minute a row is due. The rows of that minute, once stream time
is in it, and those that are changed and due no later, wait here in a heap, in the order in which they
are due. So firing costs per row that is due, not per row that is open (decision 0023).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Any, Final, TypeVar

from streams.engine.definitions import Flow, TimedTable
from streams.engine.errors import CauselessFailureError, DefinitionError
from streams.engine.expiry import EXPIRED_AT_ONCE
from streams.engine.store import MINUTE_MS, Store, minute_of
from streams.engine.table import TablePart
from streams.operators.timed import Fire, Late, TimedRow
from streams.operators.windows import T

V = TypeVar("V", bound=TimedRow)


# Rows that are fired in one go, at most: after a silence of days a single event closes millions of
# windows. The loop has to turn meanwhile, and a commit can hold no more than that many times some.
FIRED_AT_ONCE: Final = 5_000
_ALL: Final = 1 << 62


class TimedPart(TablePart[V]):
    """One partition's rows of a timed table."""

    __slots__ = (
        "_begun_ms", "_due", "_heard_ms", "_loaded_to_ms", "_queued", "_removed_to_ms",
        "_turns_ms", "has_due", "late_events", "stream_time_ms",
    )  # fmt: skip

    table: TimedTable[V]

    def __init__(self, table: TimedTable[V], store: Store) -> None:
        super().__init__(table, store)
        self.stream_time_ms = 0
        """The highest event time of the accepted batches of the flow's inputs; 0 before the first event."""
        self._heard_ms = 0
        """The highest event time itself: without what the clock has added to it."""
        self.late_events: list[Late] = []
        """What the running batch's rule found to be late, once a window."""
        self.has_due = False
        """Whether rows may be due that were not fired yet."""
        self._begun_ms = 0
        """Stream time as this step began: that of the inputs' other events depends on their turns."""
        self._turns_ms: Sequence[int] = ()
        """Stream time at the turn of each event of the running rule."""
        self._due: list[tuple[int, str]] = []
        """A heap of due time, or its minute, and key; what has changed since is found out when it is due."""
        self._queued: set[tuple[int, str]] = set()
        self._loaded_to_ms = 0
        """Rows that are due before this are in the heap: where the minute ends up to which it was read."""
        self._removed_to_ms = 0
        """The index has nothing of minutes before this one."""

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time; nothing may be open."""
        self.stream_time_ms = self._begun_ms = self._heard_ms = stream_time_ms
        self._due.clear()
        self._queued.clear()
        self._loaded_to_ms = self._removed_to_ms = 0
        self.has_due = True

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        super().reset()
        self.late_events.clear()
        self.begin_at(self.stream_time_ms)

    # -- what rules use -------------------------------------------------------------------------

    def turns(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event that the rule was given with stream time at its turn, ms."""
        given = events if isinstance(events, Sequence) else list(events)
        if len(given) != len(self._turns_ms):
            msg = (
                f"the rule of table {self.table.name} asks for the turns of other events than it was given: "
                f"filter behind turns()"
            )
            raise DefinitionError(msg)
        return zip(given, self._turns_ms, strict=True)

    def is_late(self, late: Late) -> None:
        """Take note of an event that was not used."""
        self.late_events.append(late)

    def __setitem__(self, key: str, row: V) -> None:
        super().__setitem__(key, row)
        if row.due_ms < self._loaded_to_ms:
            self._queue(row.due_ms, key)

    # -- what the engine uses -------------------------------------------------------------------

    def begin_rule(self, turns_ms: Sequence[int], *, alone: bool) -> None:
        """Say at which turns the events come that the rule is given now.

        `alone`: no other input has turns in this step, so all that came before in it is before them.
        """
        floor_ms = self.stream_time_ms if alone else self._begun_ms
        below = bisect_left(turns_ms, floor_ms)  # turns never fall
        self._turns_ms = [*repeat(floor_ms, below), *turns_ms[below:]] if below else turns_ms

    @property
    def late(self) -> int:
        """How many events of the running batch were late for some window."""
        return len({id(late.event) for late in self.late_events})

    @property
    def has_expired(self) -> bool:
        """Whether rows were fired that are to be committed, though nothing was read since."""
        return bool(self.epochs[-1])

    def undo_batch(self) -> None:
        """Forget what the running batch wrote. What it put into the heap is looked at when it is due."""
        super().undo_batch()
        self.late_events.clear()

    def accept_batch(self) -> None:
        """Make the running batch's writes part of the growing epoch."""
        super().accept_batch()
        self.late_events.clear()

    def _limit(self) -> int:
        # All that a key has open, a kilobyte or more: not a row of some counts.
        return super()._limit() // 4

    def reached(self, time_ms: int) -> None:
        """Say that an event of the flow's inputs had this time."""
        self._heard_ms = max(self._heard_ms, time_ms)
        self.stream_time_ms = max(self.stream_time_ms, time_ms)
        self.has_due = True

    def pass_quiet(self, quiet_ms: int) -> None:
        """Move stream time on as if time had passed for it as it did on the clock since the last event."""
        if self._heard_ms and self._heard_ms + quiet_ms > self.stream_time_ms:
            self.stream_time_ms = self._heard_ms + quiet_ms
            self.has_due = True

    def fire(self, flow: Flow, fire: Fire[V, Any]) -> list[Any]:
        """Close, behind a step, what is due at stream time; return what was derived, as it came due.

        Each row is fired at its own due time: so the order is the same however the input was cut. Where
        more is due than FIRED_AT_ONCE, `has_due` stays true, and no step may come before the rest.
        Raises CauselessFailureError for a row that cannot be fired: no record alone is to blame.
        """
        self._begun_ms = self.stream_time_ms
        derived: list[Any] = []
        for _ in range(FIRED_AT_ONCE):
            if (entry := self._next_due()) is None:
                self.has_due = False
                break
            due_ms, key = entry
            row = self.get(key)
            if row is None:
                continue
            if row.due_ms != due_ms:  # known by its minute alone, or changed since
                if row.due_ms < self._loaded_to_ms:
                    self._queue(row.due_ms, key)
                continue
            try:
                left, events = fire(key, row, due_ms)
                derived += events
            except Exception as error:
                msg = f"{flow.name} cannot close what is due of {key!r} in {self.table.name}: {error!r}"
                raise CauselessFailureError(msg) from error
            if left is None:
                del self[key]
            elif left.due_ms > due_ms:
                self[key] = left
            else:
                msg = f"{flow.name} leaves a row of {key!r} in {self.table.name} that is due at once again"
                raise CauselessFailureError(msg)
        return derived

    def passed(self) -> list[tuple[int, str]]:
        """Return what is to be removed from the index with the commit that begins now.

        Of minutes in which nothing is due any more: so no later commit writes an entry there, and all
        earlier ones are in the store.
        """
        oldest_ms = min(self.stream_time_ms, self._due[0][0] if self._due else _ALL)
        to_ms = minute_of(oldest_ms)
        if to_ms <= self._removed_to_ms or (self.has_due and self._loaded_to_ms <= to_ms):
            return []
        name, from_ms = self.table.name, self._removed_to_ms
        entries = self._store.due(name, from_ms, to_ms - 1, EXPIRED_AT_ONCE)
        self._removed_to_ms = to_ms if len(entries) < EXPIRED_AT_ONCE else entries[-1][0]
        return entries

    def _next_due(self) -> tuple[int, str] | None:
        """Take from the heap what is due first; None where nothing is due at stream time."""
        now_ms, due = self.stream_time_ms, self._due
        while not (due and due[0][0] <= now_ms):
            if self._loaded_to_ms > now_ms:
                return None
            self._load(now_ms)
        entry = heappop(due)
        self._queued.discard(entry)
        return entry

    def _load(self, now_ms: int) -> None:
        """Read on by a minute: the next in which rows are due, or that of stream time."""
        name, from_ms, last_ms = self.table.name, self._loaded_to_ms, minute_of(now_ms)
        newer = {
            key: minute_of(row.due_ms)
            for key, row in self._newer().items()
            if row is not None and row.due_ms >= from_ms
        }
        first = self._store.due(name, from_ms, last_ms, 1)
        minute_ms = min([last_ms, *(minute for minute, _ in first), *newer.values()])
        self._loaded_to_ms = minute_ms + MINUTE_MS
        keys = {key for _, key in self._store.due(name, minute_ms, minute_ms, _ALL)}
        # By its minute: the row itself, which tells more, is read when it comes to that.
        for key in keys | {key for key, minute in newer.items() if minute == minute_ms}:
            self._queue(minute_ms, key)

    def _queue(self, due_ms: int, key: str) -> None:
        entry = due_ms, key
        if entry not in self._queued:
            self._queued.add(entry)
            heappush(self._due, entry)
