"""A timed table's part: rows fire when they are due, at their own due times, wherever they lie."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.engine import timed_part
from streams.engine.definitions import Flow, TimedTable
from streams.engine.errors import CauselessFailureError
from streams.engine.store import MINUTE_MS, Position, Store, StoreMemory, minute_of
from streams.engine.timed_part import TimedPart
from streams.operators.timed import NEVER_MS, Fired, Late


class Alarm(msgspec.Struct, frozen=True):
    """A row that is due once, and `again_ms` later once more if that is not 0."""

    due_ms: int
    again_ms: int = 0


_decode = msgspec.json.Decoder(Alarm).decode
ALARMS = TimedTable("alarms", msgspec.json.encode, _decode, lambda value: _decode(value).due_ms)


def ring(key: str, row: Alarm, now_ms: int) -> Fired[Alarm, tuple[str, int]]:
    assert now_ms == row.due_ms
    left = Alarm(row.due_ms + row.again_ms) if row.again_ms else None
    return left, [(key, now_ms)]


FLOW = Flow(lambda _app: None, "alarms", reads=(), keeps=ALARMS, fires=ring)


class Disk:
    """A task's store and part, and the changelog that could rebuild it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._memory = StoreMemory(block_cache_bytes=1 << 20, known_rows=8)
        self._lost = 0
        self.changelog: dict[bytes, bytes | None] = {}
        self._open()

    def _open(self) -> None:
        path = Path(self._folder.name) / f"store-{self._lost}"
        self.store = Store(path, self._memory, tables=[ALARMS])
        self.part = TimedPart(ALARMS, self.store)

    def close(self) -> None:
        self.store.close()
        self._folder.cleanup()

    def commit(self) -> None:
        index = {ALARMS.name: self.part.seal_index()}
        changes = self.part.seal()
        rows = [(k.encode(), None if r is None else ALARMS.encode(r)) for k, r in changes.items()]
        self.changelog |= dict(rows)
        self.store.write({ALARMS.name: rows}, Position(1), index=index)
        self.part.committed()

    def due(self) -> list[tuple[int, str]]:
        entries = self.store.due(ALARMS.name, 0, 10**15, 10**9)
        return sorted({(entry.minute_ms, key) for entry in entries for key in entry.keys})

    def stale(self) -> list[tuple[int, str]]:
        entries = self.store.stale(ALARMS.name, 0, 10**9)
        return sorted({(entry.minute_ms, key) for entry in entries for key in entry.keys})

    def set(self, key: str, row: Alarm) -> None:
        self.part[key] = row
        self.part.accept_batch()

    def fire(self, now_ms: int) -> list[tuple[str, int]]:
        self.part.reached(now_ms)
        rung = []
        while self.part.has_due:
            rung += self.part.fire(FLOW, ring)[0]
        return rung

    def restore(self) -> None:
        stream_time_ms = self.part.stream_time_ms
        self.store.close()
        self._lost += 1
        self._open()
        self.store.write({ALARMS.name: self.changelog.items()}, Position(1), logged=False)
        self.store.flush()
        self.part.begin_at(stream_time_ms)


@pytest.fixture
def disk() -> Iterator[Disk]:
    made = Disk()
    yield made
    made.close()


def test_rows_fire_in_the_order_in_which_they_are_due(disk: Disk) -> None:
    disk.set("b", Alarm(10, again_ms=10))
    disk.set("c", Alarm(15))
    disk.set("a", Alarm(10))
    assert disk.fire(9) == []
    assert disk.fire(100) == [("a", 10), ("b", 10), ("c", 15), ("b", 20)]
    assert len(disk.part) == 0


def test_a_row_that_was_put_off_fires_when_it_is_due_then_and_once(disk: Disk) -> None:
    disk.fire(1)
    for due_ms in (20, 30, 30, 3 * MINUTE_MS):
        disk.set("a", Alarm(due_ms))
        disk.commit()
    assert disk.fire(2 * MINUTE_MS) == []
    assert disk.fire(3 * MINUTE_MS) == [("a", 3 * MINUTE_MS)]
    assert disk.fire(4 * MINUTE_MS) == []


