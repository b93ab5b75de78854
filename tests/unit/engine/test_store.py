"""The store: rows and position move together, and what is wrong with it is said in one line."""

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Rdict

from streams.engine.definitions import WindowedTable
from streams.engine.errors import (
    StoreCorruptError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
)
from streams.engine.store import Position, Store, StoreMemory, ensure_writable
from streams.operators.windows import TumblingWindows

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


def test_a_scan_can_begin_behind_a_key_and_keep_to_a_prefix(store: Store) -> None:
    keys = ["", "a", "a@1", "a@2", "aa", "b", "é", "é@1", "😀"]
    store.write({"users": [(key.encode(), b"") for key in keys], "userz": [(b"a", b"")]}, at(1))

    def found(prefix: str = "", after: str = "") -> list[str]:
        return [key for key, _ in store.scan("users", prefix, after)]

    assert found() == keys
    assert found("a@") == ["a@1", "a@2"]
    assert found("é") == ["é", "é@1"]
    assert found(after="a@1") == ["a@2", "aa", "b", "é", "é@1", "😀"]
    assert found(after="a@11") == ["a@2", "aa", "b", "é", "é@1", "😀"]
    assert found("a", after="a@2") == ["aa"]
    assert found("a", after="A") == ["a", "a@1", "a@2", "aa"]
    assert found("a", after="b") == found("x") == found(after="😀") == []


@settings(deadline=None, max_examples=15)
@given(st.sets(st.text("ab@é", min_size=1, max_size=3), max_size=12), st.text("ab@é", max_size=2))
def test_pages_that_each_begin_behind_the_last_key_are_the_whole_scan(
    keys: set[str], prefix: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "orders-0")
        store.write({"users": [(key.encode(), b"") for key in keys]}, at(1))
        pages: list[str] = []
        while page := [k for k, _ in islice(store.scan("users", prefix, (pages or [""])[-1]), 2)]:
            pages += page
        store.close()
    assert pages == sorted((k for k in keys if k.startswith(prefix)), key=str.encode)


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


# -- the time index --------------------------------------------------------------------------------

MINUTES: WindowedTable[int] = WindowedTable(
    "minutes", msgspec.json.encode, msgspec.json.decode, TumblingWindows(60, 0)
)
FOREVER_MS = 10**15


@pytest.fixture
def windowed(tmp_path: Path, memory: StoreMemory) -> Iterator[Store]:
    opened = Store(tmp_path / "app" / "orders-0", memory, tables=[MINUTES])
    yield opened
    opened.close()


def minutes(*keys: str) -> dict[str, list[tuple[bytes, bytes | None]]]:
    return {"minutes": [(key.encode(), b"1") for key in keys]}


def test_what_has_begun_is_found_oldest_windows_first(windowed: Store) -> None:
    windowed.write(minutes("b@60", "a@120", "a@60", "z@0", "a@3600", "a@1763715600000"), at(1))
    assert windowed.begun("minutes", 0, FOREVER_MS, 99) == [
        "z@0", "a@60", "b@60", "a@120", "a@3600", "a@1763715600000",
    ]  # fmt: skip


def test_both_ends_count_and_no_more_than_asked_for_are_found(windowed: Store) -> None:
    windowed.write(minutes("a@0", "a@60", "b@60", "a@120", "a@180"), at(1))
    assert windowed.begun("minutes", 60, 120, 99) == ["a@60", "b@60", "a@120"]
    assert windowed.begun("minutes", 61, 119, 99) == []
    assert windowed.begun("minutes", 60, 180, 2) == ["a@60", "b@60"]
    assert windowed.begun("minutes", 0, 0, 99) == ["a@0"]
    assert windowed.begun("minutes", 0, -1, 99) == []
    assert windowed.begun("minutes", 181, FOREVER_MS, 99) == []


def test_keys_are_told_from_starts_whatever_is_in_them(windowed: Store) -> None:
    keys = ["a@b@0", "@0", "@60@0", "é@0", "😀\x00@0", "a@@0"]
    windowed.write(minutes(*keys), at(1))
    assert set(windowed.begun("minutes", 0, 0, 99)) == set(keys)
    assert {key for key, _ in windowed.scan("minutes")} == set(keys)


