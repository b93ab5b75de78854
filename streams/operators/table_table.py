"""Joins of two tables by their keys: a table that changes with either; see TableTableJoin."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from streams.operators.joins import Kind
from streams.operators.stream_table import check_kind
from streams.operators.windows import Timed

L = TypeVar("L")
R = TypeVar("R")
V = TypeVar("V")


class KeptRows(Protocol[V]):
    """What an operator sees of a table that its flow keeps; a dict will do."""

    def get(self, key: str, /) -> V | None:
        """Return the key's row, None where there is none."""

    def __setitem__(self, key: str, row: V, /) -> None: ...

    def __delitem__(self, key: str, /) -> None: ...


class Change(msgspec.Struct, Generic[L, R], frozen=True, gc=False):
    """A row of the joined table as it is now; without left and right, it is there no more.

    `time_ms`: the event time of the change, or that of what it is joined with, if that is later.
    `event`: what changed it; its id and the key tell the changes apart.
    """

    key: str
    left: L | None
    right: R | None
    time_ms: int
    event: Any

    @property
    def is_deletion(self) -> bool:
        """Whether it deletes the row."""
        return self.left is None and self.right is None


class Cell(msgspec.Struct, Generic[V], frozen=True, gc=False, array_like=True):
    """What one of the tables has for a key, and since which event time."""

    time_ms: int
    value: V


class Cells(msgspec.Struct, Generic[L, R], frozen=True, gc=False):
    """The row of a key: what either table has for it, one of them at least."""

    left: Cell[L] | None = None
    right: Cell[R] | None = None


def cells_codec(
    left: type[L], right: type[R]
) -> tuple[Callable[[Cells[L, R]], bytes], Callable[[bytes], Cells[L, R]]]:
    """Return how rows are written and read, for a Table; the types are of the values."""
    row_type: Any = Cells[left, right]  # type: ignore[valid-type]
    return msgspec.json.Encoder().encode, msgspec.json.Decoder(row_type).decode


@dataclass(frozen=True, kw_only=True)
class TableTableJoin(Generic[L, R]):
    """Two tables, told by their changes, joined where their keys are equal.

    - The joined table has a row where `kind` says so: inner, where both have one; left, where the left
      one has; outer, where either has.
    - Each event is a change of its table: its value is the new one, None deletes. They count in the
      order in which they come, whatever their event times.
    - Each change of a row is told, also one to the same value. That a row is there no more is told
      once, and only if it was there.

    Raises ValueError for a kind that there is not.
    """

    kind: Kind
    left_key: Callable[[Any], str]
    left_value: Callable[[Any], L | None]
    right_key: Callable[[Any], str]
    right_value: Callable[[Any], R | None]

    def __post_init__(self) -> None:
        check_kind(self.kind, Kind)

    def add_left(self, events: Iterable[Timed], rows: KeptRows[Cells[L, R]]) -> list[Change[L, R]]:
        """Change the left table; return the changes of the joined one, in turn."""
        told: list[Change[L, R]] = []
        key_of, value_of, get, is_inner = self.left_key, self.left_value, rows.get, self._is_inner
        for event in events:
            key, value, time_ms = key_of(event), value_of(event), event.timestamp
            before = get(key)
            right = None if before is None else before.right
            if value is None:
                told += self._without(key, before, None, right, event, rows)
                continue
            rows[key] = Cells(Cell(time_ms, value), right)
            if right is not None:
                told.append(Change(key, value, right.value, max(time_ms, right.time_ms), event))
            elif not is_inner:
                told.append(Change(key, value, None, time_ms, event))
        return told

    def add_right(self, events: Iterable[Timed], rows: KeptRows[Cells[L, R]]) -> list[Change[L, R]]:
        """Change the right table; return what add_left does."""
        told: list[Change[L, R]] = []
        key_of, value_of, get, is_outer = self.right_key, self.right_value, rows.get, self._is_outer
        for event in events:
            key, value, time_ms = key_of(event), value_of(event), event.timestamp
            before = get(key)
            left = None if before is None else before.left
            if value is None:
                told += self._without(key, before, left, None, event, rows)
                continue
            rows[key] = Cells(left, Cell(time_ms, value))
            if left is not None:
                told.append(Change(key, left.value, value, max(time_ms, left.time_ms), event))
            elif is_outer:
                told.append(Change(key, None, value, time_ms, event))
        return told

    @property
    def _is_inner(self) -> bool:
        return self.kind == "inner"

    @property
    def _is_outer(self) -> bool:
        return self.kind == "outer"

    def _without(  # noqa: PLR0917 - called here alone
        self,
        key: str,
        before: Cells[L, R] | None,
        left: Cell[L] | None,
        right: Cell[R] | None,
        event: Timed,
        rows: KeptRows[Cells[L, R]],
    ) -> Iterable[Change[L, R]]:
        """Leave of a row, which one side has no more, what the other side has; yield what is to be told."""
        if before is None:
            return
        if left is None and right is None:
            del rows[key]
        else:
            rows[key] = Cells(left, right)
        time_ms = max([event.timestamp, *(of.time_ms for of in (left, right) if of is not None)])
        if self._is_there(left, right):
            left_value = None if left is None else left.value
            yield Change(key, left_value, None if right is None else right.value, time_ms, event)
        elif self._is_there(before.left, before.right):
            yield Change(key, None, None, time_ms, event)

    def _is_there(self, left: Cell[L] | None, right: Cell[R] | None) -> bool:
        """Tell whether the joined table has a row of what either side has."""
        if self._is_inner:
            return left is not None and right is not None
        return left is not None or (self._is_outer and right is not None)
