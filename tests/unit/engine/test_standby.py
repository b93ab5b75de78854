"""A standby: what it does with its store, and how it is kept out of the way of the worker's own tasks."""

from __future__ import annotations

import asyncio
import itertools
import logging
import shutil
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from streams.engine import failpoints
from streams.engine.clock import SystemClock
from streams.engine.cluster import Bounds
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topic, Topology
from streams.engine.errors import KafkaUnavailableError, StoreError
from streams.engine.failpoints import Step
from streams.engine.following import Standbys
from streams.engine.layout import own_topics, subtopologies
from streams.engine.records import Record, TopicPartition
from streams.engine.standby import disk_name
from streams.engine.store import Position, Store, StoreMemory
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster, MemoryFollower
from streams.topics import ORDERS
from tests.waiting import until_true

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
TOPOLOGY = Topology(
    (Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),), dead_letters="dead-letters"
)
VISITED: Table[int] = Table("visited", msgspec.json.encode, msgspec.json.Decoder(int).decode)
VISITS = Topic("visits", (), str)
TWO_TASKS = Topology(
    (*TOPOLOGY.flows, Flow(lambda _: None, "visited", reads=(VISITS,), keeps=VISITED)),
    dead_letters="dead-letters",
)
CHANGELOG = TopicPartition(COUNTS.changelog("app"), 0)
TASK = "orders-0"


class Following:
    """A worker's standbys on a Kafka in memory, with one task's changelog to follow."""

    def __init__(self, folder: Path, topology: Topology = TOPOLOGY) -> None:
        self.kafka = MemoryKafka()
        for name in (ORDERS.name, *own_topics(topology, "app")):
            self.kafka.create_topic(name, 1)
        self.path = folder / "app" / TASK
        self.memory = StoreMemory()
        self.is_busy = False
        self.standbys = Standbys(
            subtopologies(topology),
            1,
            cluster=MemoryCluster(self.kafka, "app", SystemClock().wall_ms),
            config=EngineConfig(application_id="app", data_dir=folder),
            clock=SystemClock(),
            memory=self.memory,
            is_busy=lambda: self.is_busy,
        )

    def append(self, begin: int, end: int) -> None:
        for number in range(begin, end):
            self.kafka.append(CHANGELOG, Record(b"key-%04d" % number, b"%d" % number), 0)

    def write(self, position: Position, rows: dict[bytes, bytes] | None = None) -> None:
        store = Store(self.path)
        store.write({"counts": (rows or {}).items()}, position)
        store.close()

    async def level(self) -> None:
        def is_level() -> bool:
            return self.standbys.stored() == {TASK: self.kafka.stable_end(CHANGELOG)}

        await until_true(is_level)

    def taken(self) -> dict[str, bytes]:
        """Stop following, and return what the one who takes the task finds."""
        store = self.standbys.release(TASK)
        assert store is not None
        rows = dict(store.scan("counts"))
        self.position = store.position()
        store.close()
        return rows

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        run = asyncio.create_task(self.standbys.run())
        try:
            yield
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
            self.standbys.close()


@pytest.fixture
async def following(tmp_path: Path) -> Following:
    return Following(tmp_path)


def expected(end: int) -> dict[str, bytes]:
    return {f"key-{number:04d}": b"%d" % number for number in range(end)}


async def test_whoever_takes_the_task_finds_all_rows_and_from_where_to_read_on(
    following: Following,
) -> None:
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        following.append(5, 9)
        following.kafka.append(CHANGELOG, Record(b"key-0000", None), 0)
        following.kafka.append(CHANGELOG, None, 0)  # the end of a transaction
        await following.level()
        assert following.standbys.stored() == {TASK: 11}
        assert following.taken() == {k: v for k, v in expected(9).items() if k != "key-0000"}
    assert following.position is not None
    assert following.position.changelogs == {"counts": 11}
    assert following.position.sources == {}


async def test_a_standby_goes_on_from_where_its_disk_is(following: Following) -> None:
    following.append(0, 5)
    now_ms = SystemClock().wall_ms()
    following.write(Position(1, {"counts": 3}, written_at_ms=now_ms), {b"mark": b"1"})
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        rows = following.taken()
    assert rows == {"mark": b"1", "key-0003": b"3", "key-0004": b"4"}


