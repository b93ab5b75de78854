"""A task's part of a timed table: rows that are fired when stream time comes to what they say is due.

By the minute in which it is due each row that is known is kept here, and each that is stored in the
table's index on disk. The rows of a minute, once stream time is in it, and those that are changed and due
no later, wait in a heap, in the order in which they are due. So firing costs per row that is due, not
per row that is open (decision 0023).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Any, Final, TypeVar

from streams.engine.definitions import Fires, Flow, TimedTable
from streams.engine.errors import CauselessFailureError, DefinitionError, GlobalTableDamagedError
from streams.engine.expiry import EXPIRED_AT_ONCE
from streams.engine.store import MINUTE_MS, IndexChanges, IndexEntry, Store, minute_of
from streams.engine.stream_time import ClosedByStreamTime
from streams.engine.table import UNREAD, TablePart
from streams.operators.timed import NEVER_MS, Late, TimedRow
from streams.operators.windows import T

V = TypeVar("V", bound=TimedRow)


# Rows that are fired in one go, at most: after a silence of days a single event closes millions of
# windows. The loop has to turn meanwhile, and a commit can hold no more than that many times some.
FIRED_AT_ONCE: Final = 5_000
_ALL: Final = 1 << 62


class TimedPart(ClosedByStreamTime, TablePart[V]):
    """One partition's rows of a timed table."""

    __slots__ = (
        "_begun_ms", "_due", "_heard_ms", "_loaded_to_ms", "_minutes", "_removed_to_ms",
        "_soon", "_turns_ms", "_unindexed", "_unread_to_ms", "has_due", "late_events", "stream_time_ms",
    )  # fmt: skip

    table: TimedTable[V]

    def __init__(self, table: TimedTable[V], store: Store) -> None:
        super().__init__(table, store)
        self.stream_time_ms = self._heard_ms = 0
        self.late_events: list[Late] = []
        self.has_due = False
        self._begun_ms = 0
        """Stream time as this step began: that of the inputs' other events depends on their turns."""
        self._turns_ms: Sequence[int] = ()
        """Stream time at the turn of each event of the running rule."""
        self._due: list[tuple[int, str]] = []
        """Due time and key of rows as they were when their minute was read, the last first."""
        self._soon: list[tuple[int, str]] = []
        """A heap of the same of those that have changed since; of an entry that is stale its row tells."""
        self._minutes: defaultdict[int, list[str]] = defaultdict(list)
        """Keys by the minute in which their rows are due, or were, from _loaded_to_ms on."""
        self._unindexed: defaultdict[int, list[str]] = defaultdict(list)
        """The same of what the growing epoch has changed."""
        self._loaded_to_ms = 0
        """Where the minute ends up to which rows that are due were read."""
        self._unread_to_ms = 0
        """Stored rows that are not known are due before this; 0: there are none, no use to ask for any."""
        self._removed_to_ms = 0
        """The index has nothing of minutes before this one."""

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time; nothing may be open."""
        self._forget_due(stream_time_ms)
        last_ms = self._store.last_begun(self.table.name)
        self._unread_to_ms = 0 if last_ms is None else last_ms + MINUTE_MS

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it.

        The store is not asked: that it is damaged may be the reason.
        """
        super().reset()
        self.late_events.clear()
        self._forget_due(self.stream_time_ms)
        self._unread_to_ms = _ALL

    def _forget_due(self, stream_time_ms: int) -> None:
        self.stream_time_ms = self._begun_ms = self._heard_ms = stream_time_ms
        self._due.clear()
        self._soon.clear()
        self._minutes.clear()
        self._unindexed.clear()
        self._loaded_to_ms = self._removed_to_ms = 0
        self.has_due = True

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

    def get(self, key: str, default: Any = None) -> Any:
        """Return the key's row, or `default`."""
        # As TablePart.get: joins ask for the row of each event, which mostly is not there.
        row = self._batch.get(key, UNREAD)
        if row is UNREAD:
            row = self._known.get(key, UNREAD)
            if row is UNREAD:
                row = self._read(key) if self._unread_to_ms else None
        return default if row is None else row

    def update(self, rows: Mapping[str, V], /) -> None:  # type: ignore[override] # no other form is used
        """Set many rows, none of them None."""
        self._batch.update(rows)

    # -- what the engine uses -------------------------------------------------------------------

    def begin_rule(self, turns_ms: Sequence[int], *, alone: bool) -> None:
        """Say at which turns the events come that the rule is given now.

        `alone`: no other input has turns in this step, so all that came before in it is before them.
        """
        floor_ms = self.stream_time_ms if alone else self._begun_ms
        below = bisect_left(turns_ms, floor_ms)  # turns never fall
        self._turns_ms = [*repeat(floor_ms, below), *turns_ms[below:]] if below else turns_ms

    @property
    def has_expired(self) -> bool:
        """Whether rows were fired that are to be committed, though nothing was read since."""
        return bool(self.epochs[-1])

    def undo_batch(self) -> None:
        """Forget what the running batch wrote."""
        super().undo_batch()
        self.late_events.clear()

    def accept_batch(self) -> None:
        """Make the running batch's writes part of the growing epoch."""
        known, follow = self._known, self._follow
        for key, row in self._batch.items():
            if row is not None:
                follow(key, known.get(key), row)
        super().accept_batch()
        self.late_events.clear()

    def committed(self) -> None:
        """Say that the oldest epoch's changes are in the store now."""
        known = self._known
        for key, row in self.epochs[0].items():
            if row is None and known.get(key, row) is None:
                known.pop(key, None)  # no key of a closed window comes again, mostly
        super().committed()

    def _limit(self) -> int:
        # All that a key has open, a kilobyte or more: not a row of some counts.
        return super()._limit() // 4

    def fire(self, flow: Flow, fire: Fires, *looked_up: Any) -> tuple[list[Any], int]:
        """Close, behind a step, what is due at stream time; return what was derived, and how often.

        Each row is fired at its own due time: so the order is the same however the input was cut. Where
        more is due than FIRED_AT_ONCE, `has_due` stays true, and no step may come before the rest.
        Raises CauselessFailureError for a row that cannot be fired: no record alone is to blame.
        `looked_up` are the flow's global tables.
        """
        self._begun_ms = now_ms = self.stream_time_ms
        known, changes = self._known, self.epochs[-1]
        derived: list[Any] = []
        for fired in range(FIRED_AT_ONCE):
            if (entry := self._next_due(now_ms)) is None:
                self.has_due = False
                return derived, fired
            due_ms, key = entry
            if key not in known:
                self._read_many([key])
            row = known.get(key)
            if row is None or row.due_ms != due_ms:  # it has changed since
                continue
            try:
                left, events = fire(key, row, due_ms, *looked_up)
                derived += events
            except GlobalTableDamagedError:
                raise
            except Exception as error:
                msg = f"{flow.name} cannot close what is due of {key!r} in {self.table.name}: {error!r}"
                raise CauselessFailureError(msg) from error
            if left is not None:
                if left.due_ms <= due_ms:
                    of = f"{key!r} in {self.table.name}"
                    msg = f"{flow.name} leaves a row of {of} that is due at once again"
                    raise CauselessFailureError(msg)
                self._follow(key, row, left)
            known[key] = changes[key] = left
        return derived, FIRED_AT_ONCE

    def seal_index(self) -> IndexChanges:
        """Return what the commit that begins now changes in the index: of the epoch that ends, and before.

        What it removes is of minutes in which nothing is due any more, and all entries of earlier commits
        are in the store.
        """
        added, self._unindexed = self._unindexed, defaultdict(list)
        passed = self._passed()
        # Of what this commit adds some may have been fired by now: the next one removes that.
        self._removed_to_ms = min([self._removed_to_ms, *added])
        return IndexChanges(added, passed)

    def _passed(self) -> Sequence[IndexEntry]:
        oldest_ms = min([self.stream_time_ms, *(ms for ms, _ in self._due[-1:] + self._soon[:1])])
        to_ms = minute_of(oldest_ms)
        if to_ms <= self._removed_to_ms or (self.has_due and self._loaded_to_ms <= to_ms):
            return ()
        name, from_ms = self.table.name, self._removed_to_ms
        passed = self._store.due(name, from_ms, to_ms - 1, EXPIRED_AT_ONCE)
        self._removed_to_ms = to_ms if len(passed) < EXPIRED_AT_ONCE else passed[-1].minute_ms
        return passed

    def _follow(self, key: str, before: V | None, row: V) -> None:
        """Have a row found when it is due."""
        due_ms = row.due_ms
        minute_ms = due_ms - due_ms % MINUTE_MS
        before_ms = -1 if before is None else before.due_ms
        if due_ms == before_ms:
            return
        if due_ms < self._loaded_to_ms:
            heappush(self._soon, (due_ms, key))
        elif before_ms - before_ms % MINUTE_MS != minute_ms:
            if due_ms < NEVER_MS:
                self._minutes[minute_ms].append(key)
        else:
            return
        self._unindexed[minute_ms].append(key)

    def _next_due(self, now_ms: int) -> tuple[int, str] | None:
        """Take what is due first; None where nothing is due now."""
        while True:
            due, soon = self._due, self._soon
            if soon and not (due and due[-1] <= soon[0]):
                if soon[0][0] <= now_ms:
                    return heappop(soon)
            elif due and due[-1][0] <= now_ms:
                return due.pop()
            if self._loaded_to_ms > now_ms:
                return None
            self._load(now_ms)

    def _load(self, now_ms: int) -> None:
        """Read on by a minute: the next in which rows are due, or that of stream time. None else is due."""
        from_ms, last_ms = self._loaded_to_ms, minute_of(now_ms)
        if self._unread_to_ms <= from_ms:
            self._unread_to_ms = 0
        stored = self._stored(from_ms, last_ms, 1)
        minute_ms = min([last_ms, *self._minutes, *(entry.minute_ms for entry in stored)])
        self._loaded_to_ms = to_ms = minute_ms + MINUTE_MS
        keys = dict.fromkeys(self._minutes.pop(minute_ms, ()))
        for entry in self._stored(minute_ms, minute_ms, _ALL):
            keys.update(dict.fromkeys(entry.keys))
        self._read_many(keys)
        rows = zip(map(self._known.get, keys), keys, strict=True)
        self._due = [
            (row.due_ms, key) for row, key in rows if row is not None and row.due_ms < to_ms
        ]
        self._due.sort(reverse=True)

    def _stored(self, from_ms: int, to_ms: int, limit: int) -> list[IndexEntry]:
        """Return of the index on disk what may tell of rows that are not known."""
        if from_ms >= self._unread_to_ms:
            return []
        return self._store.due(self.table.name, from_ms, to_ms, limit)

    def _read_many(self, keys: Iterable[str]) -> None:
        """Know the rows of these keys."""
        known, decode = self._known, self.table.decode
        unknown = [key for key in keys if key not in known] if self._unread_to_ms else []
        values = self._store.get_many(self.table.name, map(str.encode, unknown))
        for key, value in zip(unknown, values, strict=True):
            known[key] = None if value is None else decode(value)
        self._asked += len(unknown)

    def _forget(self, keys: Sequence[str]) -> None:
        rows = map(self._known.__getitem__, keys)
        last_ms = max((row.due_ms for row in rows if row is not None), default=-MINUTE_MS)
        self._unread_to_ms = max(self._unread_to_ms, minute_of(last_ms) + MINUTE_MS)
        super()._forget(keys)
        # Those of rows that are stored alone are in the index there: there can be many more than known ones.
        self._minutes.clear()
        for key, row in self._known.items():
            if row is not None and self._loaded_to_ms <= row.due_ms < NEVER_MS:
                self._minutes[minute_of(row.due_ms)].append(key)
