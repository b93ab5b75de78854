"""Joins of two versioned tables by their keys: what comes out of order gives no result.

The semantics are those of KIP-914. Such a join looks up what either table has now, and never what was: so
of a key's history it keeps the time of its latest value, and of a deletion as long as something older
may come.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from streams.operators.joins import Kind
from streams.operators.stream_table import check_kind
from streams.operators.table_table import Change
from streams.operators.timed import NEVER_MS, Fired, Late, RowCodec, TimedRows, row_codec
from streams.operators.versioned import Version
from streams.operators.windows import Timed, at_least

L = TypeVar("L")
R = TypeVar("R")


class Latest(msgspec.Struct, Generic[L, R], frozen=True, gc=False):
    """The row of a key: the latest version that either table has, one of them at least.

    From `due_ms` on a deletion is not needed any more.
    """

    due_ms: int
    left: Version[L] | None = None
    right: Version[R] | None = None


def latest_codec(left: type[L], right: type[R]) -> RowCodec[Latest[L, R]]:
    """Return how rows are written and read; the types are of the values."""
    return row_codec(Latest[left, right])  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class VersionedTableJoin(Generic[L, R]):
    """Two versioned tables, told by their changes, joined where their keys are equal.

    - As TableTableJoin: the joined table has a row where `kind` says so, each change of it is told, and
      that it is there no more once.
    - But a change counts only if it is not older than its side's latest of that key. So the joined
      table is what event times say, in whatever order a side's changes come.
    - One that is older than stream time - history_ms is late, and not used, as in a VersionedTable.

    Stream time is the highest event time so far of both. Raises ValueError for a kind that there is not,
    or a negative history.
    """

    kind: Kind
    history_ms: int
    left_key: Callable[[Any], str]
    left_value: Callable[[Any], L | None]
    right_key: Callable[[Any], str]
    right_value: Callable[[Any], R | None]

    def __post_init__(self) -> None:
        """Raise ValueError for a kind that there is not, or a history that cannot be."""
        check_kind(self.kind, Kind)
        at_least(0, history_ms=self.history_ms)

    def add_left(
        self, events: Iterable[Timed], rows: TimedRows[Latest[L, R]]
    ) -> list[Change[L, R]]:
        """Change the left table; return the changes of the joined one, in turn."""
        told: list[Change[L, R]] = []
        for event in self._on_time(events, rows):
            key = self.left_key(event)
            before = rows.get(key) or Latest(NEVER_MS)
            if before.left is None or before.left.from_ms <= event.timestamp:
                left = Version(event.timestamp, self.left_value(event))
                told += self._change(key, before, self._row(left, before.right), event, rows)
        return told

    def add_right(
        self, events: Iterable[Timed], rows: TimedRows[Latest[L, R]]
    ) -> list[Change[L, R]]:
        """Change the right table; return what add_left does."""
        told: list[Change[L, R]] = []
        for event in self._on_time(events, rows):
            key = self.right_key(event)
            before = rows.get(key) or Latest(NEVER_MS)
            if before.right is None or before.right.from_ms <= event.timestamp:
                right = Version(event.timestamp, self.right_value(event))
                told += self._change(key, before, self._row(before.left, right), event, rows)
        return told

    def fire(
        self,
        key: str,  # noqa: ARG002
        row: Latest[L, R],
        now_ms: int,
    ) -> Fired[Latest[L, R], Change[L, R]]:
        """Return what is still needed of a row, None for nothing; there is nothing to tell."""
        gone_ms = now_ms - self.history_ms

        def left_of(side: Version[Any] | None) -> Version[Any] | None:
            is_gone = side is not None and side.value is None and side.from_ms < gone_ms
            return None if is_gone else side

        left, right = left_of(row.left), left_of(row.right)
        return (self._row(left, right) if left is not None or right is not None else None), []

    def _on_time(self, events: Iterable[Timed], rows: TimedRows[Latest[L, R]]) -> Iterable[Timed]:
        """Yield what is not older than the history at its turn; tell of the rest."""
        for event, now_ms in rows.turns(events):
            time_ms = event.timestamp
            if time_ms >= now_ms - self.history_ms:
                yield event
            else:
                by_ms = now_ms - self.history_ms - time_ms
                rows.is_late(Late(event, time_ms, time_ms + self.history_ms + 1, by_ms))

    def _change(
        self,
        key: str,
        before: Latest[L, R],
        row: Latest[L, R],
        event: Timed,
        rows: TimedRows[Latest[L, R]],
    ) -> list[Change[L, R]]:
        """Set a row to what either side has now; return what is to be told of it."""
        rows[key] = row
        left, right = row.left, row.right
        there = [side for side in (left, right) if side is not None and side.value is not None]
        time_ms = max([event.timestamp, *(side.from_ms for side in there)])
        if self._is_there(left, right):
            return [Change(key, _value(left), _value(right), time_ms, event)]
        if self._is_there(before.left, before.right):
            return [Change(key, None, None, time_ms, event)]
        return []

    def _is_there(self, left: Version[L] | None, right: Version[R] | None) -> bool:
        """Tell whether the joined table has a row of what either side has."""
        has_left, has_right = _value(left) is not None, _value(right) is not None
        if self.kind == "inner":
            return has_left and has_right
        return has_left or (self.kind == "outer" and has_right)

    def _row(self, left: Version[L] | None, right: Version[R] | None) -> Latest[L, R]:
        deleted_ms = [
            side.from_ms for side in (left, right) if side is not None and side.value is None
        ]
        due_ms = min(deleted_ms) + self.history_ms + 1 if deleted_ms else NEVER_MS
        return Latest(due_ms, left, right)


def _value(side: Version[Any] | None) -> Any:
    return None if side is None else side.value