async def test_an_owner_s_open_store_is_gone_on_with(following: Following) -> None:
    following.append(0, 5)
    store = Store(following.path, following.memory, tables=[COUNTS])
    now_ms = SystemClock().wall_ms()
    store.write({}, Position(1, {"counts": 4}, {"orders": 7}, commit=3, written_at_ms=now_ms))
    async with following.running():
        following.standbys.keep(TASK, store)
        following.standbys.follow([TASK])
        await following.level()
        assert following.memory.open_parts == 0  # nobody reads from it
        assert following.taken() == {"key-0004": b"4"}


async def test_a_store_that_its_owner_gives_while_ends_are_asked_for_is_not_held_against_them(
    following: Following, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two assignments within one answer: the task came, was worked at, and went again."""
    bounds = MemoryCluster.bounds

    async def slow(
        self: MemoryCluster, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Bounds]:
        answer = await bounds(self, partitions)
        monkeypatch.setattr(MemoryCluster, "bounds", bounds)
        assert following.standbys.release(TASK) is None
        following.append(0, 5)
        store = Store(following.path, following.memory, tables=[COUNTS])
        now_ms = SystemClock().wall_ms()
        position = Position(1, {"counts": 5}, {"orders": 5}, commit=1, written_at_ms=now_ms)
        store.write({"counts": [(b"mark", b"1")]}, position)
        following.standbys.keep(TASK, store)
        following.standbys.follow([TASK])
        return answer

    monkeypatch.setattr(MemoryCluster, "bounds", slow)
    async with following.running():
        following.standbys.follow([TASK])
        await until_true(lambda: following.standbys.stored() == {TASK: 5})
        assert following.taken() == {"mark": b"1"}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_standby_that_read_nothing_is_still_at_its_owner_s_commit(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.append(0, 4)
    now_ms = SystemClock().wall_ms() - 60_000
    following.write(Position(1, {"counts": 4}, {"orders": 7}, commit=3, written_at_ms=now_ms))
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        # That it had all that there was: its state is not older than that.
        await until_true(lambda: "is level" in caplog.text)
        following.taken()
    found = following.position
    assert found is not None
    assert (found.sources, found.commit) == ({"orders": 7}, 3)
    assert found.written_at_ms > now_ms


@pytest.mark.parametrize(
    ("position", "told"),
    [
        (Position(1, {"counts": 3}, written_at_ms=1), "it was last level"),
        (Position(1, {"counts": 99}, written_at_ms=2**62), "does not belong to changelog"),
        (Position(1, {"counts": 3}, {}, 0, 2**62, 1, "x-0"), "it is of x-0"),
        (
            Position(1, {"counts": 3}, {}, 0, 2**62, topics={"counts": "another"}),
            "does not belong to changelog",
        ),
        (Position(2, {"counts": 3}, written_at_ms=2**62), "topics with 2 partitions"),
    ],
)
async def test_what_cannot_be_caught_up_begins_anew(
    following: Following, position: Position, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    following.write(position, {b"old": b"1"})
    with caplog.at_level(logging.WARNING):
        async with following.running():
            following.standbys.follow([TASK])
            await following.level()
            rows = following.taken()
    assert rows == expected(5)
    assert [told in record.getMessage() for record in caplog.records] == [True]


async def test_a_store_is_no_older_than_its_changelog_tells_of_removed_rows(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.kafka.tombstones_kept_ms[CHANGELOG.topic] = 3_600_000
    following.append(0, 5)  # that `removed` was removed stood here, and is forgotten
    two_hours_ago_ms = SystemClock().wall_ms() - 2 * 3_600_000
    position = Position(1, {"counts": 3}, written_at_ms=two_hours_ago_ms)
    following.write(position, {b"removed": b"1"})
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        assert following.taken() == expected(5)
    assert "it was last level 2.0 h ago" in caplog.text


async def test_a_standby_that_was_not_level_for_too_long_may_have_missed_removed_rows(
    following: Following, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.engine.following._REST_S", 0.01)
    caplog.set_level(logging.INFO)
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await until_true(lambda: "is level" in caplog.text)
        [(_, store)] = following.standbys.stores()
        store.write({"counts": [(b"removed", b"1")]}, Position(1), logged=False)
        [standby] = following.standbys._open.values()
        standby.level_at_ms -= 2 * 86_400_000
        await until_true(lambda: "removed rows may be missed" in caplog.text)
        await until_true(lambda: caplog.text.count("is level") == 2)
        assert following.taken() == expected(5)


async def test_whoever_takes_the_task_hears_when_its_standby_was_level_last(
    following: Following,
) -> None:
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        [standby] = following.standbys._open.values()
        await until_true(lambda: standby.is_level)
        settled_at_ms = standby.settled_at_ms
        await until_true(lambda: standby.level_at_ms > settled_at_ms)
        level_at_ms = standby.level_at_ms
        following.taken()
    assert following.position is not None
    assert following.position.written_at_ms == level_at_ms


@pytest.mark.parametrize("topics", [{"counts": ""}, {}])
async def test_topic_ids_that_were_not_told_count_as_right(
    following: Following, topics: dict[str, str]
) -> None:
    following.append(0, 5)
    now_ms = SystemClock().wall_ms()
    position = Position(1, {"counts": 4}, written_at_ms=now_ms, task=TASK, topics=topics)
    following.write(position, {b"mark": b"1"})
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        assert following.taken() == {"mark": b"1", "key-0004": b"4"}


async def test_an_owner_s_next_commit_follows_upon_what_a_standby_noted(
    following: Following, tmp_path: Path
) -> None:
    following.append(0, 4)
    now_ms = SystemClock().wall_ms()
    position = Position(1, {"counts": 4}, {"orders": 7}, commit=3, written_at_ms=now_ms)
    following.write(position)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        [standby] = following.standbys._open.values()
        await until_true(lambda: standby.is_level)
        await until_true(lambda: standby.level_at_ms > standby.settled_at_ms)
        store = following.standbys.release(TASK)
        assert store is not None
        store.write({"counts": [(b"key", b"1")]}, position)
        shutil.copytree(following.path, tmp_path / "killed")  # as kill -9 leaves it
        store.close()
    killed = Store(tmp_path / "killed")
    assert killed.get("counts", "key") == b"1"
    killed.close()


async def test_a_damaged_store_begins_anew(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    following.write(Position(1, {"counts": 3}, written_at_ms=2**62))
    (following.path / "CURRENT").write_text("nonsense\n")
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        assert following.taken() == expected(5)
    assert "its copy begins anew" in caplog.text


async def test_a_standby_whose_changelog_lost_what_it_lacks_is_not_followed(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        following.append(5, 9)
        following.kafka.begins[CHANGELOG] = 7
        await until_true(lambda: "ends at 5: rows are gone" in caplog.text)
        assert following.standbys.stored() == {}


async def test_a_store_that_cannot_be_followed_is_free(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    following.kafka.begins[CHANGELOG] = 4
    following.write(Position(1, {"counts": 3}, written_at_ms=SystemClock().wall_ms()))
    async with following.running():
        following.standbys.follow([TASK])
        await until_true(lambda: "rows are gone" in caplog.text)
        Store(following.path).close()


async def test_a_store_of_the_last_commit_is_followed_however_old_it_is(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    following.append(0, 4)
    position = Position(1, {"counts": 4}, {"orders": 7}, commit=3, written_at_ms=1)
    following.write(position, {b"mark": b"1"})
    async with following.running():
        following.standbys.follow([TASK])
        await until_true(lambda: "is level" in caplog.text)
        assert following.taken() == {"mark": b"1"}
    assert following.position is not None
    assert following.position.written_at_ms > 1


async def test_a_folder_that_another_worker_holds_is_followed_once_it_is_free(
    following: Following, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    owner = Store(following.path)
    async with following.running():
        following.standbys.follow([TASK])
        with caplog.at_level(logging.DEBUG):
            await until_true(lambda: "its folder is still held" in caplog.text)
        assert following.standbys.stored() == {}
        owner.close()
        await following.level()
        assert following.taken() == expected(5)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_full_disk_is_said_and_nothing_else_stops(
    following: Following, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()

        def refuse(self: Store, *_args: object, **_options: object) -> None:
            raise StoreError(f"{self.path}: the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(Store, "write", refuse)
            following.append(5, 6)
            await until_true(lambda: "the disk is full" in caplog.text)
        assert following.standbys.stored() == {}
        Store(following.path).close()  # it is free for whoever takes the task
        following.standbys.follow([TASK])  # as the next assignment does
        await following.level()
        assert following.taken() == expected(6)


@pytest.mark.parametrize(
    "error", [KafkaUnavailableError("away"), asyncio.CancelledError(), ZeroDivisionError()]
)
async def test_following_goes_on_whatever_its_reader_raises(
    following: Following, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr("streams.engine.following._REST_S", 0.01)
    failures = itertools.chain([error], itertools.repeat(None))
    fetch = MemoryFollower.fetch

    async def failing(self: MemoryFollower, timeout_s: float) -> object:
        if (failure := next(failures)) is not None:
            raise failure
        return await fetch(self, timeout_s)

    monkeypatch.setattr(MemoryFollower, "fetch", failing)
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        assert following.taken() == expected(5)


async def test_a_task_not_followed_any_more_is_free_at_once(following: Following) -> None:
    following.append(0, 5)
    async with following.running():
        following.standbys.follow([TASK])
        await following.level()
        following.standbys.follow([])
        store = Store(following.path)
        assert dict(store.scan("counts")) == expected(5)
        store.close()
        assert following.standbys.lags() == {}


async def test_lag_is_what_the_changelogs_have_more(following: Following) -> None:
    following.append(0, 5)
    following.kafka.run_lengths = itertools.repeat(1)
    following.is_busy = True
    seen: list[int] = []
    failpoints.arm(
        Step.STANDBY_AFTER_RUN, lambda _: seen.extend(following.standbys.lags().values())
    )
    try:
        async with following.running():
            following.standbys.follow([TASK])
            await following.level()
    finally:
        failpoints.disarm()
    assert seen == [4, 3, 2, 1, 0]


def test_a_disk_has_one_name_for_all_who_share_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, again, two = (disk_name(tmp_path / name) for name in ("one", "one", "two"))
    assert one == again != two
    with pytest.raises(StoreError, match="cannot be written"):
        disk_name(tmp_path / "none")


# -- changelogs that cannot be had ------------------------------------------------------------------

OTHER = TopicPartition(VISITED.changelog("app"), 0)


async def test_a_changelog_without_a_leader_holds_up_no_other_standby(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.engine.following._REST_S", 0.01)
    following = Following(tmp_path, TWO_TASKS)
    following.append(0, 5)
    bounds = MemoryCluster.bounds
    asked = 0

    async def leaderless(
        self: MemoryCluster, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Bounds]:
        nonlocal asked
        if OTHER in partitions:
            asked += 1
            await until_true(lambda: following.standbys.stored().get(TASK, 0) >= 5)
            raise KafkaUnavailableError("nobody leads it")
        return await bounds(self, partitions)

    with caplog.at_level(logging.WARNING):
        async with following.running():
            with monkeypatch.context() as patched:
                patched.setattr(MemoryCluster, "bounds", leaderless)
                following.standbys.follow([TASK, "visits-0"])
                await until_true(lambda: asked > 2)
                following.append(5, 9)
                await until_true(lambda: following.standbys.stored() == {TASK: 9})
            await until_true(lambda: following.standbys.stored() == {TASK: 9, "visits-0": 0})
    assert [record.getMessage() for record in caplog.records] == [
        "visits-0: not followed (nobody leads it); tried again each 0 s"
    ]


async def test_a_changelog_that_was_deleted_holds_up_no_other_standby(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    following = Following(tmp_path, TWO_TASKS)
    following.append(0, 5)
    following.kafka.delete_topic(OTHER.topic)
    async with following.running():
        following.standbys.follow([TASK, "visits-0"])
        await until_true(lambda: following.standbys.stored() == {TASK: 5})
        await until_true(following.standbys.are_open)
        following.append(5, 9)
        await until_true(lambda: following.standbys.stored() == {TASK: 9})
    assert f"visits-0: not followed (no broker knows changelog {OTHER.topic})" in caplog.text
