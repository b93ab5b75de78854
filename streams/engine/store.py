"""A task's committed state on disk: one RocksDB a task, a write batch a commit.

On disk a row's key is `len(table) table key`, its value the changelog's JSON; one more key holds the
position that the rows belong to. The position is written in the same write batch as the rows, so
the disk is always at one committed point, however the process ended (law 3). A row of a windowed
table has a second key, `0 "t" len(table) table start key`: in the order of windows' starts, so that
what is to expire is found without looking at anything else. Of a timed table each write leaves one for
each minute, `0 "t" len(table) table minute write`, its value the keys of the rows that are due in that
minute now and were not before; it goes when the minute has passed (decision 0023). Of rows that are
never due it tells no more than that there are some (decision 0028). How a store is
found whose midst is gone stands at `_checked_chain` (decision 0018).
"""

import logging
import shutil
import struct
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import msgspec
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
    WriteOptions,
)

from streams.engine.definitions import Table, TimedTable, WindowedTable
from streams.engine.errors import (
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
)
from streams.operators.timed import NEVER_MS

# No table name is empty, so no row's key begins with a zero byte.
_POSITION_KEY: Final = b"\x00position"
_TIME_INDEX: Final = b"\x00t"
_CHAIN_BEGIN: Final = b"\x00begin"
_LINK: Final = b"\x00link"
_NUMBER: Final = struct.Struct(">Q")
MINUTE_MS: Final = 60_000
_NEVER_MS: Final = NEVER_MS - NEVER_MS % MINUTE_MS
"""The minute of rows that are never due. It has one entry for all of them, without keys."""
_AFTER_ALL: Final = b"\xff" * (_NUMBER.size + 1)
GLOBAL_FOLDER: Final = "global"
"""Where an application's copies of global tables lie, beside its tasks: a task's id ends with a number."""
FORMAT: Final = 2
"""The highest that this release reads (decision 0018)."""
_FORMAT_UNTIMED: Final = 1
"""What it writes where no table is timed: the index of those had an entry a row before."""
log = logging.getLogger(__name__)


def _write_options(*, logged: bool) -> WriteOptions:
    options = WriteOptions()
    options.disable_wal = not logged  # type: ignore[method-assign, assignment] # a property
    return options


_LOGGED: Final = _write_options(logged=True)
_UNLOGGED: Final = _write_options(logged=False)
_KEY: Final = itemgetter(0)
_decode_keys: Final = msgspec.json.Decoder(list[str]).decode


# In columns a row takes about 240 bytes, as an object up to 400. A working set below this never asks RocksDB
# twice for a key.
KNOWN_ROWS: Final = 2_000_000


class Position(msgspec.Struct, frozen=True):
    """The committed point that a store's rows belong to.

    `changelogs` (by table) and `sources` (by topic) are next offsets; `written_at_ms` is wall time.
    """

    partitions: int
    changelogs: dict[str, int] = {}
    sources: dict[str, int] = {}
    commit: int = 0
    """The number of the commit that brought the rows here; see notes.Note."""
    written_at_ms: int = 0
    format: int = _FORMAT_UNTIMED
    task: str = ""
    """Whose rows they are; empty: of an earlier release, which did not tell."""
    topics: dict[str, str] = {}
    """The ids of the changelogs to which the offsets belong, by table (decision 0018)."""


class _Format(msgspec.Struct, frozen=True):
    """What a position of any release tells."""

    format: int = 1


class IndexEntry(NamedTuple):
    """Keys of rows of a timed table that may be due in a minute, told by one write; and its own key."""

    minute_ms: int
    keys: Sequence[str]
    at: bytes


class IndexChanges(NamedTuple):
    """What a write changes in a timed table's index.

    `added` are keys by the minute, ms, in which their rows are due; None: as the rows that are written tell.
    Entries that have `passed` are removed.
    """

    added: Mapping[int, Sequence[str]] | None = None
    passed: Sequence[IndexEntry] = ()


