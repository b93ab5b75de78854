"""A task's part of a table, as rules see it: a mapping that can be undone, committed and forgotten.

A read looks at three layers: what the running batch wrote, what is known (rows of the open epochs
and committed rows, decoded), and the store. A batch's writes become known when it is accepted; they
reach the store when their epoch is committed, and never before (law 3).
"""

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping
from typing import Any, Final, Generic, TypeVar

from streams.engine.definitions import Table
from streams.engine.errors import DefinitionError
from streams.engine.store import Store

V = TypeVar("V")
_UNREAD: Final[Any] = object()

# Decoded rows kept a table part. 200,000 rows of user_orders take about 60 MB; a working set below
# this never asks RocksDB twice for a key.
KNOWN_ROWS: Final = 200_000


class TablePart(MutableMapping[str, V], Generic[V]):
    """One partition's rows of a table. Rows must be immutable: a change is a new row."""

    __slots__ = ("_batch", "_known", "_store", "epochs", "table")

    def __init__(self, table: Table[V], store: Store) -> None:
        self.table = table
        self._store = store
        self._batch: dict[str, V | None] = {}
        self._known: dict[str, V | None] = {}
        self.epochs: list[dict[str, V | None]] = [{}]
        """Changes of the open epochs, oldest first; None deletes. The last one is still growing."""

    # -- what rules use -------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """Return the key's row, or `default`."""
        row = self._batch.get(key, _UNREAD)
        if row is _UNREAD:
            row = self._known.get(key, _UNREAD)
            if row is _UNREAD:
                row = self._read(key)
        return default if row is None else row

    def __getitem__(self, key: str) -> V:
        row: V | None = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __setitem__(self, key: str, row: V) -> None:
        if row is None:
            msg = f"table {self.table.name}: None is not a row; use del to remove {key!r}"
            raise TypeError(msg)
        self._batch[key] = row

    def __delitem__(self, key: str) -> None:
        if self.get(key) is None:
            raise KeyError(key)
        self._batch[key] = None

    def __iter__(self) -> Iterator[str]:
        """Walk all keys: stored ones in order, then those that are not stored yet."""
        newer = self._newer()
        for key, _ in self._store.scan(self.table.name):
            if newer.pop(key, _UNREAD) is not None:
                yield key
        yield from (key for key, row in newer.items() if row is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # -- what the engine uses -------------------------------------------------------------------

    def batch_changes(self) -> ItemsView[str, V | None]:
        """Return what the running batch wrote; None deletes."""
        return self._batch.items()

    def accept_batch(self) -> None:
        """Make the running batch's writes part of the growing epoch."""
        if self._batch:
            self._known.update(self._batch)
            self.epochs[-1].update(self._batch)
            self._batch.clear()

    def undo_batch(self) -> None:
        """Forget what the running batch wrote."""
        self._batch.clear()

    def seal(self) -> dict[str, V | None]:
        """Begin a new epoch; return the changes of the one that ends."""
        self.epochs.append({})
        return self.epochs[-2]

    def committed(self) -> None:
        """Say that the oldest epoch's changes are in the store now."""
        del self.epochs[0]
        if len(self._known) > KNOWN_ROWS:
            self._forget_oldest()

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        self._batch.clear()
        self._known.clear()
        self.epochs = [{}]

    def _read(self, key: str) -> V | None:
        value = self._store.get(self.table.name, key)
        row = None if value is None else self.table.decode(value)
        self._known[key] = row
        return row

    def _newer(self) -> dict[str, V | None]:
        newer: dict[str, V | None] = {}
        for changes in (*self.epochs, self._batch):
            newer.update(changes)
        return newer

    def _forget_oldest(self) -> None:
        """Halve what is known, oldest reads first; rows of open epochs are not in the store yet and stay."""
        spare = len(self._known) - KNOWN_ROWS // 2
        uncommitted = self._newer()
        for key in [key for key, _ in zip(self._known, range(spare), strict=False)]:
            if key not in uncommitted:
                del self._known[key]


class ReadOnlyPart(Mapping[str, V], Generic[V]):
    """A table part that a joining flow may read and not write."""

    __slots__ = ("_part",)

    def __init__(self, part: TablePart[V]) -> None:
        self._part = part

    def get(self, key: str, default: Any = None) -> Any:
        """Return the key's row, or `default`."""
        return self._part.get(key, default)

    def __getitem__(self, key: str) -> V:
        return self._part[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._part)

    def __len__(self) -> int:
        return len(self._part)

    def __setitem__(self, key: str, row: V) -> None:
        msg = f"table {self._part.table.name} is only joined here, not kept: a flow writes its own table"
        raise DefinitionError(msg)