def test_the_index_is_no_row_and_no_other_tables(tmp_path: Path, memory: StoreMemory) -> None:
    other = WindowedTable("minute", MINUTES.encode, MINUTES.decode, MINUTES.windows)
    store = Store(tmp_path / "both", memory, tables=[MINUTES, other])
    rows: list[tuple[bytes, bytes | None]] = [(b"s@0", b"2")]
    store.write({**minutes("a@0"), "minute": rows, "users": [(b"u@0", b"3")]}, at(1))
    assert store.begun("minutes", 0, FOREVER_MS, 9) == ["a@0"]
    assert store.begun("minute", 0, FOREVER_MS, 9) == ["s@0"]
    assert store.begun("users", 0, FOREVER_MS, 9) == []
    assert dict(store.scan("minutes")) == {"a@0": b"1"}
    assert store.position() == at(1)
    store.close()


def test_a_row_that_is_removed_leaves_the_index(windowed: Store) -> None:
    windowed.write(minutes("a@0", "b@0"), at(1))
    windowed.write({"minutes": [(b"a@0", None), (b"none@0", None)]}, at(2))
    assert windowed.begun("minutes", 0, FOREVER_MS, 99) == ["b@0"]


@settings(deadline=None, max_examples=15)
@given(
    changes=st.lists(
        st.tuples(
            st.sampled_from(["a", "a@0", "é", ""]), st.sampled_from([0, 60, 120]), st.booleans()
        ),
        max_size=30,
    ),
    run_length=st.integers(1, 9),
    flushes=st.booleans(),
)
def test_rows_and_index_agree_however_a_changelog_is_read_back(
    changes: list[tuple[str, int, bool]], run_length: int, *, flushes: bool
) -> None:
    changelog: list[tuple[bytes, bytes | None]] = [
        (f"{key}@{start}".encode(), b"1" if is_row else None) for key, start, is_row in changes
    ]
    kept = {key.decode() for key, value in dict(changelog).items() if value}
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "orders-0", tables=[MINUTES])
        for begin in range(0, len(changelog), run_length):
            run = changelog[begin : begin + run_length]
            store.write({"minutes": run}, at(begin), logged=False)
            if flushes:
                store.flush()
        store.flush()
        store.close()
        store = Store(Path(folder) / "orders-0", tables=[MINUTES])
        assert {key for key, _ in store.scan("minutes")} == kept
        index = store.begun("minutes", 0, FOREVER_MS, 99)
        assert (len(index), set(index)) == (len(kept), kept)
        store.close()


def test_what_was_not_flushed_is_lost_from_rows_index_and_position_alike(
    tmp_path: Path, windowed: Store, memory: StoreMemory
) -> None:
    windowed.write(minutes("a@0"), at(1), logged=False)
    windowed.flush()
    windowed.write({"minutes": [(b"a@0", None), (b"b@60", b"1")]}, at(2), logged=False)
    shutil.copytree(windowed.path, tmp_path / "killed")
    left = Store(tmp_path / "killed", memory, tables=[MINUTES])
    assert left.position() == at(1)
    assert [key for key, _ in left.scan("minutes")] == ["a@0"]
    assert left.begun("minutes", 0, FOREVER_MS, 9) == ["a@0"]
    left.close()


# -- damage ----------------------------------------------------------------------------------------


def flip(path: Path, where: int) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 0xFF
    path.write_bytes(data)


def largest(path: Path, pattern: str) -> Path:
    return max(path.glob(pattern), key=lambda file: file.stat().st_size)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "a block of rows": lambda path: flip(largest(path, "*.sst"), 5_000),
    "a short file of rows": lambda path: os.truncate(largest(path, "*.sst"), 100),
    "no file of rows": lambda path: largest(path, "*.sst").unlink(),
    "nonsense in CURRENT": lambda path: (path / "CURRENT").write_text("nonsense\n"),
    "an empty CURRENT": lambda path: (path / "CURRENT").write_text(""),
    "a flipped manifest": lambda path: flip(largest(path, "MANIFEST*"), 40),
    "no manifest": lambda path: largest(path, "MANIFEST*").unlink(),
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


def test_a_manifest_cut_anywhere_never_leaves_a_store_whose_midst_is_gone(
    tmp_path: Path, store: Store, memory: StoreMemory
) -> None:
    for n in range(1, 7):
        store.write({"users": [(b"row-%d" % n, b"x" * 50)]}, at(n))
        if n in (2, 4):
            store.flush()  # rows 1 and 2 in one file, 3 and 4 in another, the others in the log
    [manifest] = store.path.glob("MANIFEST*")
    outcomes = set()
    for length in range(0, manifest.stat().st_size + 1, 5):
        torn = tmp_path / f"torn-{length}"
        shutil.copytree(store.path, torn)
        os.truncate(torn / manifest.name, length)
        try:
            left = Store(torn, memory)
        except StoreCorruptError as error:
            outcomes.add(re.sub(r".*is damaged: ([^:,]*).*", r"\1", str(error)))
            continue
        position = left.position()
        outcomes.add("whole")
        assert position == at(6)
        assert len(list(left.scan("users"))) == 6
        left.close()
    assert {"writes in its midst are gone", "Corruption"} <= outcomes