class StoreMemory:
    """Block cache, write buffers and decoded rows, bounded for all stores of a worker together.

    rocksdict's default is 2 GiB of block cache a database.
    """

    def __init__(
        self,
        *,
        block_cache_bytes: int = 64 << 20,
        write_buffer_bytes: int = 64 << 20,
        known_rows: int = KNOWN_ROWS,
    ) -> None:
        self.known_rows = known_rows
        """How many decoded rows the table parts of all open stores may keep together."""
        self.open_parts = 0
        self.cache = Cache(block_cache_bytes)
        self.write_buffers = WriteBufferManager(write_buffer_bytes, allow_stall=False)

    def used_bytes(self) -> dict[str, int]:
        """Return how much of it is in use: each part grows to its limit, and stays there."""
        return {
            "write_buffers": self.write_buffers.get_usage(),
            "block_cache": self.cache.get_usage(),
        }

    def options(self) -> Options:
        """Return the options of one store."""
        table = BlockBasedOptions()
        table.set_block_cache(self.cache)
        table.set_bloom_filter(10, block_based=False)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_write_buffer_manager(self.write_buffers)
        # Inserting into a small one takes half the time; merging more files happens beside (decision 0022).
        options.set_write_buffer_size(4 << 20)
        options.set_level_zero_file_num_compaction_trigger(8)
        options.set_keep_log_file_num(2)
        options.set_max_open_files(256)
        options.set_allow_concurrent_memtable_write(False)  # one writer: 5 % faster without
        return options


