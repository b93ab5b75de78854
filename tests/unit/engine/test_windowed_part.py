"""A windowed table's part: rows of gone windows are hidden at once, and removed by the next commits."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.engine import expiry
from streams.engine.definitions import WindowedTable, WindowKey
from streams.engine.store import Position, Store, StoreMemory
from streams.engine.table import WindowedPart
from streams.operators.windows import TumblingWindows

SIZE_MS, GRACE_MS = 3, 4
COUNTS: WindowedTable[int] = WindowedTable(
    "counts", msgspec.json.encode, msgspec.json.decode, TumblingWindows(SIZE_MS, GRACE_MS)
)
FOREVER_MS = 10**15


class At(NamedTuple):
    timestamp: int
    key: str


class Disk:
    """A store, and the changelog that could rebuild it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._memory = StoreMemory(block_cache_bytes=1 << 20)
        self._lost = 0
        self.changelog: list[tuple[bytes, bytes | None]] = []
        self.store = self._new()
        self.part = WindowedPart(COUNTS, self.store)

    def _new(self) -> Store:
        path = Path(self._folder.name) / f"store-{self._lost}"
        return Store(path, self._memory, tables=[COUNTS])

    def close(self) -> None:
        self.store.close()
        self._folder.cleanup()

    def write(self, changes: dict[WindowKey, int | None]) -> None:
        """Do what a commit does of an epoch that was sealed."""
        rows = [
            (COUNTS.key_text(key).encode(), None if row is None else COUNTS.encode(row))
            for key, row in changes.items()
        ]
        self.changelog += rows
        self.store.write({COUNTS.name: rows}, Position(1))
        self.part.committed()

    def commit(self) -> None:
        self.write(self.part.seal())

    def restore(self, run_length: int) -> None:
        """Rebuild the store as a worker does that has lost its disk."""
        self.store.close()
        self._lost += 1
        self.store = self._new()
        for begin in range(0, len(self.changelog), run_length):
            run = self.changelog[begin : begin + run_length]
            self.store.write({COUNTS.name: run}, Position(1), logged=False)
        self.store.flush()
        self.part = WindowedPart(COUNTS, self.store)

    def rows(self) -> dict[WindowKey, int]:
        """Return what is stored; the time index must hold the same."""
        found = {COUNTS.key_of(k): COUNTS.decode(v) for k, v in self.store.scan(COUNTS.name)}
        index = [COUNTS.key_of(k) for k in self.store.begun(COUNTS.name, 0, FOREVER_MS, 10**9)]
        assert index == sorted(found, key=lambda key: (key[1], key[0].encode()))
        return found


def count(part: WindowedPart[int], *events: tuple[int, str]) -> None:
    for event, start_ms in part.on_time([At(*event) for event in events]):
        key = (event.key, start_ms)
        part[key] = part.get(key, 0) + 1


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.close()


#   0     3     6
#   |- a -|     |
#         '4 ms grace: gone at 7
def test_a_row_is_gone_at_the_event_that_ends_its_window_and_grace(disk: Disk) -> None:
    part = disk.part
    count(part, (0, "a"), (6, "b"))
    assert dict(part) == {("a", 0): 1, ("b", 6): 1}
    count(part, (7, "b"))
    assert dict(part) == {("b", 6): 2}
    assert ("a", 0) not in part
    with pytest.raises(KeyError):
        part["a", 0]
    with pytest.raises(KeyError):
        del part["a", 0]


def test_what_was_never_committed_is_removed_without_a_trace(disk: Disk) -> None:
    count(disk.part, (0, "a"), (7, "b"))
    disk.part.accept_batch()
    disk.commit()
    assert disk.rows() == {("b", 6): 1}
    assert [key for key, _ in disk.changelog] == [b"b@6"]


def test_what_was_committed_is_removed_by_a_tombstone(disk: Disk) -> None:
    count(disk.part, (0, "a"))
    disk.part.accept_batch()
    disk.commit()
    count(disk.part, (1, "a"), (7, "b"))
    disk.part.accept_batch()
    disk.commit()
    assert disk.rows() == {("b", 6): 1}
    assert disk.changelog == [(b"a@0", b"1"), (b"b@6", b"1"), (b"a@0", None)]


@pytest.mark.parametrize("stride_ms", [1, 2, 3, 5])
def test_wherever_stream_time_stands_a_commit_leaves_the_windows_that_are_alive(
    disk: Disk, stride_ms: int
) -> None:
    for now_ms in range(0, 40, stride_ms):
        count(disk.part, *((ago_ms, "a") for ago_ms in range(max(now_ms - 9, 0), now_ms + 1)))
        disk.part.accept_batch()
        disk.commit()
        starts = [s for s in range(0, now_ms + 1, SIZE_MS) if s + SIZE_MS + GRACE_MS > now_ms]
        assert {start for _, start in disk.rows()} <= set(starts)
        assert disk.part.keys() == disk.rows().keys()


def test_a_batch_that_is_undone_takes_its_stream_time_with_it(disk: Disk) -> None:
    part = disk.part
    count(part, (0, "a"))
    part.accept_batch()
    count(part, (99, "b"), (1, "a"))
    assert (part.late, dict(part)) == (1, {("b", 99): 1})
    part.undo_batch()
    assert (part.late, part.stream_time_ms, dict(part)) == (0, 0, {("a", 0): 1})
    count(part, (1, "a"))
    assert part["a", 0] == 2


