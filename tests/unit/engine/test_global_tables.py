"""A worker's copy of global tables: when it is whole, what it says while it is not, and when it gives up."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from streams.engine.clock import SystemClock
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topic, Topology
from streams.engine.errors import (
    GlobalRestoreError,
    GlobalTableDamagedError,
    StoreCorruptError,
    StoreError,
)
from streams.engine.global_tables import GlobalTables
from streams.engine.layout import own_topics
from streams.engine.records import Record, Run, TopicPartition
from streams.engine.store import Store, StoreMemory
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster, MemoryFollower
from streams.topics import ORDERS
from tests.waiting import until_true

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
VISITS = Topic("visits", (), str)
TOPOLOGY = Topology(
    (
        Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),
        Flow(lambda _: None, "visited", reads=(VISITS,), global_tables=(COUNTS,)),
    ),
    dead_letters="dead-letters",
)
NUMBERS = Topic("numbers", (), str)
SUMS: Table[int] = Table("sums", COUNTS.encode, COUNTS.decode)
CHANGELOGS = [TopicPartition(COUNTS.changelog("app"), n) for n in range(2)]


class _Leaderless(MemoryCluster):
    """A cluster of which partitions have no leader: who reads those hears nothing."""

    silent = True
    silent_partition: int | None = None

    def follower(self) -> MemoryFollower:
        cluster = self

        class Follower(MemoryFollower):
            async def fetch(self, timeout_s: float) -> dict[TopicPartition, Run]:
                if cluster.silent:
                    await asyncio.sleep(0.001)
                    return {}
                runs = await super().fetch(timeout_s)
                return {
                    tp: run for tp, run in runs.items() if tp.partition != cluster.silent_partition
                }

        return Follower(self)


class Copying:
    """A worker's global tables, on a Kafka in memory with two partitions."""

    def __init__(
        self,
        folder: Path,
        *,
        timeout_s: float = 300.0,
        topology: Topology = TOPOLOGY,
        kafka: MemoryKafka | None = None,
    ) -> None:
        self.kafka = kafka or MemoryKafka()
        if kafka is None:
            for name in (ORDERS.name, VISITS.name, *own_topics(topology, "app")):
                self.kafka.create_topic(name, 2)
        self.cluster = _Leaderless(self.kafka, "app", SystemClock().wall_ms)
        self.cluster.silent = False
        self.tables = GlobalTables(
            topology,
            2,
            cluster=self.cluster,
            config=EngineConfig(
                application_id="app", data_dir=folder, global_restore_timeout_s=timeout_s
            ),
            clock=SystemClock(),
            memory=StoreMemory(known_rows=2),
        )
        [self.part, *_] = self.tables.parts.values()

    def put(self, partition: int, key: bytes, value: bytes | None) -> None:
        self.kafka.append(CHANGELOGS[partition], Record(key, value), 0)

    def store(self) -> Store:
        """Return the store that is read now."""
        store = self.part._store
        assert store is not None
        return store

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        run = asyncio.create_task(self.tables.run())
        try:
            yield run
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            self.tables.close()


async def test_rows_of_all_partitions_are_there_and_followed(tmp_path: Path) -> None:
    copying = Copying(tmp_path)
    for number in range(6):
        copying.put(number % 2, b"key-%d" % number, b"%d" % number)
    part = copying.part
    with pytest.raises(GlobalTableDamagedError, match="global table counts is read anew"):
        part.get("key-1")
    async with copying.running():
        await copying.tables.restored()
        assert dict(part) == {f"key-{number}": number for number in range(6)}
        assert len(part) == 6
        assert part["key-5"] == 5
        assert part.get("other", 7) == 7
        copying.put(1, b"key-5", None)
        copying.put(0, b"other", b"8")
        await until_true(lambda: "key-5" not in part and part.get("other") == 8)
        with pytest.raises(KeyError):
            _ = part["key-5"]
        assert copying.tables.lags() == {"counts": 0}
    assert copying.tables.lags() == {"counts": 0}
    with pytest.raises(GlobalTableDamagedError):
        part.get("key-1")


async def test_what_is_to_go_is_told_until_all_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("streams.engine.global_tables._TOLD_EACH_S", 0.0)
    copying = Copying(tmp_path)
    copying.cluster.silent = True
    copying.put(1, b"key", b"1")
    copying.put(1, b"key", b"2")
    async with copying.running():
        await until_true(lambda: copying.tables.missing() == {"counts": 2})
        await until_true(
            lambda: (
                "changelog app-counts-changelog-1 of global table counts is read to 0 of 2; tasks"
                in caplog.text
            )
        )
        copying.cluster.silent = False
        await copying.tables.restored()
        assert copying.tables.missing() == {}
    assert "global tables: counts restored" in caplog.text


