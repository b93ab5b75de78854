"""A task's part of a table of panes: rows in columns, of windows that are told as stream time closes them.

What has closed is told behind a step, window by window, a bounded number of rows at once. Which windows
were told follows from stream time, which is committed; where a commit falls into a closing, the commit
notes how far that has got (decision 0025).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from streams.engine.column_part import ChangedColumns, WindowedColumnPart
from streams.engine.definitions import Flow, PaneTable
from streams.engine.errors import CauselessFailureError, DefinitionError, GlobalTableDamagedError
from streams.engine.notes import Telling
from streams.engine.store import Store
from streams.engine.stream_time import ClosedByStreamTime
from streams.operators.columns import Integers, Rows
from streams.operators.panes import Closed, Pane
from streams.operators.timed import Late
from streams.operators.windowing import Windowed

V = TypeVar("V")
_ALL: Final = 1 << 62
_AFTER_ALL_MS: Final = 1 << 62
# Results that are told in one go, at most: the loop has to turn meanwhile, and to commit.
TOLD_AT_ONCE: Final = 5_000


class PanePart(ClosedByStreamTime, WindowedColumnPart[V]):
    """One partition's rows of a table of panes."""

    table: PaneTable[V]

    def __init__(self, table: PaneTable[V], store: Store) -> None:
        assert table.columns is not None  # noqa: S101 - a table of panes has them
        super().__init__(table, table.columns, store)
        self.late_events: list[Late] = []
        self.has_due = False
        self._heard_ms = 0
        self._begun_ms = 0
        """Stream time as this step began: that of the inputs' other events depends on their turns."""
        self._given = 0
        """How many events the running rule was given."""
        self._turns_ms: Integers | None = None
        """Stream time at the turn of each; None where no other event's turn comes in between."""
        self._at = Telling()
        """What was told: it is at the first window that is open, where not `has_due`."""
        self._closed: Closed[Any] | None = None
        """The window that is being told."""
        self._is_ahead = False
        """Whether something was told since the last commit began."""

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time, by which all was told; nothing may be open."""
        super().begin_at(stream_time_ms)
        self._forget_told(stream_time_ms)

    def go_on_telling(self, telling: Telling) -> None:
        """Go on with a closing that was committed in parts, behind `begin_at`."""
        self._at, self.has_due = telling, True

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        super().reset()
        self.late_events.clear()
        self._forget_told(self.stream_time_ms)  # the store may be damaged: it is not asked

    def _forget_told(self, stream_time_ms: int) -> None:
        self._at = Telling(self.table.aggregation.first_open_ms(stream_time_ms))
        self._heard_ms = self._begun_ms = stream_time_ms
        self._closed, self._is_ahead, self.has_due = None, False, False

    # -- what rules use -------------------------------------------------------------------------

    def turns_ms(self, times_ms: Integers) -> Integers:
        """Return stream time at the turn of each event that the rule was given; told by their times."""
        if len(times_ms) != self._given:
            msg = (
                f"the rule of table {self.table.name} adds other events than it was given: give it those "
                f"alone that are to be added"
            )
            raise DefinitionError(msg)
        if self._turns_ms is None:
            return np.maximum.accumulate(np.maximum(times_ms, self.stream_time_ms))
        return self._turns_ms

    def rows(self, keys: Sequence[str], panes_ms: Integers) -> Rows:
        """Return the row of each key and pane; one that has none gets one."""
        return self.columns.rows_at(keys, panes_ms)

    # -- what the engine uses -------------------------------------------------------------------

    def begin_rule(self, turns_ms: Sequence[int], *, alone: bool) -> None:
        """Say at which turns the events come that the rule is given now; see TimedPart."""
        floor_ms = self.stream_time_ms if alone else self._begun_ms
        self._turns_ms = np.maximum(np.array(turns_ms, np.int64), floor_ms)
        self._given = len(turns_ms)

    def begin_batch(self, count: int) -> None:
        """Say that the rule is given all events of a batch, whose step has no other input."""
        self._turns_ms, self._given = None, count

    def until_told(self, events: Sequence[Any]) -> int:
        """Return how many of an input's next events may come before anything else is told."""
        return self.table.aggregation.until_told(events, self.stream_time_ms)

    @property
    def has_expired(self) -> bool:
        """Whether something was told that is to be committed, though nothing was read since, or removed."""
        return self._is_ahead or super().has_expired

    def accept_batch(self) -> None:
        """Make what the running batch changed part of the growing epoch."""
        self.columns.accept()
        self.late_events.clear()

    def undo_batch(self) -> None:
        """Forget what the running batch changed."""
        self.columns.undo()
        self.late_events.clear()

    def tell(self, flow: Flow, *looked_up: Any) -> tuple[list[Any], int]:
        """Tell, behind a step, of windows that have closed; return what was derived, and of how many rows.

        By window, then by key: so the order is the same however the input was cut. Where there is more
        than TOLD_AT_ONCE, `has_due` stays true, and no step may come before the rest. Raises
        CauselessFailureError where the flow cannot tell of them: no record alone is to blame. `looked_up`
        are the flow's global tables.
        """
        assert flow.tells is not None  # noqa: S101 - as layout.check has it
        self._begun_ms = self.stream_time_ms
        windows = self._next_results()
        try:
            return (list(flow.tells(windows, *looked_up)) if windows else []), len(windows)
        except GlobalTableDamagedError:
            raise
        except Exception as error:
            msg = f"{flow.name} cannot tell of what has closed in {self.table.name}: {error!r}"
            raise CauselessFailureError(msg) from error

    def _next_results(self) -> list[Windowed[Any]]:
        told: list[Windowed[Any]] = []
        while len(told) < TOLD_AT_ONCE:
            if self._closed is None:
                self._closed = self._next_closed()
            if self._closed is None:
                self.has_due = False
                break
            begin = self._at.rows
            end = min(len(self._closed), begin + TOLD_AT_ONCE - len(told))
            told += self._closed.told(begin, end)
            self._at = self._at._replace(rows=end)
            if end == len(self._closed):
                self._closed = None
                self._at = Telling(self._at.start_ms + self.table.aggregation.windows.advance_ms)
        self._is_ahead = self._is_ahead or bool(told)
        return told

    def _next_closed(self) -> Closed[Any] | None:
        """Return the next window that has closed and is to be told, and be at it; None for no such."""
        aggregation = self.table.aggregation
        open_ms = aggregation.first_open_ms(self.stream_time_ms)
        while self._at.start_ms < open_ms:
            pane_ms = self._first_pane_ms(self._at.start_ms)
            start_ms = aggregation.first_with_ms(pane_ms, self._at.start_ms)
            if start_ms >= open_ms:
                self._at = Telling(open_ms)
                break
            if start_ms > self._at.start_ms:
                self._at = Telling(start_ms)
            closed = aggregation.close(start_ms, self._panes(start_ms))
            if self._at.rows < len(closed):
                return closed
            self._at = Telling(start_ms + aggregation.windows.advance_ms)
        return None

    def _first_pane_ms(self, from_ms: int) -> int:
        """Return the start of the first pane that may have rows, from one on; later than all for none."""
        known = (start_ms for start_ms in self.columns.starts_ms() if start_ms >= from_ms)
        first_ms = min(known, default=_AFTER_ALL_MS)
        if not self._expiry.is_window_known(from_ms):
            for key in self._store.begun(self.table.name, from_ms, first_ms - 1, 1):
                _, first_ms = self.table.key_of(key)
        return first_ms

    def _panes(self, start_ms: int) -> Iterator[Pane]:
        """Yield the rows of a window's panes: those in memory, and those that the store alone has."""
        aggregation, columns = self.table.aggregation, self.columns
        end_ms = start_ms + aggregation.windows.size_ms
        stored = self._stored_alone(start_ms, end_ms)
        in_memory = (pane_ms for pane_ms in columns.starts_ms() if start_ms <= pane_ms < end_ms)
        for pane_ms in {*in_memory, *stored}:
            pane = aggregation.pane_in(columns, pane_ms)
            if keys := stored.get(pane_ms):
                texts = [self.table.key_text((key, pane_ms)).encode() for key in keys]
                pane = pane.with_rows(aggregation.pane_of(keys, self._read(texts)))
            yield pane

    def _stored_alone(self, from_ms: int, end_ms: int) -> Mapping[int, list[str]]:
        """Return the keys, by pane, that have rows in the store and not in memory."""
        found: defaultdict[int, list[str]] = defaultdict(list)
        if not self._expiry.is_window_known(from_ms):
            for text in self._store.begun(self.table.name, from_ms, end_ms - 1, _ALL):
                key, pane_ms = self.table.key_of(text)
                if not self.columns.has(key, pane_ms):
                    found[pane_ms].append(key)
        return found

    @property
    def telling(self) -> Telling | None:
        """How far a closing has got that goes on behind this commit; None where all was told."""
        return self._at if self.has_due else None

    def seal(self) -> ChangedColumns:
        """Begin a new epoch; return the changes of the one that ends, rows that are gone among them."""
        self._is_ahead = False
        return super().seal()

    def _gone_by_ms(self) -> int:
        # A pane is of use until the last window that it is in was told.
        aggregation = self.table.aggregation
        return min(self.stream_time_ms, aggregation.closes_ms(self._at.start_ms) - 1)

    def _limit(self) -> int:
        # Each row is asked for once more: when its window closes.
        return self._store.known_rows()
