"""Routed reads without HTTP: two workers that call each other, stores with any rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.clock import SystemClock
from streams.engine.cluster import Owner
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topology, WindowedTable
from streams.engine.layout import subtopologies
from streams.engine.meters import Meters
from streams.engine.store import Position, Store, StoreMemory, discard
from streams.engine.task import State, Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.operators.windows import TumblingWindows
from streams.topics import ORDERS
from tables.queries import Tables
from tables.questions import (
    MAX_LIMIT,
    BadQuestionError,
    Count,
    Get,
    NoSuchRowError,
    NoSuchTableError,
    NotNowError,
    Part,
    Query,
    Scan,
    UnansweredError,
    WorkerView,
)

T = TypeVar("T")
COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
MINUTES = WindowedTable(
    "minutes", msgspec.json.encode, msgspec.json.Decoder(int).decode, TumblingWindows(60_000, 0)
)

TOPOLOGY = Topology(
    (
        Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),
        Flow(lambda _: None, "minutes", reads=(ORDERS,), keeps=MINUTES),
    ),
    dead_letters="dead-letters",
)
TASKS = ("orders-0", "orders-1", "orders-2")
OWNERS = [Owner("one:1", ["orders-0", "orders-2"]), Owner("two:2", ["orders-1"])]

# Few letters, so that prefixes meet; what sorts around an ASCII letter, and the empty key.
keys = st.text("a@é/\U0001f600", max_size=4)


class Engine:
    """A worker's tasks, and what it was told of the others."""

    topology = TOPOLOGY
    partitions = len(TASKS)

    def __init__(self, tasks: Mapping[str, Task], owners: Sequence[Owner]) -> None:
        self.tasks = tasks
        self.owners = owners