def test_the_index_keeps_a_busy_row_once_a_minute_until_that_has_passed(disk: Disk) -> None:
    for due_ms in range(0, 3 * MINUTE_MS, 1_000):
        disk.set("a", Alarm(due_ms + 1))
        disk.commit()
    assert disk.due() == [(n * MINUTE_MS, "a") for n in range(3)]
    assert disk.stale() == [(0, "a"), (MINUTE_MS, "a")]
    disk.fire(2 * MINUTE_MS)
    disk.commit()
    assert disk.due() == [(2 * MINUTE_MS, "a")]
    assert disk.stale() == []


def test_entries_of_rows_that_were_fired_before_their_commit_pass_with_the_next(disk: Disk) -> None:
    for minute in range(1, 50):
        disk.set(f"k{minute}", Alarm(minute * MINUTE_MS))
        disk.fire((minute + 1) * MINUTE_MS)
        disk.commit()
        assert disk.due() == [(minute * MINUTE_MS, f"k{minute}")]
    disk.commit()
    assert disk.due() == []


def test_who_looks_for_stale_entries_reads_none_behind_the_first_other(disk: Disk) -> None:
    for minute in range(1, 4):
        disk.set("a", Alarm(minute * MINUTE_MS))
        disk.commit()
    disk.set("b", Alarm(4 * MINUTE_MS))
    disk.commit()
    *_, last = disk.store.due(ALARMS.name, 0, 10**15, 9)
    disk.store._db[last.at] = b"unreadable"
    assert disk.stale() == [(MINUTE_MS, "a"), (2 * MINUTE_MS, "a")]


def test_of_rows_that_are_never_due_the_index_has_one_entry_and_they_are_found(disk: Disk) -> None:
    for number in range(3):
        disk.set(f"k{number}", Alarm(NEVER_MS))
        disk.commit()
        disk.set("a", Alarm(1 + number))
        disk.commit()
    assert disk.fire(MINUTE_MS) == [("a", 3)]
    disk.commit()
    [entry] = disk.store.due(ALARMS.name, 0, 2**63, 9)
    assert entry.keys == []
    assert disk.stale() == []
    disk.part.reset()
    disk.fire(10**9)
    assert disk.part.get("k0") == Alarm(NEVER_MS)
    assert disk.part.get("a") is None


def test_an_index_that_an_earlier_release_wrote_is_read_and_passes(disk: Disk) -> None:
    disk.fire(1)
    disk.set("a", Alarm(2 * MINUTE_MS + 1))
    disk.commit()
    [entry] = disk.store.due(ALARMS.name, 0, 10**15, 9)
    of_row = entry.at[:-8] + b"a"  # format 1: an entry a row, with its key
    del disk.store._db[entry.at]
    disk.store._db[of_row] = b""
    disk.part.reset()
    disk.part.begin_at(1)
    assert disk.due() == [(2 * MINUTE_MS, "a")]
    assert disk.stale() == []
    assert disk.fire(3 * MINUTE_MS) == [("a", 2 * MINUTE_MS + 1)]
    disk.commit()
    assert disk.due() == []


def test_only_a_store_of_timed_tables_needs_a_release_that_knows_their_index(
    disk: Disk, tmp_path: Path
) -> None:
    disk.commit()
    untimed = Store(tmp_path / "untimed")
    untimed.write({}, Position(1))
    stored = disk.store.position(), untimed.position()
    untimed.close()
    assert [position.format for position in stored if position] == [2, 1]


def test_what_is_due_after_a_long_silence_is_fired_a_part_at_a_time(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_part, "FIRED_AT_ONCE", 3)
    for number in range(8):
        disk.set(f"k{number}", Alarm(number * MINUTE_MS))
    disk.commit()
    disk.part.reached(10**9)
    fired = []
    while disk.part.has_due:
        _, count = disk.part.fire(FLOW, ring)
        fired.append(count)
        assert disk.part.has_expired == (fired[-1] > 0)
        disk.commit()
    assert fired == [3, 3, 2]
    disk.commit()
    assert disk.due() == []


