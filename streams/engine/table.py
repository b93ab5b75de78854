"""A task's part of a table, as rules see it: a mapping that can be undone, committed and forgotten.

A read looks at three layers: what the running batch wrote, what is known (rows of the open epochs
and committed rows, decoded), and the store. A batch's writes become known when it is accepted; they
reach the store when their epoch is committed, and never before (law 3).
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, NoReturn, TypeVar

from streams.engine.definitions import Table, WindowedTable, WindowKey
from streams.engine.errors import DefinitionError
from streams.engine.expiry import Expiry
from streams.engine.store import Store
from streams.operators.windows import StreamTime, T

V = TypeVar("V")
E = TypeVar("E")
UNREAD: Final[Any] = object()


class TablePart(MutableMapping[Any, V], Generic[V]):
    """One partition's rows of a table. Rows must be immutable: a change is a new row."""

    __slots__ = (
        "_asked",
        "_batch",
        "_known",
        "_store",
        "_turned",
        "epochs",
        "hits",
        "misses",
        "table",
        "versions",
    )

    def __init__(self, table: Table[V], store: Store) -> None:
        self.table = table
        self._store = store
        self._batch: dict[Any, V | None] = {}
        self._known: dict[Any, V | None] = {}
        self.epochs: list[dict[Any, V | None]] = [{}]
        """Changes of the open epochs, oldest first; None deletes. The last one is still growing."""
        self._turned: list[tuple[Any, int, V | None]] = []
        self.versions: dict[Any, list[tuple[int, V | None]]] = {}
        """What the rows changed in this step of the inputs were from which turn on (ms); -1: before it."""
        self.hits = 0
        """Rows that batches changed without asking the store: counted once a batch, never per look-up."""
        self.misses = 0
        """Rows that the store was asked for."""
        self._asked = 0

    # -- what rules use -------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the key's row, or `default`."""
        row = self._batch.get(key, UNREAD)
        if row is UNREAD:
            row = self._known.get(key, UNREAD)
            if row is UNREAD:
                row = self._read(key)
        return default if row is None else row

    def __getitem__(self, key: Any) -> V:
        row: V | None = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __setitem__(self, key: Any, row: V) -> None:
        if row is None:
            msg = f"table {self.table.name}: None is not a row; use del to remove {key!r}"
            raise TypeError(msg)
        self._batch[key] = row

    def __delitem__(self, key: Any) -> None:
        if self.get(key) is None:
            raise KeyError(key)
        self._batch[key] = None

    def __iter__(self) -> Iterator[Any]:
        """Walk all keys: stored ones in order, then those that are not stored yet."""
        newer = self._newer()
        for stored, _ in self._store.scan(self.table.name):
            key = self.table.key_of(stored)
            if newer.pop(key, UNREAD) is not None:
                yield key
        yield from (key for key, row in newer.items() if row is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    # -- joins (law 9) ---------------------------------------------------------------------------

    def changed_at(self, turn_ms: int, key: Any, row: V | None) -> None:
        """Say at which turn the running batch changed a row to this; None: deleted it."""
        self._turned.append((key, turn_ms, row))

    @staticmethod
    def at(turn_ms: int, versions: list[tuple[int, V | None]], default: Any) -> Any:
        """Return which of a row's versions, oldest first, was there at a turn; `default` for none."""
        for since_ms, row in reversed(versions):
            if since_ms <= turn_ms:
                return default if row is None else row
        return default

    def begin_step(self) -> None:
        """Forget what rows were before: no event's turn lies there any more."""
        self.versions.clear()

    # -- what the engine uses -------------------------------------------------------------------

    def batch_changes(self) -> Mapping[Any, V | None]:
        """Return what the running batch wrote; None deletes."""
        return self._batch

    def accept_batch(self) -> None:
        """Make the running batch's writes part of the growing epoch."""
        if self._turned:
            self._keep_versions()
        self._count_asked()
        if self._batch:
            self._known.update(self._batch)
            self.epochs[-1].update(self._batch)
            self._batch.clear()

    def undo_batch(self) -> None:
        """Forget what the running batch wrote."""
        self._batch.clear()
        self._count_asked()
        self._turned.clear()

    def seal(self) -> dict[Any, V | None]:
        """Begin a new epoch; return the changes of the one that ends. All before it must be committed."""
        self.epochs.append({})
        return self.epochs[-2]

    def committed(self) -> None:
        """Say that the oldest epoch's changes are in the store now."""
        del self.epochs[0]
        limit = self._limit()
        if len(self._known) > limit:
            self._forget_oldest(limit // 2)

    def _limit(self) -> int:
        return self._store.known_rows()

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        self._batch.clear()
        self._turned.clear()
        self.versions.clear()
        self._known.clear()
        self.epochs = [{}]

    @property
    def rows_in_memory(self) -> int:
        """Return how many rows are known, decoded; those known to be absent included."""
        return len(self._known)

    def _count_asked(self) -> None:
        self.hits += max(0, len(self._batch) - self._asked)
        self.misses += self._asked
        self._asked = 0

    def _keep_versions(self) -> None:
        changed, self._batch = self._batch, {}  # what lies below it: the rows before this batch
        for key, turn_ms, row in self._turned:
            if key not in self.versions:
                self.versions[key] = [(-1, self.get(key))]
            self.versions[key].append((turn_ms, row))
        self._turned.clear()
        self._batch = changed

    def _read(self, key: Any) -> V | None:
        self._asked += 1
        value = self._store.get(self.table.name, self.table.key_text(key))
        row = None if value is None else self.table.decode(value)
        self._known[key] = row
        return row

    def _newer(self) -> dict[Any, V | None]:
        newer: dict[Any, V | None] = {}
        for changes in (*self.epochs, self._batch):
            newer.update(changes)
        return newer

    def _forget_oldest(self, kept: int) -> None:
        """Keep the newest reads; rows of open epochs are not in the store yet and stay."""
        spare = len(self._known) - kept
        uncommitted = self._newer()
        oldest = islice(self._known, spare)
        if forgotten := [key for key in oldest if key not in uncommitted]:
            self._forget(forgotten)

    def _forget(self, keys: Sequence[Any]) -> None:
        for key in keys:
            del self._known[key]


class WindowedPart(TablePart[V]):
    """One partition's rows of a windowed table. A row is not there once its window is gone.

    When that happens is told by stream time alone: a read sees it at once, and the next commits
    remove the row, by a time index (law 1: however the input is cut).
    """

    __slots__ = ("_expiry", "_life_ms", "_stream_time", "stream_time_ms")

    table: WindowedTable[V]

    def __init__(self, table: WindowedTable[V], store: Store) -> None:
        super().__init__(table, store)
        self.stream_time_ms = 0
        """Of the accepted batches; 0 before the first event."""
        self._life_ms = table.windows.size_ms + table.windows.grace_ms
        self._stream_time = StreamTime(table.windows)
        self._expiry = Expiry(table, store)

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time; nothing may be open."""
        self.stream_time_ms = stream_time_ms
        self._stream_time = StreamTime(self.table.windows, stream_time_ms)
        self._expiry.begin_at(stream_time_ms)

    @property
    def has_expired(self) -> bool:
        """Whether rows of gone windows are still to be removed: more than one commit takes."""
        return self._expiry.has_expired

    def on_time(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event that is not late with its window's start; see StreamTime."""
        return self._stream_time.on_time(events)

    def get(self, key: WindowKey, default: Any = None) -> Any:
        """Return the row of a key's window, or `default`."""
        if key[1] + self._life_ms <= self._stream_time.now_ms:
            return default
        # As TablePart.get does: a call more is a tenth of the time of a rule that counts.
        row = self._batch.get(key, UNREAD)
        if row is UNREAD:
            row = self._known.get(key, UNREAD)
            if row is UNREAD:
                row = None if self._expiry.is_known(key) else self._read(key)
        return default if row is None else row

    def __iter__(self) -> Iterator[WindowKey]:
        gone_ms = self.table.windows.gone_ms(self._stream_time.now_ms)
        return (key for key in super().__iter__() if key[1] > gone_ms)

    def accept_batch(self) -> None:
        """Make the running batch's writes, and its stream time, part of the growing epoch."""
        super().accept_batch()
        self.stream_time_ms = self._stream_time.now_ms
        self._stream_time.late = 0

    def undo_batch(self) -> None:
        """Forget what the running batch wrote, and how far it moved stream time."""
        super().undo_batch()
        self._stream_time = StreamTime(self.table.windows, self.stream_time_ms)

    @property
    def late(self) -> int:
        """How many events of the running batch were late."""
        return self._stream_time.late

    def reset(self) -> None:
        """Forget everything that is not in the store, and what was read from it."""
        super().reset()
        self._expiry.reset()

    def _forget(self, keys: Sequence[WindowKey]) -> None:
        super()._forget(keys)
        self._expiry.forgotten(keys)

    def seal(self) -> dict[Any, V | None]:
        """Begin a new epoch; return the changes of the one that ends, rows that are gone among them."""
        ended = super().seal()
        gone_ms = self.table.windows.gone_ms(self.stream_time_ms)
        # Those that this epoch wrote: what the store has of them comes up below.
        for key in [key for key in ended if key[1] <= gone_ms]:
            del ended[key]
            self._known.pop(key, None)
        for text in self._expiry.sweep(self.stream_time_ms):
            key = self.table.key_of(text.decode())
            ended[key] = None
            self._known.pop(key, None)
        return ended


class Turn:
    """The turn that a flow's rule is at in its loop over a batch's events; None before and behind it."""

    __slots__ = ("_flow", "at_ms")

    def __init__(self, flow: str) -> None:
        self._flow = flow
        self.at_ms: int | None = None

    def through(self, events: Iterable[E], turns_ms: Iterable[int]) -> Iterator[E]:
        """Yield the events, each at its turn."""
        for event, self.at_ms in zip(events, turns_ms, strict=True):
            yield event
        self.at_ms = None

    def at_once(self, events: Iterable[E]) -> Iterator[E]:
        """Yield events between which no other input has a turn."""
        self.at_ms = 0
        yield from events
        self.at_ms = None

    def of(self, table: Table[Any]) -> int:
        """Return it for a use of a table. Raises DefinitionError where there is none."""
        if self.at_ms is None:
            self.refuse(table)
        return self.at_ms

    def refuse(self, table: Table[Any]) -> NoReturn:
        """Raise DefinitionError for a use of a table where there is no turn."""
        msg = (
            f"flow {self._flow} uses table {table.name} outside of its rule's loop over the events: it "
            f"is joined, and what it holds depends on the event"
        )
        raise DefinitionError(msg)


class TurnedPart(MutableMapping[Any, V], Generic[V]):
    """A joined table's part as its own flow uses it: each change is kept with its turn (law 9)."""

    __slots__ = ("_part", "_turn")

    def __init__(self, part: TablePart[V], turn: Turn) -> None:
        self._part = part
        self._turn = turn

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the key's row, or `default`."""
        return self._part.get(key, default)

    def __getitem__(self, key: Any) -> V:
        return self._part[key]

    def __setitem__(self, key: Any, row: V) -> None:
        turn_ms = self._turn.of(self._part.table)
        self._part[key] = row
        self._part.changed_at(turn_ms, key, row)

    def __delitem__(self, key: Any) -> None:
        if key not in self._part:
            raise KeyError(key)
        turn_ms = self._turn.of(self._part.table)
        del self._part[key]
        self._part.changed_at(turn_ms, key, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._part)

    def __len__(self) -> int:
        return len(self._part)


class JoinedPart(Mapping[Any, V], Generic[V]):
    """A table part that another flow reads, as of the turn of the event it is at, and never writes."""

    __slots__ = ("_flow", "_part", "_turn")

    def __init__(self, flow: str, part: TablePart[V], turn: Turn) -> None:
        self._flow = flow
        self._part = part
        self._turn = turn

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the row as of the present turn, or `default`. Raises DefinitionError outside the loop."""
        part = self._part
        # As Turn.of and TablePart.get do: a call costs as much as the rest of a look-up, and each order has
        # one. The batch that changed the table has ended: no flow joins a table of its own input.
        at_ms = self._turn.at_ms
        if at_ms is None:
            self._turn.refuse(part.table)
        if key in part.versions:
            return part.at(at_ms, part.versions[key], default)
        row = part._known.get(key, UNREAD)  # noqa: SLF001 - of the same module
        if row is UNREAD:
            row = part._read(key)  # noqa: SLF001 - the same
        return default if row is None else row

    def __getitem__(self, key: Any) -> V:
        row: V | None = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __iter__(self) -> Iterator[Any]:
        """Walk the keys that have a row at the present turn."""
        keys = dict.fromkeys([*self._part, *self._part.versions])
        return (key for key in keys if self.get(key) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: str, row: V) -> None:
        table = self._part.table.name
        msg = f"flow {self._flow} writes {key!r} to table {table}, which it joins and does not keep"
        raise DefinitionError(msg)
