"""What the group's leader is told of a worker's disk: what is there, not what was there once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.engine import failpoints
from streams.engine.clock import SystemClock
from streams.engine.config import EngineConfig
from streams.engine.copies import Copies
from streams.engine.definitions import Flow, Table, Topology
from streams.engine.errors import StoreCorruptError
from streams.engine.failpoints import Step
from streams.engine.following import Standbys
from streams.engine.layout import own_topics, subtopologies
from streams.engine.meters import Meters
from streams.engine.records import Record, TopicPartition
from streams.engine.store import Position, Store, StoreMemory
from streams.engine.taking import take
from streams.engine.task import Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.topics import ORDERS
from tests.waiting import until_true

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
TOPOLOGY = Topology(
    (Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),), dead_letters="dead-letters"
)
CHANGELOG = TopicPartition(COUNTS.changelog("app"), 0)
TASK = "orders-0"
NOW_MS = SystemClock().wall_ms()


class Worker:
    """A worker's disk, and its only task on a Kafka in memory whose changelog has five rows."""

    def __init__(self, folder: Path) -> None:
        self.kafka = MemoryKafka()
        for name in (ORDERS.name, *own_topics(TOPOLOGY, "app")):
            self.kafka.create_topic(name, 1)
        for number in range(5):
            self.kafka.append(CHANGELOG, Record(b"key-%d" % number, b"1"), 0)
        self.kafka.run_lengths = itertools.repeat(1)
        config = EngineConfig(application_id="app", data_dir=folder, exactly_once=False)
        cluster = MemoryCluster(self.kafka, "app", SystemClock().wall_ms)
        layout = subtopologies(TOPOLOGY)
        self.path = folder / "app" / TASK
        self.task = Task(
            layout[0],
            0,
            config=config,
            cluster=cluster,
            clock=SystemClock(),
            dead_letters_topic="dead-letters",
            late_records_topic="late-records",
            meters=Meters(),
        )
        self.standbys = Standbys(
            layout,
            1,
            cluster=cluster,
            config=config,
            clock=SystemClock(),
            memory=StoreMemory(),
            is_busy=lambda: False,
        )
        self.copies = Copies(config, self.standbys)

    def leave(self, position: Position) -> None:
        """Leave a store on the disk, and look at it as a start does."""
        store = Store(self.path, tables=[COUNTS])
        store.write({}, position)
        store.close()
        self.copies.look()

    def told(self, *, owns: bool) -> int:
        return self.copies.tell({TASK: self.task} if owns else {}).tasks.get(TASK, 0)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    yield Worker(tmp_path)
    failpoints.disarm()


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"topics": {"counts": "another-id"}}, id="another cluster's"),
        pytest.param({"changelogs": {"counts": 4}, "written_at_ms": 1}, id="too old"),
    ],
)
async def test_a_store_that_is_rebuilt_counts_from_its_new_beginning(
    worker: Worker, changed: dict[str, Any]
) -> None:
    old = msgspec.structs.replace(Position(1, {"counts": 50}, written_at_ms=NOW_MS), **changed)
    worker.leave(old)
    assert worker.told(owns=True) == old.changelogs["counts"]
    told: list[int] = []
    for step in (Step.RESTORE_BEFORE_READ, Step.RESTORE_AFTER_RUN):
        failpoints.arm(step, lambda _: told.append(worker.told(owns=True)))
    await take(worker.task, StoreMemory(), partitions=1)
    assert told == [0, 1, 2, 3, 4, 5]
    worker.copies.let_go(worker.task, [])
    assert worker.told(owns=False) == 5


async def test_a_restore_that_goes_on_counts_from_where_it_was(worker: Worker) -> None:
    worker.leave(Position(1, {"counts": 3}, written_at_ms=NOW_MS))
    told: list[int] = []
    failpoints.arm(Step.RESTORE_AFTER_RUN, lambda _: told.append(worker.told(owns=True)))
    await take(worker.task, StoreMemory(), partitions=1)
    assert told == [4, 5]
    worker.task.close()


def test_a_damaged_store_that_was_thrown_away_is_not_told(worker: Worker) -> None:
    worker.leave(Position(1, {"counts": 3}, written_at_ms=NOW_MS))
    worker.task.discard_store()
    assert worker.told(owns=True) == 0
    assert worker.told(owns=False) == 0


async def test_a_standby_that_was_thrown_away_is_not_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def damaged(*_args: object, **_options: object) -> None:
        raise StoreCorruptError("checksum mismatch")

    worker.leave(Position(1, {"counts": 4}, written_at_ms=NOW_MS))
    following = asyncio.create_task(worker.standbys.run())
    worker.copies.follow([TASK])
    await until_true(lambda: worker.told(owns=False) == 5)
    monkeypatch.setattr(Store, "write", damaged)
    worker.kafka.append(CHANGELOG, Record(b"key", b"1"), 0)
    await until_true(lambda: "checksum mismatch" in caplog.text)
    assert worker.told(owns=False) == 0
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    worker.standbys.close()
