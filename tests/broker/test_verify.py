"""`headrace verify`: that it finds what differs, and nothing where nothing does."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
)
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from commands.main import run
from config.settings import Settings, load_settings
from streams.app import Worker
from streams.broker import EmbeddedKafka
from streams.engine import expiry, failpoints
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.api import Batch
from streams.engine.cluster import Committed
from streams.engine.definitions import Flow, Table, Topic, Topology, WindowedTable
from streams.engine.failpoints import Step
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.layout import own_topics
from streams.engine.records import Record, TopicPartition
from streams.engine.store import Position, Store
from streams.engine.task import State
from streams.engine.verify import TaskReport, verify
from streams.events import OrderCreated
from streams.operators.windows import TumblingWindows, WindowedRows
from streams.prepare import prepare_topics
from streams.topics import ORDERS
from streams.topology import TOPOLOGY
from tests.waiting import until, until_true

PARTITIONS = 2
USERS = 5
COUNTS: Table[int] = Table("counts", lambda row: b"%d" % row, int)
MINUTE_MS = 60_000
MINUTES: WindowedTable[int] = WindowedTable(
    "minutes", COUNTS.encode, COUNTS.decode, TumblingWindows(MINUTE_MS, 2 * MINUTE_MS)
)


def count(orders: Iterable[OrderCreated], counts: Any) -> Iterable[Any]:
    for order in orders:
        user = order.data.user_id
        counts[user] = counts.get(user, 0) + 1
    return ()


def count_minutes(orders: Iterable[OrderCreated], minutes: WindowedRows[int]) -> None:
    for order, start_ms in minutes.on_time(orders):
        key = (order.data.user_id, start_ms)
        minutes[key] = (minutes.get(key) or 0) + 1


class Application:
    """A worker that counts orders by user, with topics of its own, on the real Kafka."""

    def __init__(
        self, client: dict[str, Any], name: str, data_dir: Path, *, minutes: bool = False
    ) -> None:
        """With `minutes` they are counted by minute, too; each order is placed a second after the last."""
        topic = self.topic = Topic(f"{name}-orders", ORDERS.events, ORDERS.key)

        def register(app: Any) -> None:
            @app.agent(topic)  # type: ignore[untyped-decorator]
            async def counter(batches: AsyncIterable[Batch]) -> None:
                async for batch in batches:
                    batch.run(count, batch.of(OrderCreated), COUNTS)

        def register_minutes(app: Any) -> None:
            @app.agent(topic)  # type: ignore[untyped-decorator]
            async def minuter(batches: AsyncIterable[Batch]) -> None:
                async for batch in batches:
                    batch.run(count_minutes, batch.of(OrderCreated), MINUTES)

        flows = [Flow(register, "counter", reads=(topic,), keeps=COUNTS)]
        if minutes:
            flows.append(Flow(register_minutes, "minuter", reads=(topic,), keeps=MINUTES))
        self.topology = Topology(tuple(flows), dead_letters=f"{name}-dead-letters")
        self.settings: Settings = load_settings(
            app_id=name, data_dir=data_dir, commit_interval_ms=20
        )
        self.client = client
        self.options = KafkaOptions(
            client=client, group=name, session_timeout_ms=1_000, heartbeat_interval_ms=200
        )
        self.cluster = KafkaCluster(self.options)
        self.sent = 0
        self.workers: list[Worker] = []

    async def make_topics(self) -> None:
        topics = [self.topic.name, *own_topics(self.topology, self.settings.app_id)]
        specs = [TopicSpec(name, PARTITIONS, {}) for name in topics]
        await ensure_topics(self.client, specs, replication_factor=1)

    async def start(self) -> Worker:
        await self.make_topics()
        cluster = KafkaCluster(self.options)
        worker = Worker(self.topology, self.settings, cluster, partitions=PARTITIONS)
        self.workers.append(worker)
        await worker.app.start()
        return worker

    async def produce(self, orders: int) -> None:
        """Send orders of all users to each partition."""
        async with AIOKafkaProducer(**self.client) as producer:
            for n in range(self.sent, self.sent + orders):
                for partition in range(PARTITIONS):
                    user = f"user-{n % USERS}"
                    value = json.dumps(order(n, user)).encode()
                    await producer.send(self.topic.name, value, user.encode(), partition)
        self.sent += orders

    async def produce_nothing(self) -> None:
        """Send a record that is skipped, and so changes no row, to each partition."""
        async with AIOKafkaProducer(**self.client) as producer:
            for partition in range(PARTITIONS):
                await producer.send(self.topic.name, None, b"user-0", partition)
        self.sent += 1

    async def processed(self) -> None:
        """Return when all orders are committed."""
        tps = [TopicPartition(self.topic.name, partition) for partition in range(PARTITIONS)]

        async def all_committed() -> bool:
            found = await self.cluster.committed(tps)
            return [found[tp].offset for tp in tps if tp in found] == [self.sent] * PARTITIONS

        await until(all_committed)

    async def ran(self, orders: int) -> None:
        """Run a worker until it has processed so many more orders."""
        await self.start()
        await self.produce(orders)
        await self.processed()
        await self.stop()

    async def stop(self) -> None:
        while self.workers:
            await self.workers.pop().app.stop()

    async def verified(self, limit: int = 10) -> list[TaskReport]:
        found = verify(
            self.topology,
            self.cluster,
            application_id=self.settings.app_id,
            data_dir=self.settings.data_dir,
            partitions=PARTITIONS,
            limit=limit,
        )
        return [report async for report in found]

    def folder(self, partition: int) -> Path:
        return self.settings.data_dir / self.settings.app_id / f"{self.topic.name}-{partition}"

    def tamper(self, rows: Mapping[bytes, bytes | None]) -> None:
        """Write rows into the store of partition 0, at the position where it stands."""
        store = Store(self.folder(0))
        position = store.position()
        assert position is not None
        store.write({COUNTS.name: rows.items()}, position)
        store.close()

    async def move_offset(self, offset: int, metadata: str = "") -> None:
        producer = self.cluster.producer(f"{self.settings.app_id}-mover")
        await producer.start()
        await producer.begin()
        tp = TopicPartition(self.topic.name, 0)
        await producer.send_offsets({tp: Committed(offset, metadata)})
        await producer.commit()
        await producer.close()

        async def is_moved() -> bool:
            return (await self.cluster.committed([tp]))[tp].offset == offset

        await until(is_moved)


def order(number: int, user: str) -> dict[str, Any]:
    return {
        "event_id": f"e-{number}",
        "event_type": "order.created",
        "aggregate_id": f"o-{number}",
        "timestamp": 1_763_715_600_000 + 1_000 * number,
        "data": {"order_id": f"o-{number}", "user_id": user, "amount": 5},
    }


@pytest.fixture
async def application(client_options: dict[str, Any], tmp_path: Path) -> AsyncIterator[Application]:
    made = Application(client_options, f"app-{uuid.uuid4().hex[:8]}", tmp_path)
    await made.cluster.start()
    yield made
    await made.stop()
    await made.cluster.stop()


@pytest.fixture
async def minutes(client_options: dict[str, Any], tmp_path: Path) -> AsyncIterator[Application]:
    """Return an application that keeps a windowed table, too."""
    name = f"app-{uuid.uuid4().hex[:8]}"
    made = Application(client_options, name, tmp_path, minutes=True)
    await made.cluster.start()
    yield made
    await made.stop()
    await made.cluster.stop()


async def test_what_a_worker_leaves_is_equal(application: Application) -> None:
    await application.ran(orders=23)
    reports = await application.verified()
    assert [report.is_equal for report in reports] == [True] * PARTITIONS
    for partition, report in enumerate(reports):
        assert report.task == f"{application.topic.name}-{partition}"
        assert report.stored
        assert report.offsets == {application.topic.name: 23}
        [table] = report.tables
        assert (table.table, table.equal, table.newer, table.differing) == ("counts", USERS, 0, 0)


async def test_it_stays_equal_while_a_worker_holds_the_store_and_works(
    application: Application,
) -> None:
    await application.start()
    await application.produce(10)
    await application.processed()

    async def work() -> None:
        for _ in range(20):
            await application.produce(5)

    working = asyncio.create_task(work())
    for _ in range(3):
        reports = await application.verified()
        assert all(report.is_equal for report in reports), reports
    await working
    await application.processed()
    reports = await application.verified()
    assert all(report.is_equal for report in reports)
    assert [report.tables[0].equal for report in reports] == [USERS, USERS]


async def test_changed_missing_and_foreign_rows_are_each_told(application: Application) -> None:
    await application.ran(orders=10)
    application.tamper({b"user-0": b"99", b"user-1": None, b"stranger": b"7"})
    changed, untouched = await application.verified()
    assert not changed.is_equal
    assert untouched.is_equal
    [table] = changed.tables
    assert (table.equal, table.differing) == (USERS - 2, 3)
    assert sorted(table.differences) == [
        "stranger: on disk 7, not in the changelog",
        "user-0: on disk 99, in the changelog 2",
        "user-1: not on disk, in the changelog 2",
    ]
    [limited] = (await application.verified(limit=1))[0].tables
    assert (limited.differing, len(limited.differences)) == (3, 1)


@pytest.mark.parametrize(
    ("offset", "told"),
    [
        (9, "the store is ahead of the committed offset: 10, 9"),
        (12, "has all of its changelogs, but its offset 10 is not the committed one, 12"),
        (99, "the committed offset 99 lies outside of what the topic holds, 0 to 12"),
    ],
)
async def test_moved_offsets_are_told(application: Application, offset: int, told: str) -> None:
    await application.ran(orders=10)
    await application.produce(2)
    await application.move_offset(offset)
    moved, untouched = await application.verified()
    assert untouched.is_equal
    assert not moved.is_equal
    assert any(told in line for line in moved.differences), moved.differences


async def test_what_a_store_has_not_seen_yet_is_newer_and_no_difference(
    application: Application, tmp_path: Path
) -> None:
    await application.ran(orders=USERS)
    folder = application.folder(0)
    shutil.copytree(folder, tmp_path / "old")
    await application.ran(orders=3)
    shutil.rmtree(folder)
    shutil.move(tmp_path / "old", folder)
    old, current = await application.verified()
    assert old.is_equal
    assert current.is_equal
    assert (old.tables[0].equal, old.tables[0].newer) == (USERS - 3, 3)
    assert (current.tables[0].equal, current.tables[0].newer) == (USERS, 0)


def die(_step: Step) -> None:
    msg = "killed"
    raise RuntimeError(msg)


@pytest.fixture
def crash() -> Iterator[Callable[[], None]]:
    """Let the next commit of a worker be its last act: it is not written to disk any more."""
    yield lambda: failpoints.arm(Step.COMMIT_BEFORE_DISK, failpoints.on_visit(1, die))
    failpoints.disarm()


async def has_died(worker: Worker) -> None:
    await until_true(lambda: worker.engine is not None)
    assert worker.engine is not None
    with pytest.raises(RuntimeError, match="killed"):
        await worker.engine.failed


def has_taken_all(worker: Worker) -> bool:
    tasks = [] if worker.engine is None else list(worker.engine.tasks.values())
    return len(tasks) == PARTITIONS and all(task.state is State.RUNNING for task in tasks)


async def committed(application: Application) -> list[int]:
    """Return the committed offset of each partition."""
    tps = [TopicPartition(application.topic.name, partition) for partition in range(PARTITIONS)]
    found = await application.cluster.committed(tps)
    return [found[tp].offset for tp in tps]


async def test_a_store_that_a_crash_left_behind_is_no_difference_though_no_row_was_changed(
    application: Application, crash: Callable[[], None]
) -> None:
    await application.ran(orders=10)
    worker = await application.start()
    crash()
    await application.produce_nothing()

    async def is_committed() -> bool:
        return 11 in await committed(application)

    await until(is_committed)
    await has_died(worker)
    await application.stop()
    reports = await application.verified()
    assert [report.differences for report in reports] == [[], []]
    assert [report.tables[0].equal for report in reports] == [USERS, USERS]
    await application.ran(orders=1)
    assert all(report.is_equal for report in await application.verified())


async def test_an_offset_that_somebody_moved_with_our_note_beside_it_is_told(
    application: Application,
) -> None:
    await application.ran(orders=10)
    await application.produce(2)
    tp = TopicPartition(application.topic.name, 0)
    note = (await application.cluster.committed([tp]))[tp].metadata
    assert note
    await application.move_offset(12, note)
    moved, untouched = await application.verified()
    assert untouched.is_equal
    assert any("its offset 10 is not the committed one" in line for line in moved.differences)


async def test_rows_of_gone_windows_are_neither_on_disk_nor_in_the_changelog(
    minutes: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "EXPIRED_AT_ONCE", 2)
    await minutes.start()
    for _ in range(3):
        await minutes.produce(100)
        reports = await minutes.verified()
        assert all(report.is_equal for report in reports), reports
    await minutes.processed()

    async def is_swept() -> bool:
        # Of 300 s with a row a user and minute: those that ended within the last two minutes, or will.
        return [r.tables[1].equal for r in await minutes.verified()] == [3 * USERS] * PARTITIONS

    await until(is_swept)
    await minutes.stop()
    reports = await minutes.verified()
    assert all(report.is_equal for report in reports), reports
    assert [[t.equal for t in r.tables] for r in reports] == [[USERS, 3 * USERS]] * PARTITIONS


async def test_a_crash_while_rows_are_removed_leaves_what_is_newer_and_no_difference(
    minutes: Application, crash: Callable[[], None]
) -> None:
    await minutes.ran(orders=100)
    worker = await minutes.start()
    crash()
    await minutes.produce(300)
    await has_died(worker)
    await minutes.stop()
    reports = await minutes.verified()
    assert all(report.is_equal for report in reports), reports
    assert any(report.tables[1].newer for report in reports)
    worker = await minutes.start()
    await until_true(lambda: has_taken_all(worker))
    await minutes.processed()
    await minutes.stop()
    reports = await minutes.verified()
    assert all(report.is_equal for report in reports), reports
    assert [[t.newer for t in r.tables] for r in reports] == [[0, 0]] * PARTITIONS


async def test_a_store_beyond_its_changelog_is_told(application: Application) -> None:
    await application.ran(orders=3)
    store = Store(application.folder(0))
    store.write({}, Position(PARTITIONS, {"counts": 1_000}, {application.topic.name: 3}))
    store.close()
    [report, _] = await application.verified()
    assert "counts: the store stands at offset 1000 of its changelog" in report.differences[0]


async def test_a_damaged_store_is_told_and_the_other_tasks_are_compared(
    application: Application,
) -> None:
    await application.ran(orders=3)
    (application.folder(0) / "CURRENT").write_text("nonsense\n")
    damaged, other = await application.verified()
    assert not damaged.is_equal
    assert str(application.folder(0)) in damaged.differences[0]
    assert other.is_equal


async def test_without_state_on_this_machine_changelog_and_offsets_are_compared_alone(
    application: Application,
) -> None:
    await application.ran(orders=10)
    shutil.rmtree(application.folder(0))
    gone, stored = await application.verified()
    assert (gone.is_equal, gone.stored, stored.stored) == (True, False, True)
    assert gone.tables[0].equal == USERS
    assert not application.folder(0).exists()


async def test_rows_of_a_group_without_offsets_are_told(
    application: Application,
) -> None:
    await application.make_topics()
    producer = application.cluster.producer(None)
    await producer.start()
    changelog = COUNTS.changelog(application.settings.app_id)
    await producer.send(0, {changelog: [Record(b"user-1", b"1")]})
    await producer.close()
    [report, _] = await application.verified()
    assert "the changelog has 1 rows, but the group" in report.differences[0]


class Interrupted(KafkaCluster):
    """Something happens between the first two answers."""

    def __init__(self, options: KafkaOptions, happens: Callable[[], Awaitable[None]]) -> None:
        super().__init__(options)
        self._happens = happens
        self._has_happened = False

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        found = await super().committed(partitions)
        if not self._has_happened:
            self._has_happened = True
            await self._happens()
        return found


async def test_a_worker_elsewhere_that_begins_meanwhile_is_no_difference(
    application: Application, tmp_path: Path
) -> None:
    await application.make_topics()

    async def begin() -> None:
        await application.ran(orders=USERS)

    cluster = Interrupted(application.options, begin)
    await cluster.start()
    reports = [
        report
        async for report in verify(
            application.topology,
            cluster,
            application_id=application.settings.app_id,
            data_dir=tmp_path / "here",
            partitions=PARTITIONS,
            limit=10,
        )
    ]
    await cluster.stop()
    assert all(report.is_equal for report in reports), reports
    assert [(r.stored, r.tables[0].equal) for r in reports] == [(False, USERS)] * PARTITIONS


# -- the command -----------------------------------------------------------------------------------

TABLES = [table.name for table in TOPOLOGY.tables]


@pytest.fixture
def environment(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path]:
    """Let the command find the real Kafka and an application of its own; return name and folder."""
    name = f"app-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KAFKA_BROKERS", kafka.bootstrap)
    monkeypatch.setenv("HEADRACE_APP_ID", name)
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path))
    return name, tmp_path


def prepared(name: str) -> int:
    settings = load_settings()
    client = {"bootstrap_servers": list(settings.kafka_brokers)}
    made = prepare_topics(
        TOPOLOGY, client, application_id=name, default_partitions=2, replication_factor=1,
        create=True,
    )  # fmt: skip
    return asyncio.run(made)


def test_the_command_prints_a_line_a_task_and_ends_with_0_where_all_is_equal(
    environment: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    partitions = prepared(environment[0])
    assert run(["verify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"orders-{partition}  {table}  0 rows in the changelog, no state in this folder; "
        "no offsets committed"
        for partition in range(partitions)
        for table in TABLES
    ]


def test_the_command_ends_with_1_and_prints_each_difference(
    environment: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    name, folder = environment
    partitions = prepared(name)
    store = Store(folder / name / "orders-0")
    rows: list[tuple[bytes, bytes | None]] = [(b"user-%d" % n, b"{}") for n in range(5)]
    store.write({"user_orders": rows}, Position(partitions))
    store.close()

    assert run(["verify", "--limit", "2"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[:6] == [
        "orders-0  users  0 rows equal; no offsets committed",
        "orders-0  user_orders  0 rows equal, 5 DIFFER; no offsets committed",
        "    user-0: on disk {}, not in the changelog",
        "    user-1: on disk {}, not in the changelog",
        "    and 3 more",
        "orders-0  user_order_minutes  0 rows equal; no offsets committed",
    ]

    assert run(["verify", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["equal"] is False
    assert [task["stored"] for task in told["tasks"]] == [True] + [False] * (partitions - 1)
    tables = told["tasks"][0]["tables"]
    assert {t["table"]: t["differing"] for t in tables} == dict.fromkeys(TABLES, 0) | {
        "user_orders": 5
    }


def test_topics_that_are_missing_are_one_line(
    environment: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("headrace: missing topics: ")
    assert line.endswith(f"no worker has run here with HEADRACE_APP_ID={environment[0]}")


def test_without_kafka_brokers_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BROKERS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert run(["verify"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("headrace: KAFKA_BROKERS is not set: verify needs a running Kafka")


def test_its_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--help"]) == 0
    assert "headrace verify --json" in capsys.readouterr().out
