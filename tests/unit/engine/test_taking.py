"""Taking a task: a damaged store is rebuilt once, and what is damaged again is for people."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import msgspec
import pytest

from streams.engine import failpoints
from streams.engine.clock import SystemClock
from streams.engine.cluster import Committed
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topology
from streams.engine.errors import StoreCorruptError, StoreError
from streams.engine.failpoints import InjectedFailureError, Step
from streams.engine.layout import own_topics, subtopologies
from streams.engine.meters import Meters
from streams.engine.records import Record
from streams.engine.store import Position, Store, StoreMemory
from streams.engine.taking import take
from streams.engine.task import Task
from streams.memory import MemoryCluster, MemoryKafka
from streams.topics import ORDERS

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
TOPOLOGY = Topology(
    (Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),), dead_letters="dead-letters"
)


async def new_task(folder: Path) -> Task:
    """Return a task of a Kafka whose topics are empty."""
    kafka = MemoryKafka()
    for name in (ORDERS.name, *own_topics(TOPOLOGY, "app")):
        kafka.create_topic(name, 1)
    [subtopology] = subtopologies(TOPOLOGY)
    return Task(
        subtopology,
        0,
        config=EngineConfig(application_id="app", data_dir=folder),
        cluster=MemoryCluster(kafka, "app", lambda: 0),
        clock=SystemClock(),
        dead_letters_topic="dead-letters",
        meters=Meters(),
    )


async def test_a_damaged_store_is_made_anew(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    Store(task.path).close()
    (task.path / "CURRENT").write_text("nonsense\n")
    await take(task, StoreMemory(), partitions=1)
    assert task.store is not None
    assert isinstance(task.store.position(), Position)
    task.close()


async def test_a_store_that_is_damaged_anew_is_not_rebuilt_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await new_task(tmp_path)
    opened = 0

    def position(self: Store) -> Position | None:  # as a disk does that keeps nothing it is given
        nonlocal opened
        opened += 1
        assert opened < 10
        raise StoreCorruptError(f"{self.path} is damaged")

    monkeypatch.setattr(Store, "position", position)
    told = f"{re.escape(str(task.path))} is damaged.* HEADRACE_DATA_DIR"
    with pytest.raises(StoreError, match=told) as refused:
        await take(task, StoreMemory(), partitions=1)
    assert not isinstance(refused.value, StoreCorruptError)
    assert opened == 2


async def test_a_task_tells_what_is_left_to_restore_while_it_is_restored(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    changelog = task.changelog(COUNTS)
    kafka = task.cluster.kafka  # type: ignore[attr-defined] # the one in memory
    kafka.run_lengths = itertools.repeat(2)
    kafka.offsets["app", task.inputs[0]] = Committed(0)
    for number in range(5):
        kafka.append(changelog, Record(b"key-%d" % number, b"1"), 0)
    seen: list[tuple[int, int]] = []
    failpoints.arm(
        Step.RESTORE_AFTER_RUN,
        lambda _: seen.append((task.restored_records, task.restoring["counts"].remaining)),
    )
    try:
        await take(task, StoreMemory(), partitions=1)
    finally:
        failpoints.disarm()
    assert seen == [(2, 3), (4, 1), (5, 0)]
    assert (task.restoring, task.restored_records) == ({}, 5)
    task.close()


async def test_a_store_half_restored_stays_as_old_as_what_it_was_restored_from(
    tmp_path: Path,
) -> None:
    task = await new_task(tmp_path)
    kafka = task.cluster.kafka  # type: ignore[attr-defined] # the one in memory
    kafka.append(task.changelog(COUNTS), Record(b"key", b"1"), 0)
    store = Store(task.path)
    written_at_ms = task.clock.wall_ms() - 60_000
    store.write({}, Position(1, written_at_ms=written_at_ms))
    store.close()
    failpoints.arm(Step.RESTORE_AFTER_RUN, failpoints.fail)
    try:
        with pytest.raises(InjectedFailureError):
            await take(task, StoreMemory(), partitions=1)
    finally:
        failpoints.disarm()
    assert task.store is not None
    found = task.store.position()
    assert found is not None
    assert (found.changelogs, found.written_at_ms) == ({"counts": 1}, written_at_ms)
    task.close()
