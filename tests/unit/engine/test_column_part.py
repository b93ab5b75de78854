"""A table's part in columns: it can be undone, committed and forgotten; it writes nothing itself."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.engine import expiry
from streams.engine.column_part import ChangedColumns, ColumnPart, WindowedColumnPart
from streams.engine.definitions import Columnar, Table, WindowedTable, WindowKey
from streams.engine.errors import TooLargeError
from streams.engine.parts import part_of
from streams.engine.store import Position, Store, StoreMemory
from streams.operators.windows import TumblingWindows

SIZE_MS, GRACE_MS = 3, 4
FOREVER_MS = 10**15
LONGEST = 1_000


class Sum(msgspec.Struct, frozen=True):
    times: int = 0
    cents: int = 0


def plus(row: Sum | None, cents: int) -> Sum:
    row = row or Sum()
    return Sum(row.times + 1, row.cents + cents)


def encode_columns(times: list[int], cents: list[int]) -> list[bytes]:
    return [b"%d of %d" % pair for pair in zip(times, cents, strict=True)]


def encode(row: Sum) -> bytes:
    return encode_columns([row.times], [row.cents])[0]


def decode(value: bytes) -> Sum:
    times, _, cents = value.partition(b" of ")
    return Sum(int(times), int(cents))


COLUMNAR = Columnar(Sum, encode_columns)
SUMS: Table[Sum] = Table("sums", encode, decode, columns=COLUMNAR)
WINDOWED: WindowedTable[Sum] = WindowedTable(
    "windowed", encode, decode, TumblingWindows(SIZE_MS, GRACE_MS), columns=COLUMNAR
)


class Disk:
    """A store, and the changelog that could rebuild it."""

    def __init__(self, table: Table[Sum], known_rows: int = 10_000) -> None:
        self.table = table
        self._folder = tempfile.TemporaryDirectory()
        self._memory = StoreMemory(block_cache_bytes=1 << 20, known_rows=known_rows)
        self._lost = 0
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.store = self._new()
        self._part = part_of(table, self.store)

    def _new(self) -> Store:
        path = Path(self._folder.name) / f"store-{self._lost}"
        return Store(path, self._memory, tables=[self.table])

    @property
    def part(self) -> ColumnPart[Sum]:
        assert isinstance(self._part, ColumnPart)
        return self._part

    @property
    def windowed(self) -> WindowedColumnPart[Sum]:
        assert isinstance(self._part, WindowedColumnPart)
        return self._part

    def close(self) -> None:
        self.store.close()
        self._folder.cleanup()

    def write(self, changes: ChangedColumns) -> None:
        """Do what a commit does of an epoch that was sealed."""
        rows = changes.encoded(LONGEST)
        self.changelog += rows
        self.store.write({self.table.name: rows}, Position(1))
        self.part.committed()

    def commit(self) -> None:
        """Commit what was done so far."""
        self.part.accept_batch()
        self.write(self.part.seal())

    def restore(self, run_length: int) -> None:
        """Rebuild the store as a worker does that has lost its disk."""
        self.store.close()
        self._lost += 1
        self.store = self._new()
        for begin in range(0, len(self.changelog), run_length):
            run = self.changelog[begin : begin + run_length]
            self.store.write({self.table.name: run}, Position(1), logged=False)
        self.store.flush()
        self._part = part_of(self.table, self.store)

    def rows(self) -> dict[Any, Sum]:
        """Return what is stored; a time index must hold the same."""
        name, key_of = self.table.name, self.table.key_of
        found = {key_of(key): decode(value) for key, value in self.store.scan(name)}
        if isinstance(self.table, WindowedTable):
            index = [key_of(key) for key in self.store.begun(name, 0, FOREVER_MS, 10**9)]
            assert index == sorted(found, key=lambda key: (key[1], key[0].encode()))
        return found


def told(changes: ChangedColumns, table: Table[Sum]) -> dict[Any, Sum | None]:
    """Return rows by key as a changelog would have them."""
    encoded = changes.encoded(LONGEST)
    rows = {table.key_of(k.decode()): None if v is None else decode(v) for k, v in encoded}
    assert len(rows) == len(encoded)
    return rows


def add(part: ColumnPart[Sum], *events: tuple[str, int]) -> list[int]:
    """Add each event's cents to its key's row; return what the rows had before."""
    rows = part.columns.rows([key for key, _ in events])  # type: ignore[attr-defined]
    before: list[int] = rows["cents"].tolist()
    rows.add("times", 1)
    rows.add("cents", np.array([cents for _, cents in events], np.int64))
    return before


def count(part: WindowedColumnPart[Sum], *events: tuple[int, str]) -> None:
    """Add each event, of this time, to the row of its key and window."""
    times_ms = np.array([time_ms for time_ms, _ in events], np.int64)
    rows = part.columns.rows([key for _, key in events], times_ms)
    rows.add("times", 1)
    rows.add("cents", times_ms)


@pytest.fixture
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    """Return a disk of a table, SUMS unless told, of which so many rows may be known."""
    with closing(Disk(*getattr(request, "param", (SUMS,)))) as made:
        yield made


@pytest.fixture
def minutes() -> Iterator[Disk]:
    with closing(Disk(WINDOWED)) as made:
        yield made


# -- a row a key -----------------------------------------------------------------------------------


def test_nothing_reaches_the_store_by_itself(disk: Disk) -> None:
    add(disk.part, ("a", 1))
    disk.part.accept_batch()
    changes = disk.part.seal()
    assert disk.rows() == {}
    disk.write(changes)
    assert disk.rows() == {"a": Sum(1, 1)}


def test_what_a_batch_did_can_be_looked_at_and_undone(disk: Disk) -> None:
    add(disk.part, ("a", 1))
    disk.part.accept_batch()
    add(disk.part, ("a", 2), ("b", 3))
    assert disk.part.batch_changes() == {"a": Sum(2, 3), "b": Sum(1, 3)}
    disk.part.undo_batch()
    assert disk.part.batch_changes() == {}
    disk.commit()
    assert disk.rows() == {"a": Sum(1, 1)}


def test_the_next_epoch_computes_on_top_of_the_one_in_flight(disk: Disk) -> None:
    add(disk.part, ("a", 2))
    disk.part.accept_batch()
    in_flight = disk.part.seal()
    assert add(disk.part, ("a", 1)) == [2]
    disk.part.accept_batch()
    assert told(in_flight, SUMS) == {"a": Sum(1, 2)}
    disk.write(in_flight)
    assert disk.rows() == {"a": Sum(1, 2)}
    assert told(disk.part.seal(), SUMS) == {"a": Sum(2, 3)}


def test_an_abort_forgets_all_that_is_not_stored(disk: Disk) -> None:
    add(disk.part, ("a", 1))
    disk.commit()
    add(disk.part, ("a", 2))
    disk.part.accept_batch()
    disk.part.seal()
    add(disk.part, ("a", 4), ("b", 4))
    disk.part.accept_batch()
    add(disk.part, ("c", 8))
    disk.part.reset()
    assert add(disk.part, ("a", 0), ("b", 0), ("c", 0)) == [1, 0, 0]
    disk.part.undo_batch()
    assert told(disk.part.seal(), SUMS) == {}


def test_an_epoch_without_changes_writes_nothing(disk: Disk) -> None:
    assert disk.part.seal().encoded(LONGEST) == []


def test_a_row_is_as_large_as_its_key_and_value_are_in_bytes(disk: Disk) -> None:
    add(disk.part, ("é" * 5, 1), ("b", 10**12))
    disk.part.accept_batch()
    changes = disk.part.seal()
    value = b"1 of 1000000000000"
    assert changes.encoded(1 + len(value)) == [
        ("é".encode() * 5, b"1 of 1"),
        (b"b", value),
    ]
    with pytest.raises(TooLargeError, match="a row of sums has 19 bytes, the limit is 18"):
        changes.encoded(len(value))


def test_a_row_that_is_a_byte_too_large_is_so_when_it_is_alone(disk: Disk) -> None:
    add(disk.part, ("key", 1))
    disk.part.accept_batch()
    changes = disk.part.seal()
    assert changes.encoded(9) == [(b"key", b"1 of 1")]
    with pytest.raises(TooLargeError, match="a row of sums has 9 bytes, the limit is 8"):
        changes.encoded(8)


@pytest.mark.parametrize("disk", [(SUMS, 10)], indirect=True, ids=["10 rows"])
def test_what_is_known_stays_bounded_and_what_an_open_epoch_changed_is_never_forgotten(
    disk: Disk,
) -> None:
    add(disk.part, *((f"old-{n}", n) for n in range(20)))
    disk.part.accept_batch()
    in_flight = disk.part.seal()
    add(disk.part, *((f"new-{n}", n) for n in range(20)))
    disk.part.accept_batch()
    disk.write(in_flight)
    assert disk.part.rows_in_memory == 20
    assert disk.part.columns.as_dict() == {f"new-{n}": Sum(1, n) for n in range(20)}
    assert add(disk.part, *((f"old-{n}", 0) for n in range(20))) == list(range(20))
    disk.commit()
    assert disk.part.rows_in_memory == 7


@pytest.mark.parametrize("disk", [(SUMS, 2)], indirect=True, ids=["2 rows"])
def test_a_commit_that_ends_in_the_midst_of_a_batch_leaves_that_its_rows(disk: Disk) -> None:
    add(disk.part, ("a", 1), ("b", 2), ("c", 3))
    disk.part.accept_batch()
    in_flight = disk.part.seal()
    rows = disk.part.columns.rows(["a", "b", "c", "d"])  # type: ignore[attr-defined]
    disk.write(in_flight)
    rows.add("cents", 10)
    disk.commit()
    assert {key: row.cents for key, row in disk.rows().items()} == {
        "a": 11,
        "b": 12,
        "c": 13,
        "d": 10,
    }
    assert disk.part.rows_in_memory == 1


def test_rows_that_the_store_was_asked_for_are_told_from_those_that_were_known(disk: Disk) -> None:
    part = disk.part
    add(part, ("a", 1), ("b", 1), ("a", 1))
    disk.commit()
    assert (part.hits, part.misses) == (0, 2)
    add(part, ("a", 1), ("b", 1), ("c", 1))
    disk.commit()
    assert (part.hits, part.misses) == (2, 3)


# -- a row for each key and window -----------------------------------------------------------------


#   0     3     6
#   |- a -|     |
#         '4 ms grace: gone at 7
def test_what_was_never_committed_is_removed_without_a_trace(minutes: Disk) -> None:
    count(minutes.windowed, (0, "a"), (7, "b"))
    minutes.commit()
    assert minutes.rows() == {("b", 6): Sum(1, 7)}
    assert [key for key, _ in minutes.changelog] == [b"b@6"]


def test_what_was_committed_is_removed_by_a_tombstone(minutes: Disk) -> None:
    count(minutes.windowed, (0, "a"))
    minutes.commit()
    count(minutes.windowed, (1, "a"), (7, "b"))
    minutes.commit()
    assert minutes.rows() == {("b", 6): Sum(1, 7)}
    assert minutes.changelog == [(b"a@0", b"1 of 0"), (b"b@6", b"1 of 7"), (b"a@0", None)]


def test_a_batch_that_is_undone_takes_its_stream_time_with_it(minutes: Disk) -> None:
    part = minutes.windowed
    count(part, (0, "a"))
    part.accept_batch()
    count(part, (99, "b"), (1, "a"))
    assert (part.late, part.batch_changes()) == (1, {("b", 99): Sum(1, 99)})
    part.undo_batch()
    assert (part.late, part.stream_time_ms) == (0, 0)
    count(part, (1, "a"))
    assert part.batch_changes() == {("a", 0): Sum(2, 1)}


def test_late_events_are_those_of_the_running_batch(minutes: Disk) -> None:
    part = minutes.windowed
    count(part, (50, "a"), (1, "a"), (2, "b"))
    assert part.late == 2
    part.accept_batch()
    assert part.late == 0
    count(part, (3, "a"))
    assert part.late == 1


def test_more_than_one_commit_removes_are_removed_by_the_next_ones(
    minutes: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
    part = minutes.windowed
    count(part, *((0, f"user-{n}") for n in range(5)))
    minutes.commit()
    count(part, (1_000, "last"))
    left = []
    for _ in range(3):
        minutes.commit()
        left.append((len(minutes.rows()), part.has_expired, part.rows_in_memory))
    assert left == [(4, True, 1), (2, True, 1), (1, False, 1)]


def test_whoever_goes_on_knows_that_rows_are_left_to_be_removed(
    minutes: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
    part = minutes.windowed
    count(part, *((0, f"user-{n}") for n in range(5)))
    minutes.commit()
    count(part, (1_000, "last"))
    minutes.commit()
    left = []
    for _ in range(3):
        part.reset()
        part.begin_at(1_000)
        left.append((len(minutes.rows()), part.has_expired))
        minutes.commit()
    assert left == [(4, True), (2, True), (1, False)]


def test_the_store_is_not_asked_for_rows_of_windows_that_were_never_in_it(minutes: Disk) -> None:
    part = minutes.windowed
    count(part, (0, "a"))
    minutes.commit()
    part.reset()
    part.begin_at(0)
    count(part, (1, "a"), (2, "b"), (3, "a"), (3, "b"))
    minutes.commit()
    assert part.misses == 1 + 2


def test_after_an_abort_the_store_is_asked_for_all_rows(minutes: Disk) -> None:
    part = minutes.windowed
    part.begin_at(0)
    count(part, (0, "a"), (3, "a"))
    minutes.commit()
    part.reset()
    count(part, (1, "a"), (4, "a"))
    assert part.batch_changes() == {("a", 0): Sum(2, 1), ("a", 3): Sum(2, 7)}


@pytest.mark.parametrize("disk", [(WINDOWED, 16)], indirect=True, ids=["2 rows"])
def test_a_row_of_a_new_window_that_was_forgotten_is_read(disk: Disk) -> None:
    part = disk.windowed
    part.begin_at(0)
    count(part, *((6, f"user-{n}") for n in range(9)))
    disk.commit()
    assert part.rows_in_memory == 1
    count(part, *((7, f"user-{n}") for n in range(9)))
    assert part.batch_changes() == {(f"user-{n}", 6): Sum(2, 13) for n in range(9)}


@pytest.mark.parametrize("disk", [(WINDOWED, 16)], indirect=True, ids=["2 rows"])
def test_a_commit_may_find_all_rows_changed_again_and_none_to_forget(disk: Disk) -> None:
    part = disk.windowed
    count(part, (0, "a"), (0, "b"), (0, "c"))
    part.accept_batch()
    in_flight = part.seal()
    count(part, (0, "a"), (0, "b"), (0, "c"))
    part.accept_batch()
    disk.write(in_flight)
    disk.commit()
    assert disk.rows() == {(key, 0): Sum(2, 0) for key in "abc"}


# -- laws ------------------------------------------------------------------------------------------


KNOWN_ROWS = 3


class Model(RuleBasedStateMachine):
    """A part against plain dicts: what it shows, what was accepted, sealed and stored."""

    keys = st.sampled_from("abcdef")
    cents = st.integers(0, 99) | st.sampled_from([2**62, 2**63 - 1])
    events = st.lists(st.tuples(keys, cents), max_size=8)

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(SUMS, KNOWN_ROWS)
        self.part = self.disk.part
        self.shown: dict[str, Sum] = {}
        self.accepted: dict[str, Sum] = {}
        self.stored: dict[str, Sum] = {}
        self.sealed: tuple[ChangedColumns, dict[str, Sum]] | None = None
        self.touched: set[str] = set()
        self.changed: set[str] = set()

    def teardown(self) -> None:
        self.disk.close()

    @rule(events=events)
    def add(self, events: list[tuple[str, int]]) -> None:
        before = {key: self.shown.get(key, Sum()).cents for key, _ in events}
        assert add(self.part, *events) == [before[key] for key, _ in events]
        for key, cents in events:
            self.shown[key] = plus(self.shown.get(key), cents)
            self.touched.add(key)

    @precondition(lambda self: not self.part.columns.in_batch)
    @rule()
    def look_at_all_rows(self) -> None:
        add(self.part, *((key, 0) for key in "abcdef"))
        shown = {key: plus(self.shown.get(key), 0) for key in "abcdef"}
        assert self.part.batch_changes() == shown
        self.part.undo_batch()

    @rule()
    def accept(self) -> None:
        self.part.accept_batch()
        self.accepted = dict(self.shown)
        self.changed |= self.touched
        self.touched = set()

    @rule()
    def undo(self) -> None:
        self.part.undo_batch()
        self.shown = dict(self.accepted)
        self.touched = set()

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        self.accept()
        changes = self.part.seal()
        assert told(changes, SUMS) == {key: self.accepted[key] for key in self.changed}
        self.sealed = (changes, dict(self.accepted))
        self.changed = set()

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def commit(self) -> None:
        assert self.sealed is not None
        changes, self.stored = self.sealed
        self.disk.write(changes)
        self.sealed = None
        if not self.part.columns.in_batch:
            assert self.part.rows_in_memory <= max(KNOWN_ROWS, len(self.changed))

    @rule()
    def abort(self) -> None:
        self.part.reset()
        self.shown, self.accepted = dict(self.stored), dict(self.stored)
        self.sealed, self.touched, self.changed = None, set(), set()

    @invariant()
    def stores_what_was_committed(self) -> None:
        assert self.disk.rows() == self.stored

    @invariant()
    def shows_what_the_running_batch_did(self) -> None:
        assert self.part.batch_changes() == {key: self.shown[key] for key in self.touched}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


class Committed(NamedTuple):
    """Rows, those of gone windows among them, and the stream time that tells which these are."""

    rows: dict[WindowKey, Sum]
    time_ms: int

    def alive(self) -> dict[WindowKey, Sum]:
        return {k: row for k, row in self.rows.items() if k[1] + SIZE_MS + GRACE_MS > self.time_ms}


class WindowedModel(RuleBasedStateMachine):
    """A windowed part against a plain dict and a stream time for each of its layers."""

    keys = st.sampled_from(["a", "a@1", "", "é@"])
    aheads_ms = st.sampled_from([*range(-8, 5), 0, 0, 0, 20])

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
        self.disk = Disk(WINDOWED, KNOWN_ROWS)
        self.shown = self.accepted = self.stored = Committed({}, 0)
        self.late = 0
        self.touched: set[WindowKey] = set()
        self.changed: set[WindowKey] = set()
        self.sealed: tuple[ChangedColumns, Committed, bool] | None = None
        self.is_swept = True

    def teardown(self) -> None:
        self.disk.close()
        self._patch.undo()

    @property
    def part(self) -> WindowedColumnPart[Sum]:
        return self.disk.windowed

    @rule(steps=st.lists(st.tuples(aheads_ms, keys), max_size=12))
    def count(self, steps: Sequence[tuple[int, str]]) -> None:
        """Count events whose times lie around the present stream time."""
        rows, now_ms = dict(self.shown.rows), self.shown.time_ms
        events = []
        for ahead_ms, key in steps:
            time_ms = max(now_ms + ahead_ms, 0)
            now_ms = max(now_ms, time_ms)
            events.append((time_ms, key))
            start_ms = time_ms // SIZE_MS * SIZE_MS
            if start_ms + SIZE_MS + GRACE_MS <= now_ms:
                self.late += 1
            else:
                rows[key, start_ms] = plus(rows.get((key, start_ms)), time_ms)
                self.touched.add((key, start_ms))
        self.shown = Committed(rows, now_ms)
        count(self.part, *events)
        assert self.part.late == self.late

    @precondition(lambda self: not self.part.columns.in_batch)
    @rule()
    def look_at_all_rows(self) -> None:
        """Read each row that is alive by an event of its window, which is undone."""
        alive = self.shown.alive()
        count(self.part, *((start_ms, key) for key, start_ms in alive))
        assert self.part.late == self.late
        assert self.part.batch_changes() == {k: plus(row, k[1]) for k, row in alive.items()}
        self.undo()

    @rule()
    def accept(self) -> None:
        self.part.accept_batch()
        self.accepted, self.late = self.shown, 0
        self.changed |= self.touched
        self.touched = set()

    @rule()
    def undo(self) -> None:
        self.part.undo_batch()
        self.shown, self.late = self.accepted, 0
        self.touched = set()

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        self.accept()
        changes = self.part.seal()
        rows, alive = told(changes, WINDOWED), self.accepted.alive()
        gone = {key for key, row in rows.items() if row is None}
        assert len(gone) <= 2
        assert not gone & alive.keys()
        changed = {key: alive[key] for key in self.changed & alive.keys()}
        assert {key: row for key, row in rows.items() if key not in gone} == changed
        self.changed = set()
        self.sealed = (changes, self.accepted, not self.part.has_expired)

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def commit(self) -> None:
        assert self.sealed is not None
        changes, self.stored, self.is_swept = self.sealed
        self.disk.write(changes)
        self.sealed = None
        if not self.part.columns.in_batch:
            assert self.part.rows_in_memory <= max(KNOWN_ROWS, len(self.changed))

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal_and_commit(self) -> None:
        self.seal()
        self.commit()

    @precondition(lambda self: self.sealed is None)
    @rule()
    def commit_until_nothing_is_left(self) -> None:
        self.seal_and_commit()
        for _ in range(len(self.stored.rows)):
            if self.part.has_expired:
                self.seal_and_commit()
        assert self.is_swept

    def _go_on(self) -> None:
        self.part.begin_at(self.stored.time_ms)
        self.shown = self.accepted = self.stored
        self.sealed, self.late = None, 0
        self.touched, self.changed = set(), set()
        assert self.part.has_expired == (self.disk.rows() != self.stored.alive())

    @rule()
    def crash(self) -> None:
        self.part.reset()
        self._go_on()

    @rule(run_length=st.integers(1, 9))
    def lose_the_disk(self, run_length: int) -> None:
        self.disk.restore(run_length)
        self._go_on()

    @invariant()
    def shows_what_the_running_batch_did(self) -> None:
        assert self.part.batch_changes() == {key: self.shown.rows[key] for key in self.touched}

    @invariant()
    def stores_what_is_alive_and_of_the_rest_what_no_commit_has_come_to(self) -> None:
        rows = self.disk.rows()
        alive = self.stored.alive()
        assert {key: rows.get(key) for key in alive} == alive
        assert rows.keys() <= self.stored.rows.keys()
        if self.is_swept:
            assert rows == alive


TestWindowedModel = WindowedModel.TestCase
TestWindowedModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
