"""A task's part of a table that is kept in columns: committed and forgotten as table.py's parts are.

Rules get its columns (streams/operators/columns.py). What a batch did to them is accepted or undone;
rows of open epochs stay in memory, and reach the store when their epoch is committed (law 3).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from streams.engine.definitions import Columnar, Table, WindowedTable, WindowKey
from streams.engine.expiry import Expiry
from streams.engine.outgoing import check_sizes
from streams.engine.records import EncodedRow
from streams.engine.store import Store
from streams.operators.columns import Columns, KeyedColumns, WindowedColumns
from streams.operators.windows import StreamTime

V = TypeVar("V")


class ChangedColumns:
    """The rows that an epoch changed, as they were at its end."""

    def __init__(
        self, table: Table[Any], keys: list[bytes], values: list[list[Any]], gone: list[bytes]
    ) -> None:
        self._table = table
        self._keys = keys
        self._values = values
        self._gone = gone

    def encoded(self, longest: int) -> list[EncodedRow]:
        """Return them as changelog and disk have them; None deletes. Raises TooLargeError."""
        table = self._table
        assert table.columns is not None  # noqa: S101 - a table of columns
        keys = self._keys
        values = table.columns.encode(*self._values) if keys else []
        rows: list[EncodedRow] = list(zip(keys, values, strict=True))
        if max(map(len, keys), default=0) + max(map(len, values), default=0) > longest:
            check_sizes(table, rows, longest)
        return [*rows, *((text, None) for text in self._gone)]


class ColumnPart(Generic[V]):
    """One partition's rows of a table, in columns."""

    def __init__(self, table: Table[V], columnar: Columnar[V], store: Store) -> None:
        self.table = table
        self.columns: Columns[V] = self._new_columns(columnar)
        self.hits = 0
        """Rows that epochs changed without asking the store."""
        self.misses = 0
        """Rows that the store was asked for."""
        self._store = store
        self._asked = 0

    def _new_columns(self, columnar: Columnar[V]) -> Columns[V]:
        return KeyedColumns(columnar.row, self._read)

    def begin_step(self) -> None:
        """No other flow reads these rows: what they were before matters to nobody."""

    def batch_changes(self) -> Mapping[Any, V]:
        """Return the rows that the running batch asked for, as it leaves them."""
        return self.columns.rows_by_key(self.columns.touched())

    def accept_batch(self) -> None:
        """Make what the running batch changed part of the growing epoch."""
        self.columns.accept()

    def undo_batch(self) -> None:
        """Forget what the running batch changed."""
        self.columns.undo()

    def seal(self) -> ChangedColumns:
        """Begin a new epoch; return the changes of the one that ends. All before it must be committed."""
        return self._sealed([])

    def _sealed(self, gone: list[bytes]) -> ChangedColumns:
        slots = self.columns.take_changed()
        self.misses += self._asked
        self.hits += max(0, len(slots) - self._asked)
        self._asked = 0
        keys, values = self.columns.texts(slots), self.columns.values(slots)
        return ChangedColumns(self.table, keys, values, gone)

    def committed(self) -> None:
        """Say that the changes of the epoch before this one are in the store now."""
        limit = self._limit()
        if len(self.columns) > limit and not self.columns.in_batch:
            forgotten = self.columns.forget_oldest(limit * 3 // 4)
            if forgotten:  # all others may have been changed again
                self._forgotten(forgotten)

    def _limit(self) -> int:
        return self._store.known_rows()

    def _forgotten(self, keys: list[Any]) -> None:
        """Take note that these rows are in the store alone."""

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        self.columns.clear()

    @property
    def rows_in_memory(self) -> int:
        """Return how many rows are known."""
        return len(self.columns)

    def _read(self, keys: Sequence[bytes]) -> Sequence[V | None]:
        self._asked += len(keys)
        decode = self.table.decode
        values = self._store.get_many(self.table.name, keys)
        return [None if value is None else decode(value) for value in values]


class WindowedColumnPart(ColumnPart[V]):
    """One partition's rows of a windowed table, in columns. See table.WindowedPart."""

    table: WindowedTable[V]
    columns: WindowedColumns[V]

    def __init__(self, table: WindowedTable[V], columnar: Columnar[V], store: Store) -> None:
        super().__init__(table, columnar, store)
        self.stream_time_ms = 0
        """Of the accepted batches; 0 before the first event."""
        self._expiry = Expiry(table, store)

    def _new_columns(self, columnar: Columnar[V]) -> Columns[V]:
        return WindowedColumns(columnar.row, self.table.windows, self._read)

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time; nothing may be open."""
        self.stream_time_ms = stream_time_ms
        self.columns.stream_time = StreamTime(self.table.windows, stream_time_ms)
        self._expiry.begin_at(stream_time_ms)

    @property
    def has_expired(self) -> bool:
        """Whether rows of gone windows are still to be removed: more than one commit takes."""
        return self._expiry.has_expired

    @property
    def late(self) -> int:
        """How many events of the running batch were late."""
        return self.columns.stream_time.late

    def accept_batch(self) -> None:
        """Make what the running batch changed, and its stream time, part of the growing epoch."""
        super().accept_batch()
        self.stream_time_ms = self.columns.stream_time.now_ms
        self.columns.stream_time.late = 0

    def undo_batch(self) -> None:
        """Forget what the running batch changed, and how far it moved stream time."""
        super().undo_batch()
        self.columns.stream_time = StreamTime(self.table.windows, self.stream_time_ms)

    def seal(self) -> ChangedColumns:
        """Begin a new epoch; return the changes of the one that ends, rows that are gone among them."""
        by_ms = self._gone_by_ms()
        in_memory = self.columns.forget_gone(self.table.windows.gone_ms(by_ms))
        return self._sealed(self._expiry.sweep(by_ms, in_memory))

    def _gone_by_ms(self) -> int:
        """Return the stream time by which windows are gone that are to be removed."""
        return self.stream_time_ms

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        super().reset()
        self._expiry.reset()

    def _limit(self) -> int:
        # Hardly anybody asks for rows of windows that have passed, and those come as fast as events do.
        return super()._limit() // 8

    def _forgotten(self, keys: list[WindowKey]) -> None:
        self._expiry.forgotten(keys)

    def _read(self, keys: Sequence[bytes]) -> Sequence[V | None]:
        one_of_them = self.table.key_of(keys[0].decode())
        return () if self._expiry.is_known(one_of_them) else super()._read(keys)
