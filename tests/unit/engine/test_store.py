"""The store: rows and position move together, and what is wrong with it is said in one line."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streams.engine.errors import StoreCorruptError, StoreError, StoreLockedError
from streams.engine.store import Position, Store, StoreMemory

ROOT = Path(__file__).parents[3]


@pytest.fixture
def memory() -> StoreMemory:
    return StoreMemory(block_cache_bytes=1 << 20, write_buffer_bytes=4 << 20)


@pytest.fixture
def store(tmp_path: Path, memory: StoreMemory) -> Iterator[Store]:
    opened = Store(tmp_path / "app" / "orders-0", memory)
    yield opened
    opened.close()


def at(offset: int) -> Position:
    return Position(1, {"users": offset}, {"orders": offset}, written_at_ms=offset)


def test_a_new_store_has_no_position_and_no_rows(store: Store) -> None:
    assert store.position() is None
    assert store.get("users", "ada") is None
    assert list(store.scan("users")) == []


def test_rows_and_position_are_there_after_reopening(tmp_path: Path, store: Store) -> None:
    store.write({"users": [(b"ada", b"1"), (b"bob", b"2")]}, at(3))
    store.write({"users": [(b"bob", None)]}, at(5))
    store.close()
    reopened = Store(store.path)
    assert reopened.position() == at(5)
    assert list(reopened.scan("users")) == [("ada", b"1")]
    reopened.close()


def test_whatever_a_crash_cuts_off_the_rows_left_belong_to_the_position_left(
    tmp_path: Path, store: Store, memory: StoreMemory
) -> None:
    commits = 8
    for n in range(1, commits + 1):  # each rewrites one row and adds one
        rows = [(b"last", b"%d" % n), (b"row-%d" % n, b"x" * 50)]
        store.write({"users": rows, "orders": [(b"last", b"%d" % n)]}, at(n))
    [log] = store.path.glob("*.log")
    seen = set()
    for length in range(0, log.stat().st_size + 1, 37):
        torn = tmp_path / f"torn-{length}"
        shutil.copytree(store.path, torn)
        os.truncate(torn / log.name, length)
        left = Store(torn, memory)
        position = left.position()
        n = position.changelogs["users"] if position else 0
        seen.add(n)
        rows_left = dict(left.scan("users"))
        assert rows_left.pop("last", b"0") == b"%d" % n
        assert sorted(rows_left) == sorted(f"row-{m}" for m in range(1, n + 1))
        assert dict(left.scan("orders")) == ({"last": b"%d" % n} if n else {})
        left.close()
    assert {0, 1, commits - 1} <= seen


def test_a_scan_is_in_order_of_the_keys_utf8_and_of_one_table_alone(store: Store) -> None:
    keys = ["b", "a", "é", "aa", "", "\x00", "😀", "z", "ä"]
    rows: list[tuple[bytes, bytes | None]] = [(key.encode(), b"row") for key in keys]
    neighbours = ["user", "users2", "use", "\x05users", "usersz"]
    store.write({"users": rows, **{name: [(b"k", b"other")] for name in neighbours}}, at(1))
    assert [key for key, _ in store.scan("users")] == sorted(keys, key=str.encode)
    assert {value for _, value in store.scan("users")} == {b"row"}
    assert [list(store.scan(name)) for name in neighbours] == [[("k", b"other")]] * 5


def test_a_row_is_found_by_table_and_key(store: Store) -> None:
    store.write({"users": [(b"ada", b"1")], "user": [(b"sada", b"2")]}, at(1))
    assert store.get("users", "ada") == b"1"
    assert store.get("user", "sada") == b"2"
    assert store.get("user", "ada") is None


def test_a_walk_that_was_left_early_keeps_no_lock(store: Store) -> None:
    store.write({"users": [(b"ada", b"1"), (b"bob", b"2")]}, at(1))
    walk = store.scan("users")
    assert next(walk)[0] == "ada"
    del walk
    gc.collect()
    store.close()
    Store(store.path).close()


def test_a_folder_that_is_held_within_this_process_is_one_clear_line(store: Store) -> None:
    with pytest.raises(StoreLockedError) as raised:
        Store(store.path)
    assert str(raised.value) == (
        f"{store.path} is held by another process; stop it or give this worker its own "
        "HEADRACE_DATA_DIR"
    )


def test_a_folder_that_another_process_holds_is_locked_until_that_one_is_killed(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from pathlib import Path; from streams.engine.store import Store\n"
        "store = Store(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "orders-0"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreLockedError):
            Store(path)
        holder.kill()
        holder.wait()
    Store(path).close()


def test_it_can_be_read_while_it_is_held_but_not_written(store: Store) -> None:
    store.write({"users": [(b"ada", b"1")]}, at(1))
    reader = Store(store.path, read_only=True)
    store.write({"users": [(b"ada", b"2")]}, at(2))
    assert reader.position() == at(1)  # as it was when it was opened
    assert list(reader.scan("users")) == [("ada", b"1")]
    with pytest.raises(StoreError):
        reader.write({}, at(3))
    reader.close()
    assert store.position() == at(2)


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such folder"):
        Store(tmp_path / "app" / "orders-0", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_folders_place_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "orders-0"
    path.write_text("a file")
    with pytest.raises(StoreError) as raised:
        Store(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


# -- damage ----------------------------------------------------------------------------------------


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(data)


def first(path: Path, pattern: str) -> Path:
    return min(path.glob(pattern))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a block of rows": lambda path: flip(first(path, "*.sst"), 5_000),
    "a short file of rows": lambda path: os.truncate(first(path, "*.sst"), 100),
    "no file of rows": lambda path: first(path, "*.sst").unlink(),
    "nonsense in CURRENT": lambda path: (path / "CURRENT").write_text("nonsense\n"),
    "an empty CURRENT": lambda path: (path / "CURRENT").write_text(""),
    "a flipped manifest": lambda path: flip(first(path, "MANIFEST*"), 40),
    "no manifest": lambda path: first(path, "MANIFEST*").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_told_from_all_else_and_never_passed_over(
    damage: Callable[[Path], object], tmp_path: Path, memory: StoreMemory
) -> None:
    path = tmp_path / "household" / "orders-0"  # "hold" and "block" once looked like a lock
    store = Store(path, memory)
    rows: list[tuple[bytes, bytes | None]] = [
        (b"user-%d" % n, os.urandom(100)) for n in range(1_000)
    ]
    store.write({"users": rows}, at(1))
    store._db.flush()
    store.close()
    damage(path)

    def read() -> int:
        opened = Store(path, StoreMemory())
        try:
            return sum(1 for _ in opened.scan("users"))
        finally:
            opened.close()

    with pytest.raises(StoreCorruptError, match="is damaged"):
        read()


def test_a_position_that_cannot_be_read_is_damage(store: Store) -> None:
    store.write({}, at(1))
    store._db.put(b"\x00position", b"nonsense")
    with pytest.raises(StoreCorruptError, match="position cannot be read"):
        store.position()
