"""Joins of two tables where rows of the left one name a key of the right one; see ForeignKeyJoin.

One table holds it all, under keys of four kinds: `left/KEY` and `right/KEY` are the rows of the two;
`lefts/RIGHT` says how many left rows name a right key, and `page/N/RIGHT` has the keys of some of them.
So no row grows with the number of those, and a left row that comes, goes or names another key changes a
few rows, of bounded size (decision 0029).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import msgspec

from streams.operators.stream_table import TableJoinKind, check_kind
from streams.operators.table_table import Change, KeptRows
from streams.operators.windows import Timed

L = TypeVar("L")
R = TypeVar("R")

PAGE_KEYS: Final = 64
"""How many keys of left rows a page has, at most: each that comes or goes writes one or two pages."""


class LeftRow(msgspec.Struct, Generic[L], frozen=True, gc=False, tag="left"):
    """A row of the left table: the right key that it names, and its place among those that name it."""

    time_ms: int
    value: L
    foreign_key: str | None
    place: int


class RightRow(msgspec.Struct, Generic[R], frozen=True, gc=False, tag="right"):
    """A row of the right table."""

    time_ms: int
    value: R


class Lefts(msgspec.Struct, frozen=True, gc=False, tag="lefts"):
    """How many left rows name a right key, whether there is such a right row or not; never 0."""

    count: int


class Page(msgspec.Struct, frozen=True, gc=False, tag="page"):
    """The keys of PAGE_KEYS left rows that name a right key; of fewer in its last page."""

    keys: tuple[str, ...]


Row: TypeAlias = LeftRow[L] | RightRow[R] | Lefts | Page


def foreign_key_codec(
    left: type[L], right: type[R]
) -> tuple[Callable[[Row[L, R]], bytes], Callable[[bytes], Row[L, R]]]:
    """Return how rows are written and read, for a Table; the types are of the values."""
    row_type: Any = LeftRow[left] | RightRow[right] | Lefts | Page  # type: ignore[valid-type]
    return msgspec.json.Encoder().encode, msgspec.json.Decoder(row_type).decode


@dataclass(frozen=True, kw_only=True)
class ForeignKeyJoin(Generic[L, R]):
    """Two tables, told by their changes, joined where a left row names the right one's key (KIP-213).

    - The joined table has the left one's keys. It has a row for each left one whose foreign key is one
      of the right table; where `kind` is left, for all others too, with None.
    - `foreign_key` of a left value is None where it names nothing.
    - Each event is a change of its table: its value is the new one, None deletes. They count in the
      order in which they come, whatever their event times.
    - A change on the left is told as one of its row; a change on the right as one of each row that
      names it. That a row is there no more is told once, and only if it was there.

    Both tables' records that meet must come to the same task: those of the left by their foreign key,
    or both wherever they all are. Raises ValueError for a kind that there is not.
    """

    kind: TableJoinKind
    left_key: Callable[[Any], str]
    left_value: Callable[[Any], L | None]
    foreign_key: Callable[[L], str | None]
    right_key: Callable[[Any], str]
    right_value: Callable[[Any], R | None]

    def __post_init__(self) -> None:
        check_kind(self.kind, TableJoinKind)

    def add_left(self, events: Iterable[Timed], rows: KeptRows[Row[L, R]]) -> list[Change[L, R]]:
        """Change the left table; return the changes of the joined one, in turn."""
        told: list[Change[L, R]] = []
        get, key_of, value_of = rows.get, self.left_key, self.left_value
        for event in events:
            key, value = key_of(event), value_of(event)
            before: Any = get(_LEFT + key)
            row = self._set_left(key, before, event.timestamp, value, rows)
            right = None if row is None else _right(rows, row.foreign_key)
            if self._is_there(row, right):
                told.append(_change(key, value, right, event))
            elif before is not None:
                joined_with = _right(rows, before.foreign_key)
                if self._is_there(before, joined_with):
                    gone: Change[L, R] = _change(key, None, joined_with, event)
                    told.append(msgspec.structs.replace(gone, right=None))
        return told

    def add_right(self, events: Iterable[Timed], rows: KeptRows[Row[L, R]]) -> list[Change[L, R]]:
        """Change the right table; return the changes of the joined one, in turn.

        Those of one event come by place. It takes time and room for all left rows that name its key.
        """
        told: list[Change[L, R]] = []
        for event in events:
            key, value = self.right_key(event), self.right_value(event)
            at = _RIGHT + key
            if value is not None:
                rows[at] = RightRow(event.timestamp, value)
            elif rows.get(at) is None:
                continue
            else:
                del rows[at]
            for left_key in _lefts(rows, key):
                left = cast("LeftRow[L]", rows.get(_LEFT + left_key))
                time_ms = max(event.timestamp, left.time_ms)
                is_there = value is not None or self.kind == "left"
                told.append(
                    Change(left_key, left.value if is_there else None, value, time_ms, event)
                )
        return told

    def _is_there(self, left: LeftRow[L] | None, right: RightRow[R] | None) -> bool:
        """Tell whether the joined table has a row for a left one that is joined with this."""
        return left is not None and (self.kind == "left" or right is not None)

    def _set_left(
        self,
        key: str,
        before: LeftRow[L] | None,
        time_ms: int,
        value: L | None,
        rows: KeptRows[Row[L, R]],
    ) -> LeftRow[L] | None:
        """Set a left row, in its place among those of its foreign key; return it, None if it is deleted."""
        named = None if value is None else self.foreign_key(value)
        named_before, place = (None, 0) if before is None else (before.foreign_key, before.place)
        if named != named_before:
            if named_before is not None:
                _leave(rows, named_before, place)
            place = 0 if named is None else _join(rows, named, key)
        if value is not None:
            row = LeftRow(time_ms, value, named, place)
            rows[_LEFT + key] = row
            return row
        if before is not None:
            del rows[_LEFT + key]
        return None


def _change(key: str, left: L | None, right: RightRow[R] | None, event: Timed) -> Change[L, R]:
    if right is None:
        return Change(key, left, None, event.timestamp, event)
    return Change(key, left, right.value, max(event.timestamp, right.time_ms), event)


# -- the index: which left rows name a right key ---------------------------------------------------

_LEFT: Final = "left/"
_RIGHT: Final = "right/"


def _right(rows: KeptRows[Any], key: str | None) -> RightRow[Any] | None:
    return None if key is None else rows.get(_RIGHT + key)


def _count(rows: KeptRows[Any], named: str) -> int:
    row = rows.get(f"lefts/{named}")
    return 0 if row is None else row.count


def _keys(rows: KeptRows[Any], at: str) -> tuple[str, ...]:
    """Return the keys of a page, which is there."""
    keys: tuple[str, ...] = rows.get(at).keys  # type: ignore[union-attr]
    return keys


def _lefts(rows: KeptRows[Any], named: str) -> Iterator[str]:
    """Yield the keys of the left rows that name a right key, by place."""
    for number in range(-(-_count(rows, named) // PAGE_KEYS)):
        yield from _keys(rows, f"page/{number}/{named}")


def _join(rows: KeptRows[Any], named: str, key: str) -> int:
    """Give a left row the next place among those of a right key; return it."""
    at = f"lefts/{named}"
    lefts = rows.get(at)
    place: int = 0 if lefts is None else lefts.count
    rows[at] = Lefts(place + 1)
    number, slot = divmod(place, PAGE_KEYS)
    at = f"page/{number}/{named}"
    rows[at] = Page((*_keys(rows, at), key) if slot else (key,))
    return place


def _leave(rows: KeptRows[Any], named: str, place: int) -> None:
    """Take away a left row's place; the last one's row gets it, so that none is empty."""
    last = _count(rows, named) - 1
    number, slot = divmod(last, PAGE_KEYS)
    at = f"page/{number}/{named}"
    keys = _keys(rows, at)
    if slot:
        rows[at] = Page(keys[:slot])
    else:
        del rows[at]
    if last:
        rows[f"lefts/{named}"] = Lefts(last)
    else:
        del rows[f"lefts/{named}"]
    if place == last:
        return
    moved = keys[slot]
    number, slot = divmod(place, PAGE_KEYS)
    at = f"page/{number}/{named}"
    keys = _keys(rows, at)
    rows[at] = Page((*keys[:slot], moved, *keys[slot + 1 :]))
    row = cast("LeftRow[Any]", rows.get(_LEFT + moved))
    rows[_LEFT + moved] = msgspec.structs.replace(row, place=place)