async def test_a_restore_that_never_ends_stops_the_worker_with_a_line(tmp_path: Path) -> None:
    copying = Copying(tmp_path, timeout_s=0.05)
    copying.cluster.silent = True
    copying.put(1, b"key", b"1")
    async with copying.running() as run:
        with pytest.raises(
            GlobalRestoreError,
            match="changelog app-counts-changelog-1 of global table counts is read to 0 of 1, and nothing "
            r"has come for 0 s: has that partition a leader\? No task that looks things up",
        ):
            await run


async def test_what_comes_beyond_what_is_needed_is_no_progress(tmp_path: Path) -> None:
    copying = Copying(tmp_path, timeout_s=0.1)
    copying.cluster.silent_partition = 1
    copying.put(1, b"key", b"1")
    async with copying.running() as run:
        for number in range(500):  # others write on to another partition
            copying.put(0, b"other", b"%d" % number)
            await asyncio.sleep(0.01)
            if run.done():
                break
        with pytest.raises(GlobalRestoreError, match=r"counts-changelog-1 .* is read to 0 of 1"):
            await asyncio.wait_for(run, 0)


async def test_a_table_that_was_not_followed_for_a_while_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Else rows would be there that were deleted meanwhile, of which no changelog tells any more."""

    def looked_up(*tables: Table[int]) -> Topology:
        visited = Flow(lambda _: None, "visited", reads=(VISITS,), global_tables=tables)
        read = Flow(lambda _: None, "numbers", reads=(NUMBERS,), keeps=SUMS)
        return Topology((TOPOLOGY.flows[0], read, visited), dead_letters="dead-letters")

    both = Copying(tmp_path, topology=looked_up(COUNTS, SUMS))
    both.put(0, b"key-0", b"1")
    async with both.running():
        await both.tables.restored()
    one = Copying(tmp_path, topology=looked_up(SUMS), kafka=both.kafka)
    async with one.running():
        await one.tables.restored()
    assert "begins anew" not in caplog.text
    both.kafka.delete_topic(CHANGELOGS[0].topic)
    both.kafka.create_topic(CHANGELOGS[0].topic, 2)
    both.put(0, b"key-1", b"2")
    again = Copying(tmp_path, topology=looked_up(COUNTS, SUMS), kafka=both.kafka)
    async with again.running():
        await again.tables.restored()
        assert dict(again.part) == {"key-1": 2}
    assert "its copy begins anew: it did not follow counts-0 for a while" in caplog.text


async def test_a_changelog_that_is_made_anew_is_read_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copying = Copying(tmp_path)
    for number in range(3):
        copying.put(0, b"key-%d" % number, b"1")
    async with copying.running():
        await copying.tables.restored()
        copying.kafka.delete_topic(CHANGELOGS[0].topic)
        copying.kafka.create_topic(CHANGELOGS[0].topic, 2)
        copying.put(0, b"key-0", b"5")
        await until_true(lambda: copying.tables.positions().get(CHANGELOGS[0]) == 1)
        await copying.tables.restored()
        assert dict(copying.part) == {"key-0": 5}
    assert "its copy begins anew" in caplog.text


async def test_a_copy_that_is_damaged_again_while_it_is_rebuilt_stops_the_worker(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copying = Copying(tmp_path)
    copying.put(0, b"key-0", b"1")
    async with copying.running() as run:
        await copying.tables.restored()
        copying.cluster.silent = True
        copying.put(0, b"key-0", b"2")
        for _ in range(2):
            await until_true(lambda: bool(copying.tables.positions()))
            store = copying.store()
            store.damage = StoreCorruptError("its disk is broken")
            await until_true(lambda: copying.tables.positions() == {} or run.done())
        with pytest.raises(
            StoreError,
            match="its disk is broken; also after it was made anew: check the disk of HEADRACE_DATA_DIR",
        ):
            await run
    assert caplog.text.count("it is rebuilt") == 1


async def test_rows_that_were_deleted_by_hand_stop_the_worker(tmp_path: Path) -> None:
    copying = Copying(tmp_path)
    copying.put(0, b"key-0", b"1")
    copying.put(0, b"key-1", b"1")
    await copying.cluster.delete_before({CHANGELOGS[0]: 1})
    async with copying.running() as run:
        with pytest.raises(StoreError, match="begins at offset 1, and local state ends at 0"):
            await run


async def test_a_changelog_that_is_not_there_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copying = Copying(tmp_path)
    copying.kafka.delete_topic(CHANGELOGS[0].topic)
    async with copying.running():
        await until_true(lambda: "no broker knows changelog app-counts-changelog" in caplog.text)
        copying.kafka.create_topic(CHANGELOGS[0].topic, 2)
        await copying.tables.restored()
