"""Rows as columns: what a batch does to many rows is done to all of them at once, by numpy.

For tables whose rows are whole numbers and truth values: counts, sums, first and last times. An object
a row costs several times as much, in look-ups, new rows and writes for each event (decision 0021).
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count, repeat
from typing import Any, Final, Generic, TypeAlias, TypeVar, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.operators.windows import (
    StreamTime,
    TumblingWindows,
    key_and_start_ms,
    key_text,
)

V = TypeVar("V")
Integers: TypeAlias = NDArray[np.int64]
Slots: TypeAlias = NDArray[np.int64]
"""Where rows lie in their columns."""
Column: TypeAlias = NDArray[Any]
"""A field of all rows, by slot: int64, bool, or Python's own integers where 64 bits are too few."""

ReadRows: TypeAlias = Callable[[Sequence[bytes]], Sequence[Any]]

_MOST: Final = 2**63 - 1
_LEAST: Final = -(2**63)
_FIRST_CAPACITY: Final = 64


def numbers(values: Sequence[int]) -> Column:
    """Return whole numbers as an array: of 64 bits where these are enough. Raises TypeError for others."""
    try:
        return np.frombuffer(
            array("q", values), np.int64
        )  # numpy alone would take fractions for whole
    except OverflowError:
        return np.array(values, np.object_)


def farthest(values: Column) -> int:
    """Return how far from 0 these values get."""
    return max(int(values.max(initial=0)), -int(values.min(initial=0)))


def _no_rows(_texts: Sequence[bytes]) -> tuple[()]:
    return ()


class _SlotOf(dict[str, int]):
    """The slots of keys. A key that has none is given one as it is looked up, and is `fresh` then."""

    __slots__ = ("fresh", "next_slot", "start_ms")

    def __init__(self, next_slot: Callable[[], int], start_ms: int = 0) -> None:
        super().__init__()
        self.next_slot = next_slot
        self.start_ms = start_ms
        self.fresh: list[str] = []

    def __missing__(self, key: str) -> int:
        slot = self[key] = self.next_slot()
        self.fresh.append(key)
        return slot