def test_late_events_are_those_of_the_running_batch(disk: Disk) -> None:
    count(disk.part, (50, "a"), (1, "a"), (2, "b"))
    assert disk.part.late == 2
    disk.part.accept_batch()
    assert disk.part.late == 0
    count(disk.part, (3, "a"))
    assert disk.part.late == 1


def test_more_than_one_commit_removes_are_removed_by_the_next_ones(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
    part = disk.part
    count(part, *((0, f"user-{n}") for n in range(5)))
    part.accept_batch()
    disk.commit()
    count(part, (1_000, "last"))
    part.accept_batch()
    left = []
    for _ in range(3):
        disk.commit()
        assert dict(part) == {("last", 999): 1}
        left.append((len(disk.rows()), part.has_expired))
    assert left == [(4, True), (2, True), (1, False)]


def test_whoever_goes_on_knows_that_rows_are_left_to_be_removed(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
    count(disk.part, *((0, f"user-{n}") for n in range(5)))
    disk.part.accept_batch()
    disk.commit()
    count(disk.part, (1_000, "last"))
    disk.part.accept_batch()
    disk.commit()
    left = []
    for _ in range(3):
        disk.part.reset()
        disk.part.begin_at(1_000)
        left.append((len(disk.rows()), disk.part.has_expired))
        disk.commit()
    assert left == [(4, True), (2, True), (1, False)]


def test_a_row_that_a_rule_writes_into_a_gone_window_is_nowhere(disk: Disk) -> None:
    part = disk.part
    count(part, (100, "a"))
    part.accept_batch()
    disk.commit()
    part["a", 3] = 1
    assert ("a", 3) not in part
    part.accept_batch()
    disk.commit()
    assert disk.rows() == {("a", 99): 1}
    assert disk.changelog == [(b"a@99", b"1")]


class Committed(NamedTuple):
    """Rows, those of gone windows among them, and the stream time that tells which these are."""

    rows: dict[WindowKey, int]
    time_ms: int

    def alive(self) -> dict[WindowKey, int]:
        return {k: n for k, n in self.rows.items() if k[1] + SIZE_MS + GRACE_MS > self.time_ms}


class Model(RuleBasedStateMachine):
    """A part against a plain dict and a stream time for each of its layers."""

    keys = st.sampled_from(["a", "a@1", "", "é@"])
    aheads_ms = st.sampled_from([*range(-8, 5), 0, 0, 0, 20])

    def __init__(self) -> None:
        super().__init__()
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
        self.disk = Disk()
        self.shown = self.accepted = self.stored = Committed({}, 0)
        self.late = 0
        self.sealed: tuple[dict[WindowKey, int | None], Committed, bool] | None = None
        self.is_swept = True

    def teardown(self) -> None:
        self.disk.close()
        self._patch.undo()

    @property
    def part(self) -> WindowedPart[int]:
        return self.disk.part

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
                rows[key, start_ms] = rows.get((key, start_ms), 0) + 1
        self.shown = Committed(rows, now_ms)
        count(self.part, *events)

    @precondition(lambda self: self.shown.alive())
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.shown.alive())))
        rows = dict(self.shown.rows)
        del rows[key]
        del self.part[key]
        self.shown = self.shown._replace(rows=rows)

    @rule()
    def accept(self) -> None:
        assert self.part.late == self.late
        self.part.accept_batch()
        self.accepted, self.late = self.shown, 0

    @rule()
    def undo(self) -> None:
        self.part.undo_batch()
        self.shown, self.late = self.accepted, 0

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        self.accept()
        changes = self.part.seal()
        gone = [key for key in changes if key not in self.accepted.alive()]
        removed = [key for key in gone if key[1] + SIZE_MS + GRACE_MS <= self.accepted.time_ms]
        assert len(removed) <= 2
        assert all(changes[key] is None for key in gone)
        self.sealed = (dict(changes), self.accepted, not self.part.has_expired)

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def commit(self) -> None:
        assert self.sealed is not None
        changes, self.stored, self.is_swept = self.sealed
        self.disk.write(changes)
        self.sealed = None

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal_and_commit(self) -> None:
        self.seal()
        self.commit()

    @precondition(lambda self: self.sealed is None)
    @rule()
    def commit_until_nothing_is_left(self) -> None:
        self.seal_and_commit()
        for _ in range(len(self.disk.rows())):
            if self.part.has_expired:
                self.seal_and_commit()
        assert self.is_swept

    def _go_on(self) -> None:
        self.part.begin_at(self.stored.time_ms)
        self.shown = self.accepted = self.stored
        self.sealed, self.late = None, 0
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
    def shows_what_is_alive(self) -> None:
        assert dict(self.part) == self.shown.alive()
        assert all(
            self.part.get(key) == self.shown.alive().get(key) for key in list(self.shown.rows)
        )

    @invariant()
    def stores_what_is_alive_and_of_the_rest_what_no_commit_has_come_to(self) -> None:
        rows = self.disk.rows()
        alive = self.stored.alive()
        assert {key: rows.get(key) for key in alive} == alive
        # A row that was deleted, and whose window is gone by the same commit, is removed with its window.
        for _, start_ms in rows.keys() - self.stored.rows.keys():
            assert start_ms + SIZE_MS + GRACE_MS <= self.stored.time_ms
        if self.is_swept:
            assert rows == alive


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