def test_a_row_that_cannot_be_fired_is_nobody_s_fault_but_the_flow_s(disk: Disk) -> None:
    def broken(key: str, row: Alarm, now_ms: int) -> Fired[Alarm, object]:
        raise ValueError(key)

    disk.set("a", Alarm(1))
    disk.part.reached(1)
    with pytest.raises(
        CauselessFailureError,
        match=r"^alarms cannot close what is due of 'a' in alarms: ValueError",
    ):
        disk.part.fire(FLOW, broken)


def test_an_event_that_is_late_for_several_windows_counts_once(disk: Disk) -> None:
    event = Alarm(1)
    disk.part.is_late(Late(event, 0, 5, 3))
    disk.part.is_late(Late(event, 5, 10, 1))
    assert disk.part.late == 1
    disk.part.undo_batch()
    assert disk.part.late == 0


class Alarms(RuleBasedStateMachine):
    """Rows are set, removed, fired, committed, undone, lost and restored; a dict tells what must be."""

    def __init__(self) -> None:
        super().__init__()
        self._at_once = timed_part.FIRED_AT_ONCE
        timed_part.FIRED_AT_ONCE = 3  # type: ignore[misc] # so that little is much
        self.disk = Disk()
        self.rows: dict[str, Alarm] = {}
        self.committed: tuple[dict[str, Alarm], int] = ({}, 0)
        self.now_ms = 0

    def teardown(self) -> None:
        timed_part.FIRED_AT_ONCE = self._at_once  # type: ignore[misc]
        self.disk.close()

    @rule(
        key=st.sampled_from("abcdefghijklmnop"),
        in_ms=st.integers(1, 3 * MINUTE_MS) | st.integers(1, 5),
        again_ms=st.sampled_from([0, 0, 1, MINUTE_MS]),
    )
    def set(self, key: str, in_ms: int, again_ms: int) -> None:
        self.rows[key] = Alarm(self.now_ms + in_ms, again_ms)
        self.disk.set(key, self.rows[key])

    @rule(key=st.sampled_from("abcdefghijklmnop"))
    def rest(self, key: str) -> None:
        self.rows[key] = Alarm(NEVER_MS)
        self.disk.set(key, self.rows[key])

    @rule(key=st.sampled_from("abcdefghijklmnop"))
    def remove(self, key: str) -> None:
        if self.rows.pop(key, None) is not None:
            del self.disk.part[key]
            self.disk.part.accept_batch()

    @rule(key=st.sampled_from("abc"), in_ms=st.integers(1, 100))
    def fail(self, key: str, in_ms: int) -> None:
        self.disk.part[key] = Alarm(self.now_ms + in_ms)
        self.disk.part.undo_batch()

    @rule(by_ms=st.integers(0, 3 * MINUTE_MS) | st.integers(0, 5))
    def fire(self, by_ms: int) -> None:
        self.now_ms += by_ms
        rung: list[tuple[int, str]] = []
        while due := sorted((r.due_ms, k) for k, r in self.rows.items() if r.due_ms <= self.now_ms):
            due_ms, key = due[0]
            rung.append((due_ms, key))
            left, _ = ring(key, self.rows.pop(key), due_ms)
            if left is not None:
                self.rows[key] = left
        assert [(due_ms, key) for key, due_ms in self.disk.fire(self.now_ms)] == rung

    @rule()
    def commit(self) -> None:
        self.disk.commit()
        self.committed = dict(self.rows), self.now_ms

    @rule()
    def abort(self) -> None:
        self.disk.part.reset()
        self._begin()

    @rule()
    def lose(self) -> None:
        self.disk.restore()
        self._begin()

    def _begin(self) -> None:
        rows, self.now_ms = self.committed
        self.rows = dict(rows)
        self.disk.part.begin_at(self.now_ms)

    @invariant()
    def has_the_rows(self) -> None:
        assert dict(self.disk.part) == self.rows

    @invariant()
    def index_has_what_is_committed(self) -> None:
        rows, _ = self.committed
        due = set(self.disk.due())
        timed = {key: row for key, row in rows.items() if row.due_ms < NEVER_MS}
        assert {(minute_of(row.due_ms), key) for key, row in timed.items()} <= due


Alarms.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestAlarms = Alarms.TestCase