class Columns(ABC, Generic[V]):
    """Rows of whole numbers and truth values by key, that can be changed many at a time, and undone.

    A batch's changes are `accept`ed or `undo`ne; what was accepted is told once by `take_changed`.
    """

    def __init__(self, row_type: type[V], read: ReadRows = _no_rows) -> None:
        """`row_type` is a msgspec Struct of int and bool fields; a new row has its defaults.

        `read` is asked for keys, as changelogs have them, that are not here: all of one window, each
        once. It returns the row of each, None for those that have none; or nothing at all.
        """
        self._row_type = row_type
        self._read = read
        self._defaults: dict[str, Column] = {
            field.name: np.array([field.default], np.bool_ if field.type is bool else np.int64)
            for field in msgspec.structs.fields(cast("Any", row_type))
        }
        self._batches = 0
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self._columns = {
            n: np.repeat(value, _FIRST_CAPACITY) for n, value in self._defaults.items()
        }
        self._changed = np.zeros(_FIRST_CAPACITY, np.bool_)
        self._is_kept = np.zeros(_FIRST_CAPACITY, np.bool_)
        """Whether a row is kept elsewhere as well: it was read, or told by `take_changed`."""
        self._used = np.zeros(_FIRST_CAPACITY, np.int64)
        self._texts: list[bytes] = []
        self._free: list[int] = []
        self._unused = count()
        self._undo: list[tuple[Slots, dict[str, Column]]] = []

    def __len__(self) -> int:
        return len(self._texts) - len(self._free)

    # -- what rules use, by `Rows` ------------------------------------------------------------------

    def column(self, name: str) -> Column:
        """Return a field of all rows."""
        return self._columns[name]

    def widen(self, name: str) -> Column:
        """Make a field Python's integers, which cannot overflow, and return it."""
        if self._columns[name].dtype != np.object_:
            self._columns[name] = self._columns[name].astype(np.object_)
        return self._columns[name]

    def _rows(self, slots: Slots, kept: Slots | None = None) -> "Rows":
        before = {name: column[slots] for name, column in self._columns.items()}
        self._undo.append((slots, before))
        return Rows(self, slots, kept)

    def _next_slot(self) -> int:
        return self._free.pop() if self._free else next(self._unused)

    def _settle(self, fresh: Iterable[tuple[_SlotOf, str]]) -> None:
        """Make the rows of the keys that have just been given slots; the text of each ends with a suffix."""
        for slot_of, suffix in fresh:
            slots = [slot_of[key] for key in slot_of.fresh]
            self._have_texts(slots)
            self._make(slots, [f"{key}{suffix}".encode() for key in slot_of.fresh])
        for slot_of, _ in fresh:
            slot_of.fresh.clear()

    def _take_back(self, slot_ofs: Iterable[_SlotOf]) -> None:
        """Have keys without slots again that have just been given some, in vain."""
        for slot_of in slot_ofs:
            slots = [slot_of.pop(key) for key in slot_of.fresh]
            slot_of.fresh.clear()
            self._have_texts(slots)
            self._free += slots

    def _have_texts(self, slots: list[int]) -> None:
        self._texts += repeat(b"", max(slots, default=-1) + 1 - len(self._texts))
        while len(self._changed) < len(self._texts):
            self._grow()

    def _make(self, slots: list[int], texts: list[bytes]) -> None:
        for slot, text in zip(slots, texts, strict=True):
            self._texts[slot] = text
        for name, default in self._defaults.items():  # a slot may have been another row's
            self._columns[name][slots] = default
        self._is_kept[slots] = False
        read = zip(slots, self._read(texts), strict=False)
        if known := [(slot, row) for slot, row in read if row is not None]:
            self._put(*zip(*known, strict=True))

    def _grow(self) -> None:
        more = len(self._changed)
        for name, column in self._columns.items():
            begin = np.repeat(self._defaults[name], more).astype(column.dtype)
            self._columns[name] = np.concatenate([column, begin])
        self._changed = np.concatenate([self._changed, np.zeros(more, np.bool_)])
        self._is_kept = np.concatenate([self._is_kept, np.zeros(more, np.bool_)])
        self._used = np.concatenate([self._used, np.zeros(more, np.int64)])

    def _put(self, slots: Sequence[int], rows: Sequence[V]) -> None:
        for name in self._columns:
            values = [getattr(row, name) for row in rows]
            fits = min(values) >= _LEAST and max(values) <= _MOST
            column = self._columns[name] if fits else self.widen(name)
            column[list(slots)] = values
        self._is_kept[list(slots)] = True

    # -- what keeps them --------------------------------------------------------------------------

    @property
    def in_batch(self) -> bool:
        """Tell whether a batch has asked for rows and is neither accepted nor undone."""
        return bool(self._undo)

    def touched(self) -> Slots:
        """Return the slots of the rows that the running batch asked for, each once."""
        slots = [slots for slots, _ in self._undo]
        return np.unique(np.concatenate(slots)) if slots else np.empty(0, np.int64)

    def accept(self) -> None:
        """Keep what the running batch changed."""
        self._batches += 1
        for slots, _ in self._undo:
            self._changed[slots] = True
            self._used[slots] = self._batches
        self._undo.clear()

    def undo(self) -> None:
        """Have each row as it was before the running batch."""
        for slots, before in reversed(self._undo):
            for name, values in before.items():
                self._columns[name][slots] = values
        self._undo.clear()

    def take_changed(self) -> Slots:
        """Return the rows that accepted batches changed since this was last called."""
        slots = np.flatnonzero(self._changed)
        self._changed[slots] = False
        self._is_kept[slots] = True
        return slots

    def texts(self, slots: Slots) -> list[bytes]:
        """Return the keys of some rows, as changelogs have them."""
        texts = self._texts
        return [texts[slot] for slot in slots.tolist()]

    def values(self, slots: Slots) -> list[list[Any]]:
        """Return some rows by columns: a list for each field, in the order of the row's fields."""
        return [column[slots].tolist() for column in self._columns.values()]

    def rows_by_key(self, slots: Slots) -> dict[Any, V]:
        """Return some rows."""
        return {
            self._key(text): self._row_type(*row)
            for text, row in zip(
                self.texts(slots), zip(*self.values(slots), strict=True), strict=True
            )
        }

    def as_dict(self) -> dict[Any, V]:
        """Return all rows."""
        free = set(self._free)
        slots = [slot for slot in range(len(self._texts)) if slot not in free]
        return self.rows_by_key(np.array(slots, np.int64))

    def forget_oldest(self, kept: int) -> list[Any]:
        """Forget what was not used for longest, down to `kept` rows; changed ones stay. Return the keys.

        No batch may run: the rows that it asked for could be among them.
        """
        too_many = len(self) - kept
        if too_many <= 0:
            return []
        last_used = self._used[: len(self._texts)].copy()
        last_used[self._changed[: len(self._texts)]] = _MOST
        last_used[self._free] = _MOST
        oldest = np.argpartition(last_used, too_many - 1)[:too_many]
        slots = oldest[last_used[oldest] < _MOST]
        keys = list(map(self._key, self.texts(slots)))
        for key in keys:
            self._lose(key)
        self._free += slots.tolist()
        return keys

    @abstractmethod
    def _key(self, text: bytes) -> Any:
        """Return the key, as rules know it, that a text stands for."""

    @abstractmethod
    def _lose(self, key: Any) -> None:
        """Know no slot of a key any more."""