class Store:
    """The rows of a task's tables. Only committed rows come here."""

    def __init__(
        self,
        path: Path,
        memory: StoreMemory | None = None,
        *,
        tables: Iterable[Table[Any]] = (),
        read_only: bool = False,
    ) -> None:
        """Open or make the store; `tables` are those that are written to it.

        Raises StoreLockedError, StoreCorruptError or StoreError.
        """
        self.path = path
        self._memory = memory or StoreMemory()
        tables = tuple(tables)
        self._windowed = {table.name for table in tables if isinstance(table, WindowedTable)}
        self._due_ms = {t.name: t.due_ms for t in tables if isinstance(t, TimedTable)}
        self.timed = tuple(self._due_ms)
        """Names of the timed ones among its tables."""
        self._tables = len(tables)
        self._parts = 0
        access = AccessType.read_only() if read_only else AccessType.read_write()
        if read_only and not path.is_dir():  # rocksdict would make the folder
            raise StoreError(f"{path}: there is no such folder")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:  # no damage, whatever its words: there is nothing yet
            msg = f"{path.parent} in HEADRACE_DATA_DIR: cannot be written: {error.strerror}"
            raise StoreError(msg) from error
        try:
            self._db = Rdict(str(path), self._memory.options(), access_type=access)
        except Exception as error:
            raise _store_error(path, error) from error
        self._prefixes: dict[str, bytes] = {}
        self.damage: StoreCorruptError | None = None
        """What was found to be wrong with it, by whoever read it: it must be rebuilt."""
        try:
            self._chain = self._checked_chain(read_only=read_only)
        except StoreError:
            self._db.close()
            raise
        self.begin_reads()

    def close(self) -> None:
        """Close it; the folder's lock is free afterwards."""
        self.end_reads()
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001 - a full disk: what is not here is in the changelog
            log.warning("%s", _store_error(self.path, error))

    def begin_reads(self) -> None:
        """Have a share of the worker's decoded rows, as a store of a task that is owned has."""
        self.end_reads()
        self._parts = self._tables
        self._memory.open_parts += self._parts

    def end_reads(self) -> None:
        """Leave that share to others: nobody reads from this store, or not for now."""
        self._memory.open_parts -= self._parts
        self._parts = 0

    def position(self) -> Position | None:
        """Return the point that the rows belong to; None for a new store.

        Raises StoreCorruptError, or StoreFormatError where a newer release wrote it.
        """
        value = self._get(_POSITION_KEY)
        if value is None:
            return None
        try:
            if (found := msgspec.json.decode(value, type=_Format).format) > FORMAT:
                raise StoreFormatError(
                    f"{self.path} was written by a newer release (format {found}, this one reads up to "
                    f"{FORMAT}); nothing was changed. Run that release, or delete the folder: it is "
                    f"rebuilt from the changelog"
                )
            return msgspec.json.decode(value, type=Position)
        except msgspec.MsgspecError as error:
            msg = f"{self.path}: the stored position cannot be read: {error}"
            raise StoreCorruptError(msg) from error

    def get(self, table: str, key: str) -> bytes | None:
        """Return a row's value, or None."""
        return self._get(self._prefix(table) + key.encode())

    def get_many(self, table: str, keys: Iterable[bytes]) -> list[bytes | None]:
        """Return the values of rows, None for each that there is none of. Raises StoreCorruptError."""
        prefix = self._prefix(table)
        try:
            values = cast("list[bytes | None]", self._db.get([prefix + key for key in keys]))
        except Exception as error:
            raise self._error(error) from error
        return values

    def known_rows(self) -> int:
        """Return how many decoded rows each part of this store may keep now."""
        return self._memory.known_rows // max(self._memory.open_parts, 1)

    def scan(self, table: str, prefix: str = "", after: str = "") -> Iterator[tuple[str, bytes]]:
        """Yield key and value of the rows whose key begins with `prefix` and is above `after`.

        In the order of the keys' UTF-8. Raises StoreCorruptError.
        """
        of_table = self._prefix(table)
        first = max(prefix.encode(), after.encode() + b"\x00" if after else b"")
        for key, value in self._walk(of_table + prefix.encode(), of_table + first):
            yield key[len(of_table) :].decode(), value

    def begun(self, table: str, from_ms: int, to_ms: int, limit: int) -> list[str]:
        """Return the keys of a windowed table's rows whose window begins in [from_ms, to_ms].

        The oldest windows first, at most `limit`. Raises StoreCorruptError.
        """
        if to_ms < 0:
            return []
        index = _TIME_INDEX + self._prefix(table)
        found: list[str] = []
        for entry, _ in self._walk(index, index + _NUMBER.pack(from_ms)):
            start_ms = _NUMBER.unpack_from(entry, len(index))[0]
            if start_ms > to_ms or len(found) == limit:
                break
            found.append(f"{entry[len(index) + _NUMBER.size :].decode()}@{start_ms}")
        return found

    def due(self, table: str, from_ms: int, to_ms: int, limit: int) -> list[IndexEntry]:
        """Return at most `limit` entries of a timed table's index, of minutes in [from_ms, to_ms].

        The earliest first. A row that has come to be due at another time since is there as well. Raises
        StoreCorruptError.
        """
        return list(islice(self._due_entries(table, from_ms, to_ms), limit))

    def _due_entries(self, table: str, from_ms: int, to_ms: int) -> Iterator[IndexEntry]:
        index = _TIME_INDEX + self._prefix(table)
        key_at = len(index) + _NUMBER.size
        for entry, value in self._walk(index, index + _NUMBER.pack(from_ms)):
            minute_ms = _NUMBER.unpack_from(entry, len(index))[0]
            if minute_ms > to_ms:
                return
            # One that has no value is of format 1, and of one row.
            keys = _decode_keys(value) if value else [entry[key_at:].decode()]
            yield IndexEntry(minute_ms, keys, entry)

    def stale(self, table: str, from_ms: int, limit: int) -> list[IndexEntry]:
        """Return those of `due`, from a minute on, of whose rows none is due then, up to the first other.

        At most `limit`, and nothing behind them is read. Raises StoreCorruptError.
        """
        found: list[IndexEntry] = []
        for entry in islice(self._due_entries(table, from_ms, _NEVER_MS - MINUTE_MS), limit):
            values = self.get_many(table, map(str.encode, entry.keys))
            due_ms = map(self._due_ms[table], filter(None, values))
            if entry.minute_ms in map(minute_of, due_ms):
                break
            found.append(entry)
        return found

    def last_begun(self, table: str) -> int | None:
        """Return the start of the last window, or the last minute, of which a table's index tells, ms.

        None where there is none.

        Raises StoreCorruptError.
        """
        index = _TIME_INDEX + self._prefix(table)
        entries = self._db.iter()
        try:
            entries.seek_for_prev(index + _AFTER_ALL)
            last = entries.key() if entries.valid() else b""
            entries.status()
        except Exception as error:
            raise self._error(error) from error
        finally:
            del entries  # as in _walk
        return _NUMBER.unpack_from(last, len(index))[0] if last.startswith(index) else None

    def _walk(self, prefix: bytes, first: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what lies under a prefix, from `first` on."""
        rows = self._db.iter()
        try:
            rows.seek(first)
            while rows.valid() and (key := rows.key()).startswith(prefix):
                yield key, rows.value()
                rows.next()
            rows.status()  # a corrupt block ends the walk without a word; only this tells
        except Exception as error:
            raise self._error(error) from error
        finally:
            del rows  # a live iterator keeps the folder's lock even after close()

    def write(
        self,
        changes: Mapping[str, Iterable[tuple[bytes, bytes | None]]],
        position: Position,
        *,
        logged: bool = True,
        index: Mapping[str, IndexChanges] = MappingProxyType({}),
    ) -> None:
        """Write rows by table (None deletes) and their position, all or nothing. Raises StoreError.

        `index` are the changes of timed tables' indexes.

        Without RocksDB's log it takes a fifth less time; a crash then goes back to what was flushed,
        rows and position alike (decision 0013). `flush` must stand between such writes and the next
        logged one.
        """
        batch = WriteBatch(raw_mode=True)
        for table, rows in changes.items():
            prefix = self._prefix(table)
            # In key order RocksDB takes random keys 1.7 times faster; equal keys keep their order.
            ordered = sorted(rows, key=_KEY)
            for key, value in ordered:
                if value is None:
                    batch.delete(prefix + key)
                else:
                    batch.put(prefix + key, value)
            entry = _TIME_INDEX + prefix
            if table in self._windowed:
                _index(batch, entry, ordered)
            elif due_ms := self._due_ms.get(table):
                added, passed = index.get(table, IndexChanges())
                if added is None:
                    added = _by_minute(due_ms, ordered)
                _index_due(batch, entry, self._chain + 1, IndexChanges(added, passed))
        if self._due_ms:
            position = msgspec.structs.replace(position, format=FORMAT)
        batch.put(_POSITION_KEY, msgspec.json.encode(position))
        batch.delete(_link(self._chain))
        batch.put(_link(self._chain + 1), b"")
        try:
            self._db.write(batch, _LOGGED if logged else _UNLOGGED)
        except Exception as error:
            raise self._error(error) from error
        self._chain += 1

    def flush(self) -> None:
        """Have everything on disk that was written without the log. Raises StoreError."""
        try:
            self._db.flush()
        except Exception as error:
            raise self._error(error) from error

    def _checked_chain(self, *, read_only: bool) -> int:
        """Return the number of the last write. Raises StoreCorruptError where writes before it are gone.

        RocksDB takes a manifest that was cut for whole: it forgets files of rows, and reads the log,
        which goes on where those ended (on 521 bytes of manifest, 55 of 75 cuts left a store at its
        newest position with a sixth to a half of its rows). So each write removes the link that the
        write before it left, and leaves its own: of writes that are gone, one stays that nobody
        removed. The chain's begin lies in a file of rows before anything lies in a log.
        """
        links = [_NUMBER.unpack_from(key, len(_LINK))[0] for key, _ in self._walk(_LINK, _LINK)]
        begun = self._get(_CHAIN_BEGIN) is not None
        if len(links) > 1 or (links and not begun):
            raise StoreCorruptError(f"{self.path} is damaged: writes in its midst are gone")
        self.position()  # before anything is changed: it may be of a newer release
        if not begun and not read_only:
            begin = WriteBatch(raw_mode=True)
            begin.put(_CHAIN_BEGIN, b"")
            begin.put(_link(0), b"")
            try:
                self._db.write(begin, _LOGGED)
                self._db.flush()
            except Exception as error:
                raise self._error(error) from error
        return links[0] if links else 0

    def _error(self, error: Exception) -> StoreError:
        """Return our error for one of RocksDB's, and take note of damage."""
        found = _store_error(self.path, error)
        if isinstance(found, StoreCorruptError):
            self.damage = found
        return found

    def _prefix(self, table: str) -> bytes:
        prefix = self._prefixes.get(table)
        if prefix is None:
            name = table.encode()
            prefix = self._prefixes[table] = bytes([len(name)]) + name
        return prefix

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._error(error) from error
        return value


def minute_of(time_ms: int) -> int:
    """Return the minute of a time, ms: so far a timed table's index tells when rows are due."""
    return time_ms - time_ms % MINUTE_MS


def _link(number: int) -> bytes:
    return _LINK + _NUMBER.pack(number)


def _index(batch: WriteBatch, index: bytes, rows: Iterable[tuple[bytes, bytes | None]]) -> None:
    """Keep the time index of a windowed table as its rows are: `key@start`."""
    of_window: dict[bytes, bytes] = {}
    for key, value in rows:
        text, _, start = key.rpartition(b"@")
        if start not in of_window:
            of_window[start] = index + _NUMBER.pack(int(start))
        if value is None:
            batch.delete(of_window[start] + text)
        else:
            batch.put(of_window[start] + text, b"")


def _index_due(batch: WriteBatch, index: bytes, write: int, changes: IndexChanges) -> None:
    """Keep the time index of a timed table, with a write of this number."""
    added, passed = changes
    for entry in passed:
        batch.delete(entry.at)
    for minute_ms, keys in (added or {}).items():
        if minute_ms == _NEVER_MS:  # nobody looks for them: it tells that rows are stored
            batch.put(index + _NUMBER.pack(minute_ms), b"[]")
            continue
        at = index + _NUMBER.pack(minute_ms) + _NUMBER.pack(write)
        batch.put(at, msgspec.json.encode(keys))


def _by_minute(
    due_ms: Callable[[bytes], int], rows: Iterable[tuple[bytes, bytes | None]]
) -> Mapping[int, Sequence[str]]:
    """Return the keys of a timed table's rows by the minute in which they are due."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for key, value in rows:
        if value is not None:
            found[minute_of(due_ms(value))].append(key.decode())
    return found


def discard(path: Path) -> None:
    """Delete a store's folder, to be rebuilt from the changelog; what cannot be deleted stays."""
    shutil.rmtree(path, ignore_errors=True)


def remove(path: Path) -> None:
    """Delete a store's folder: its old rows must not be taken for the rebuilt ones. Raises StoreError."""
    discard(path)
    if path.exists():
        msg = f"{path} is to be rebuilt and cannot be deleted: delete it, and start again"
        raise StoreError(msg)


def ensure_writable(data_dir: Path) -> None:
    """Have the folder, and have written in it: nothing is left of that. Raises StoreError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir) as file:
            file.write(b"x")
    except OSError as error:
        msg = f"HEADRACE_DATA_DIR={data_dir}: cannot be written: {error.strerror}"
        raise StoreError(msg) from error


def _store_error(path: Path, error: Exception) -> StoreError:
    """Return our error for one of RocksDB's, which come as plain exceptions with a text."""
    # The text quotes paths: "block checksum mismatch in /household/x.sst" is no lock that is held.
    text = str(error)
    if text.startswith("Corruption") or "No such file" in text:
        return StoreCorruptError(f"{path} is damaged: {text}")
    if "lock hold by" in text or "While lock file" in text:
        return StoreLockedError(
            f"{path} is held by another process; stop it or give this worker its own "
            f"HEADRACE_DATA_DIR"
        )
    if "No space left" in text or "File too large" in text:
        return StoreError(f"{path}: the disk is full; make room and start again, nothing is lost")
    if "checksum" in text or "orrupt" in text:
        return StoreCorruptError(f"{path} is damaged: {text}")
    return StoreError(f"{path}: {text}")
