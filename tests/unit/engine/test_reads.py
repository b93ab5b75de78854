"""What is read of a task while it works: committed rows, a piece at a time, nothing held open."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from streams.engine import reads
from streams.engine.clock import SystemClock
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topology
from streams.engine.layout import subtopologies
from streams.engine.meters import Meters
from streams.engine.reads import NotReadableError, read_row, read_rows, state_of
from streams.engine.store import Position, Store
from streams.engine.task import State, Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.topics import ORDERS

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
TOPOLOGY = Topology(
    (Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),), dead_letters="dead-letters"
)


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    """A task without rows that runs."""
    task = asyncio.run(_made(tmp_path))
    task.store = Store(task.path)
    task.state = State.RUNNING
    yield task
    task.close()


async def _made(folder: Path) -> Task:
    [subtopology] = subtopologies(TOPOLOGY)
    return Task(
        subtopology,
        0,
        config=EngineConfig(application_id="app", data_dir=folder),
        cluster=MemoryCluster(MemoryKafka(), "app", lambda: 0),
        clock=SystemClock(),
        dead_letters_topic="dead-letters",
        late_records_topic="late-records",
        meters=Meters(),
    )


def write(task: Task, rows: dict[str, bytes], **sources: int) -> None:
    assert task.store is not None
    encoded = [(key.encode(), value) for key, value in rows.items()]
    task.store.write({"counts": encoded}, Position(1, sources=sources))


def walk(task: Task) -> list[tuple[str, bytes]]:
    """Return all rows, read piece by piece."""
    found: list[tuple[str, bytes]] = []
    while piece := read_rows(task, "counts", "", found[-1][0] if found else None):
        assert len(piece) <= reads._CHUNK_ROWS
        found += piece
    return found


@pytest.mark.parametrize("number", [0, 1, reads._CHUNK_ROWS, reads._CHUNK_ROWS + 1, 1_234])
def test_pieces_joined_are_all_rows_and_none_is_large(task: Task, number: int) -> None:
    rows = {f"user-{n:05d}": b"%d" % n for n in range(number)}
    write(task, rows)
    assert walk(task) == sorted(rows.items())


def test_a_piece_of_large_rows_ends_early(task: Task) -> None:
    write(task, {f"user-{n}": b"x" * 600_000 for n in range(5)})
    assert [key for key, _ in read_rows(task, "counts", "", None)] == ["user-0", "user-1"]


def test_the_empty_key_is_the_first_of_all(task: Task) -> None:
    write(task, {"": b"0", "a": b"1"})
    assert read_row(task, "counts", "") == b"0"
    assert [key for key, _ in read_rows(task, "counts", "", None)] == ["", "a"]
    assert [key for key, _ in read_rows(task, "counts", "", "")] == ["a"]


def test_between_two_pieces_the_next_owner_can_have_the_folder(task: Task) -> None:
    write(task, {f"user-{n:05d}": b"0" for n in range(reads._CHUNK_ROWS * 2)})
    assert read_rows(task, "counts", "", None)
    task.close()
    Store(task.path).close()  # a live iterator would keep it locked


def test_states_are_told_apart(task: Task) -> None:
    assert state_of(task) == "running"
    task.state = State.TAKING
    assert state_of(task) == "restoring"  # the folder is new: everything is read back
    write(task, {}, orders=3)
    assert state_of(task) == "taking"
    write(task, {})  # while a restore goes on, the rows belong to no source offsets
    assert state_of(task) == "restoring"
    task.close()
    assert state_of(task) == "suspended"


@pytest.mark.parametrize("state", [State.TAKING, State.SUSPENDED])
def test_a_task_that_does_not_run_is_not_read(task: Task, state: State) -> None:
    write(task, {"ada": b"1"}, orders=3)
    task.state = state
    for read in (
        lambda: read_row(task, "counts", "ada"),
        lambda: read_rows(task, "counts", "", ""),
    ):
        with pytest.raises(NotReadableError, match=r"^is being "):
            read()


def test_a_damaged_store_is_not_an_empty_one(task: Task, caplog: pytest.LogCaptureFixture) -> None:
    rows = {f"user-{n:05d}": b"%d" % n for n in range(20_000)}
    write(task, rows)
    assert task.store is not None
    task.store.flush()
    task.store.close()
    file = max(task.path.glob("*.sst"), key=lambda file: file.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF  # rows; what is needed to open it stands at the end
    file.write_bytes(content)
    task.store = Store(task.path)
    with pytest.raises(NotReadableError, match=r"^has a store that cannot be read"):
        walk(task)
    assert "is damaged" in caplog.text
    assert task.store.damage is not None  # by this the engine knows that it must be rebuilt