class Rows:
    """The rows of a batch's events: that of event i lies in slot `slots[i]`.

    Where some events are late, `kept` are the others: of what is given for each event of the batch,
    theirs is taken. What is returned is of those alone, and they alone count where events are told by
    their indexes.
    """

    __slots__ = ("_columns", "_kept", "slots")

    def __init__(self, columns: Columns[Any], slots: Slots, kept: Slots | None) -> None:
        self._columns = columns
        self._kept = kept
        self.slots = slots

    def __getitem__(self, name: str) -> Column:
        """Return a field of each event's row, as the batch leaves it so far."""
        return self._columns.column(name)[self.slots]

    def add(self, name: str, values: int | Column) -> None:
        """Add each event's value to a field of its row: exact at any size."""
        added = self._of_kept(values)
        column = self._column_for(name, added)
        if column.dtype != np.object_ and len(self.slots):
            each = abs(added) if isinstance(added, int) else farthest(added)
            if farthest(column[self.slots]) + len(self.slots) * each > _MOST:
                column = self._columns.widen(name)
        np.add.at(column, self.slots, added)

    def lower(self, name: str, values: Column) -> None:
        """Make a field of each event's row the event's value, where that is less."""
        lower = self._of_kept(values)
        np.minimum.at(self._column_for(name, lower), self.slots, lower)

    def lift(self, name: str, values: Column) -> None:
        """Make a field of each event's row the event's value, where that is more."""
        lift = self._of_kept(values)
        np.maximum.at(self._column_for(name, lift), self.slots, lift)

    def set(self, name: str, events: Integers, value: int | Column) -> None:
        """Set a field of the rows of some events, which are told by their indexes.

        To each event's value, where there is one for each: of those of the same row any may stay.
        """
        self._column_for(name, value)[self.slots[events]] = value

    def counts(self, name: str, events: Integers) -> Integers:
        """Return a count as it was right after each of these events, each of which added one to it.

        `events` are indexes that ascend, and hold all events of their rows.
        """
        slots = self.slots[events]
        order = np.argsort(slots, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(slots[order])), len(slots) - 1)
        later = np.empty_like(order)
        later[order] = np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(slots))
        return cast("Integers", self[name][events] - later)

    def first_of_each(self, events: Integers) -> Integers:
        """Return the first of these events, indexes that ascend, of each row; they ascend, too."""
        firsts = np.unique(self.slots[events], return_index=True)[1]
        return events[np.sort(firsts)]

    def _of_kept(self, values: V) -> V:
        if self._kept is None or isinstance(values, int):
            return values
        return cast("V", cast("Column", values)[self._kept])

    def _column_for(self, name: str, values: int | Column) -> Column:
        """Return a field of all rows, so wide that it can hold these values."""
        if not isinstance(values, int) and values.dtype == np.object_:
            return self._columns.widen(name)
        return self._columns.column(name)