def test_a_log_that_is_gone_before_one_that_is_there_is_damage(
    tmp_path: Path, store: Store, memory: StoreMemory
) -> None:
    store.write({"users": [(b"a", b"1")]}, at(1))
    shutil.copytree(store.path, tmp_path / "before")
    store.write({"users": [(b"b", b"1")]}, at(2))
    store.flush()
    store.write({"users": [(b"c", b"1")]}, at(3))
    [log] = store.path.glob("*.log")
    mixed = tmp_path / "before"  # the files of an older time, and the newest log
    shutil.copy(log, mixed / log.name)
    for old in set(mixed.glob("*.log")) - {mixed / log.name}:
        old.unlink()
    with pytest.raises(StoreCorruptError, match="writes in its midst are gone"):
        Store(mixed, memory)


def test_a_store_of_an_earlier_release_is_read_and_gets_what_it_lacks(
    tmp_path: Path, memory: StoreMemory
) -> None:
    path = tmp_path / "orders-0"
    options = memory.options()
    earlier = Rdict(str(path), options)
    earlier[b"\x05usersada"] = b"1"
    earlier[b"\x00position"] = (
        b'{"partitions":1,"changelogs":{"users":7},"sources":{"orders":9},"commit":3,'
        b'"written_at_ms":5,"format":1}'
    )
    earlier.close()
    for _ in range(2):
        store = Store(path, memory)
        position = store.position()
        assert position == Position(1, {"users": 7}, {"orders": 9}, 3, 5, 1, "", {})
        assert store.get("users", "ada") == b"1"
        store.close()


def test_the_earlier_release_reads_a_store_of_this_one_and_this_one_what_it_wrote(
    store: Store,
) -> None:
    for n in range(1, 3):
        store.write({"users": [(b"row-%d" % n, b"1")]}, at(n))
        store.close()
        earlier = Rdict(str(store.path), store._memory.options())  # it knows nothing of links
        told = msgspec.json.decode(earlier[b"\x00position"] or b"")
        known = ("partitions", "changelogs", "sources", "commit", "written_at_ms", "format")
        assert msgspec.convert({k: told[k] for k in known}, Position) == at(n)
        assert told["format"] == 1
        earlier[b"\x05usersbob"] = b"%d" % n
        earlier.close()
        store = Store(store.path)
        assert store.get("users", "bob") == b"%d" % n
    store.close()


def test_a_store_of_a_newer_release_is_named_and_left_as_it_is(store: Store) -> None:
    rows: list[tuple[bytes, bytes | None]] = [(b"ada", b"1")]
    store.write({"users": rows}, at(1))
    store._db[b"\x00position"] = b'{"format":99,"partitions":{"as":"never seen"}}'
    store.close()
    for read_only in (True, False):
        with pytest.raises(StoreFormatError) as refused:
            Store(store.path, read_only=read_only)
        assert not isinstance(refused.value, StoreCorruptError)
        assert str(refused.value) == (
            f"{store.path} was written by a newer release (format 99, this one reads up to 2); "
            "nothing was changed. Run that release, or delete the folder: it is rebuilt from the "
            "changelog"
        )
    left = Rdict(str(store.path), store._memory.options())
    assert left[b"\x05usersada"] == b"1"
    left.close()


def test_a_position_that_cannot_be_read_is_damage(store: Store) -> None:
    store.write({}, at(1))
    store._db.put(b"\x00position", b"nonsense")
    with pytest.raises(StoreCorruptError, match="position cannot be read"):
        store.position()


def test_a_folder_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    ensure_writable(tmp_path / "new" / "state")
    assert list((tmp_path / "new" / "state").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named_with_its_setting_and_is_no_damage(
    tmp_path: Path, memory: StoreMemory
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "state"
    with pytest.raises(StoreError) as refused:
        ensure_writable(folder)
    assert str(refused.value) == f"HEADRACE_DATA_DIR={folder}: cannot be written: Not a directory"
    with pytest.raises(StoreError, match="in HEADRACE_DATA_DIR: cannot be written") as unmade:
        Store(folder / "app" / "orders-0", memory)
    assert not isinstance(unmade.value, StoreCorruptError)