class Group:
    """Two workers, `one:1` and `two:2`; what they tell each other goes through JSON."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, Query]] = []
        self.silent: set[str] = set()
        self.tasks = {task_id: self._task(n) for n, task_id in enumerate(TASKS)}
        self.owners = list(OWNERS)
        self.workers = {
            owner.web: Tables(
                "app", Engine({t: self.tasks[t] for t in owner.tasks}, self.owners), owner.web, self
            )
            for owner in OWNERS
        }

    def _task(self, partition: int) -> Task:
        [subtopology] = subtopologies(TOPOLOGY)
        task = Task(
            subtopology,
            partition,
            config=EngineConfig(application_id="app", data_dir=self.folder),
            cluster=MemoryCluster(MemoryKafka(), "app", lambda: 0),
            clock=SystemClock(),
            dead_letters_topic="dead-letters",
            late_records_topic="late-records",
            meters=Meters(),
        )
        memory = StoreMemory(block_cache_bytes=1 << 20, write_buffer_bytes=1 << 20)
        task.store = Store(task.path, memory, tables=subtopology.tables)
        task.state = State.RUNNING
        return task

    def write(self, task_id: str, table: str, rows: Mapping[str, int | None]) -> None:
        """Commit rows, and with them one offset more."""
        task = self.tasks[task_id]
        task.position = Position(3, sources={"orders": task.position.sources.get("orders", 0) + 1})
        encoded = [(k.encode(), None if v is None else b"%d" % v) for k, v in rows.items()]
        assert task.store is not None
        task.store.write({table: encoded}, task.position)

    def clear(self) -> None:
        """Remove all rows."""
        for task in self.tasks.values():
            assert task.store is not None
            for table in (COUNTS, MINUTES):
                rows = [(key.encode(), None) for key, _ in task.store.scan(table.name)]
                task.store.write({table.name: rows}, task.position)

    async def parts(self, worker: str, query: Query) -> Sequence[Part]:
        await asyncio.sleep(0)
        self.asked.append((worker, query))
        if worker in self.silent:
            raise UnansweredError("does not answer")
        told = msgspec.json.encode(await self.workers[worker].own_parts(query))
        return msgspec.json.decode(told, type=list[Part])

    async def view(self, worker: str) -> WorkerView:
        if worker in self.silent:
            raise UnansweredError("does not answer")
        told = msgspec.json.encode(self.workers[worker].own_view())
        return msgspec.json.decode(told, type=WorkerView)

    def close(self) -> None:
        for task in self.tasks.values():
            task.close()
            discard(task.path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """One group for all examples of Hypothesis."""
    group = asyncio.run(_made(tmp_path_factory.mktemp("group")))
    yield group
    group.close()


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = asyncio.run(_made(tmp_path))
    yield group
    group.close()


async def _made(folder: Path) -> Group:
    return Group(folder)


async def all_pages(tables: Tables, query: Scan) -> list[tuple[str, bytes, str]]:
    """Return what all pages hold, from the first to the last."""
    rows = []
    while True:
        page = await tables.scan(query)
        assert [row.key for row in page.rows] == sorted(row.key for row in page.rows)
        rows += [(row.key, bytes(row.value), row.task) for row in page.rows]
        if page.next is None:
            return rows
        assert query.after is None or page.next > query.after
        query = msgspec.structs.replace(query, after=page.next)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.dictionaries(keys, st.integers(0, 9), max_size=8), min_size=3, max_size=3),
    prefix=keys,
    limit=st.integers(1, 6),
    asked=st.sampled_from(["one:1", "two:2"]),
)
def test_pages_of_any_length_joined_are_all_rows_in_key_order_whoever_is_asked(
    shared: Group, rows: list[dict[str, int]], prefix: str, limit: int, asked: str
) -> None:
    shared.clear()
    for task_id, of_task in zip(TASKS, rows, strict=True):
        shared.write(task_id, "counts", of_task)
    tables = shared.workers[asked]
    expected = sorted(
        (key, b"%d" % value, task_id)
        for task_id, of_task in zip(TASKS, rows, strict=True)
        for key, value in of_task.items()
        if key.startswith(prefix)
    )
    found = asyncio.run(all_pages(tables, Scan("counts", prefix=prefix, limit=limit)))
    assert sorted(found) == expected
    assert [key for key, _, _ in found] == [key for key, _, _ in expected]
    counted = asyncio.run(tables.count(Count("counts", prefix=prefix)))
    assert counted.count == len(expected)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.dictionaries(keys, st.integers(0, 9), max_size=5), min_size=3, max_size=3),
    key=keys,
    asked=st.sampled_from(["one:1", "two:2"]),
)
def test_a_get_finds_a_row_wherever_it_is_and_says_who_has_it(
    shared: Group, rows: list[dict[str, int]], key: str, asked: str
) -> None:
    shared.clear()
    for task_id, of_task in zip(TASKS, rows, strict=True):
        shared.write(task_id, "counts", of_task)
    having = {t: of_task[key] for t, of_task in zip(TASKS, rows, strict=True) if key in of_task}
    tables = shared.workers[asked]
    if not having:
        with pytest.raises(NoSuchRowError) as caught:
            asyncio.run(tables.get(Get("counts", key)))
        told: Any = caught.value.details["answered"]
        assert [answered.task for answered in told] == list(TASKS)
        return
    found = asyncio.run(tables.get(Get("counts", key)))
    assert bytes(found.value) == b"%d" % having[found.task]
    assert found.task in next(owner for owner in OWNERS if owner.web == found.worker).tasks
    assert found.sources == shared.tasks[found.task].position.sources


async def test_a_row_of_its_own_is_given_without_asking_anybody(group: Group) -> None:
    group.write("orders-0", "counts", {"ada": 1})
    await group.workers["one:1"].get(Get("counts", "ada"))
    assert group.asked == []
    await group.workers["two:2"].get(Get("counts", "ada"))
    assert group.asked == [("one:1", Get("counts", "ada"))]


async def test_windows_of_a_key_are_found_between_bounds_and_not_those_of_longer_keys(
    group: Group,
) -> None:
    starts = [0, 60_000, 120_000, 180_000]
    group.write("orders-1", "minutes", {f"ada@{start}": 1 for start in starts})
    group.write("orders-1", "minutes", {"ada@x@60000": 2, "ad@60000": 3, "adam@60000": 4})
    tables = group.workers["one:1"]

    async def found(**wanted: Any) -> list[str]:
        return [row.key for row in (await tables.scan(Scan("minutes", **wanted))).rows]

    assert sorted(await found(key="ada")) == sorted(f"ada@{start}" for start in starts)
    assert await found(key="ada", from_ms=60_000, to_ms=120_000) == ["ada@60000"]
    assert await found(key="ada", from_ms=180_000) == ["ada@180000"]
    assert await found(key="ada", to_ms=0) == []
    assert await found(key="ada@x") == ["ada@x@60000"]
    assert len(await found(prefix="ada")) == 6


@pytest.mark.parametrize(
    ("scan", "told"),
    [
        (Scan("counts", limit=0), f"from 1 to {MAX_LIMIT}"),
        (Scan("counts", limit=MAX_LIMIT + 1), f"from 1 to {MAX_LIMIT}"),
        (Scan("counts", key="ada"), "table counts has no windows"),
        (Scan("counts", from_ms=1), "table counts has no windows"),
        (Scan("minutes", to_ms=1), "go with key"),
        (Scan("minutes", key="a", prefix="b"), "key and prefix exclude each other"),
    ],
    ids=repr,
)
async def test_a_scan_that_makes_no_sense_is_refused(group: Group, scan: Scan, told: str) -> None:
    with pytest.raises(BadQuestionError, match=told):
        await group.workers["one:1"].scan(scan)


Asking = Callable[[Tables], Any]
ASKING: Mapping[str, Asking] = {
    "get": lambda tables: tables.get(Get("counts", "nobody")),
    "scan": lambda tables: tables.scan(Scan("counts")),
    "count": lambda tables: tables.count(Count("counts")),
}
asking = pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)


@pytest.mark.parametrize(
    "ask",
    [
        lambda tables: tables.get(Get("nope", "a")),
        lambda tables: tables.scan(Scan("nope")),
        lambda tables: tables.count(Count("nope")),
    ],
    ids=list(ASKING),
)
async def test_an_unknown_table_is_told_with_those_that_there_are(
    group: Group, ask: Asking
) -> None:
    with pytest.raises(NoSuchTableError, match="'nope'; there are counts, minutes"):
        await ask(group.workers["one:1"])


@asking
@pytest.mark.parametrize("asked", ["one:1", "two:2"])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda task: task.close(), "is being handed over"),
        (lambda task: setattr(task, "state", State.TAKING), "is restoring its state"),
    ],
    ids=["handed over", "restoring"],
)
async def test_nothing_is_certain_while_a_task_cannot_be_read(
    group: Group, ask: Asking, asked: str, make: Callable[[Task], None], why: str
) -> None:
    make(group.tasks["orders-1"])
    with pytest.raises(NotNowError) as caught:
        await ask(group.workers[asked])
    told: Any = caught.value.details["why"]
    assert told.keys() == {"orders-1"}
    assert told["orders-1"].startswith(why)
    assert told["orders-1"].endswith("(two:2)")


@asking
async def test_a_worker_that_does_not_answer_is_named(group: Group, ask: Asking) -> None:
    group.silent = {"two:2"}
    with pytest.raises(
        NotNowError, match="orders-1 cannot be read: its owner two:2 does not answer"
    ):
        await ask(group.workers["one:1"])


async def test_a_row_is_given_although_others_cannot_be_read(group: Group) -> None:
    group.write("orders-0", "counts", {"ada": 1})
    group.tasks["orders-2"].close()
    for worker in group.workers.values():
        assert (await worker.get(Get("counts", "ada"))).task == "orders-0"


@asking
@pytest.mark.parametrize(
    ("owners", "why"),
    [
        ([], "orders-1 has no owner that is known yet"),
        ([OWNERS[0], Owner("", ["orders-1"])], "is owned by a worker without a web view"),
        ([OWNERS[0], Owner("one:1", ["orders-1"])], "orders-1 is not there at one:1"),
    ],
    ids=["nobody told", "no web view", "the same address on another machine"],
)
async def test_tasks_that_nobody_can_be_asked_for_are_never_taken_for_empty(
    group: Group, ask: Asking, owners: list[Owner], why: str
) -> None:
    group.owners[:] = owners
    with pytest.raises(NotNowError, match=why):
        await ask(group.workers["one:1"])


async def test_of_two_workers_that_believe_to_own_a_task_the_newer_answer_counts(
    group: Group,
) -> None:
    group.write("orders-1", "counts", {"ada": 1})
    stale = await group.workers["two:2"].own_parts(Scan("counts"))
    group.write("orders-1", "counts", {"ada": 2, "bob": 1})
    fresh = await group.workers["two:2"].own_parts(Scan("counts"))
    one = group.workers["one:1"]
    own = await one.own_parts(Scan("counts"))
    for order in ([*stale, *fresh], [*fresh, *stale]):
        best = one._complete("counts", [*own, *order], {})
        assert [bytes(row.value) for part in best for row in part.rows] == [b"2", b"1"]


@pytest.mark.parametrize(
    "query", [Count("counts"), Scan("minutes", key="nobody")], ids=["count", "windows"]
)
async def test_a_walk_over_many_rows_lets_others_run_in_between(
    group: Group, query: Count | Scan
) -> None:
    rows: dict[str, int | None] = {f"nobody@x@{n:05d}": 1 for n in range(20_000)}
    group.write("orders-0", query.table, rows)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.ensure_future(others())
    one = group.workers["one:1"]
    await (one.count(query) if isinstance(query, Count) else one.scan(query))
    beside.cancel()
    assert turns >= 20_000 / 1_000


async def test_the_overview_tells_of_all_tables_and_workers(group: Group) -> None:
    group.write("orders-1", "counts", {"ada": 1})
    group.owners.append(Owner("", []))
    group.tasks["orders-2"].state = State.TAKING
    told = msgspec.to_builtins(await group.workers["one:1"].overview())
    tasks = list(TASKS)
    assert told["tables"] == [
        {"table": "counts", "kind": "plain", "tasks": tasks},
        {"table": "minutes", "kind": "windowed", "tasks": tasks, "size_ms": 60_000},
    ]
    assert told["workers"] == [
        {
            "worker": "one:1",
            "tasks": [
                {"task": "orders-0", "state": "running", "sources": {}},
                {"task": "orders-2", "state": "restoring", "sources": {}},
            ],
        },
        {
            "worker": "two:2",
            "tasks": [{"task": "orders-1", "state": "running", "sources": {"orders": 1}}],
        },
        {"worker": "", "tasks": [], "why": "has no web view"},
    ]


async def test_the_overview_tells_whose_tasks_are_not_known(group: Group) -> None:
    group.silent = {"two:2"}
    told = msgspec.to_builtins(await group.workers["one:1"].overview())
    assert told["workers"][1] == {
        "worker": "two:2",
        "tasks": [{"task": "orders-1", "state": "unknown", "sources": {}}],
        "why": "does not answer",
    }