class KeyedColumns(Columns[V]):
    """A row a key."""

    def clear(self) -> None:
        """Forget all rows."""
        super().clear()
        self._slot_of = _SlotOf(self._next_slot)

    def rows(self, keys: Sequence[str]) -> Rows:
        """Return the row of each key; one that has none gets a new one."""
        slot_of = self._slot_of
        try:
            slots = np.fromiter(map(slot_of.__getitem__, keys), np.int64, len(keys))
            if slot_of.fresh:
                self._settle([(slot_of, "")])
        except BaseException:
            self._take_back([slot_of])
            raise
        return self._rows(slots)

    def _key(self, text: bytes) -> str:
        return text.decode()

    def _lose(self, key: str) -> None:
        del self._slot_of[key]


class WindowedColumns(Columns[V]):
    """A row for each key and window; their keys are `(key, window start)`."""

    def __init__(
        self,
        row_type: type[V],
        windows: TumblingWindows,
        read: ReadRows = _no_rows,
    ) -> None:
        """See Columns. Rows of windows that are gone are never read."""
        super().__init__(row_type, read)
        self.stream_time = StreamTime(windows)

    def clear(self) -> None:
        """Forget all rows; stream time stays."""
        super().clear()
        self._windows: dict[int, _SlotOf] = {}

    def rows(self, keys: Sequence[str], times_ms: Integers) -> Rows:
        """Return the rows of those events that are not late, each of its key and its time's window.

        Every event moves stream time before it is judged. The others are counted as late.
        """
        starts_ms, kept = self.stream_time.judge(times_ms)
        if kept is not None:
            keys = [keys[event] for event in kept.tolist()]
        return self.rows_at(keys, starts_ms, kept)

    def rows_at(self, keys: Sequence[str], starts_ms: Integers, kept: Slots | None = None) -> Rows:
        """Return the rows of keys and windows, which are told by their starts; for `kept` see Rows."""
        slots: Iterable[int]
        if keys and (starts_ms == starts_ms[0]).all():  # as in most batches
            windows = [self._window(int(starts_ms[0]))]
            slots = map(windows[0].__getitem__, keys)
        else:
            starts, which = np.unique(starts_ms, return_inverse=True)
            windows = list(map(self._window, starts.tolist()))
            slots = (windows[n][key] for n, key in zip(which.tolist(), keys, strict=True))
        try:
            found = np.fromiter(slots, np.int64, len(keys))
            fresh = [window for window in windows if window.fresh]
            self._settle([(window, key_text("", window.start_ms)) for window in fresh])
        except BaseException:
            self._take_back(windows)
            raise
        return self._rows(found, kept)

    def starts_ms(self) -> Iterable[int]:
        """Return the starts of the windows of which rows are here, and maybe of some others."""
        return self._windows.keys()

    def has(self, key: str, start_ms: int) -> bool:
        """Tell whether the row of a key and window is here."""
        return key in self._windows.get(start_ms, {})

    def window(self, start_ms: int) -> tuple[list[str], Slots]:
        """Return the keys that have a row of a window here, and where these lie."""
        slot_of: Mapping[str, int] = self._windows.get(start_ms, {})
        return list(slot_of), np.fromiter(slot_of.values(), np.int64, len(slot_of))

    def _window(self, start_ms: int) -> _SlotOf:
        window = self._windows.get(start_ms)
        if window is None:
            window = self._windows[start_ms] = _SlotOf(self._next_slot, start_ms)
        return window

    def forget_gone(self, gone_ms: int) -> list[bytes]:
        """Forget the windows that began at `gone_ms` or before, changes and all. No batch may run.

        Return the keys, as changelogs have them, of those of the rows that are kept elsewhere.
        """
        kept: list[bytes] = []
        for start_ms in [start_ms for start_ms in self._windows if start_ms <= gone_ms]:
            freed = np.array(list(self._windows.pop(start_ms).values()), np.int64)
            self._changed[freed] = False
            self._free += freed.tolist()
            kept += self.texts(freed[self._is_kept[freed]])
        return kept

    def _key(self, text: bytes) -> tuple[str, int]:
        return key_and_start_ms(text.decode())

    def _lose(self, key: tuple[str, int]) -> None:
        text, start_ms = key
        window = self._windows[start_ms]
        del window[text]
        if not window:  # a dict keeps the size that it once had
            del self._windows[start_ms]
