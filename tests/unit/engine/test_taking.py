"""Taking a task: a damaged store is rebuilt once, and what is damaged again is for people."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from streams.engine import changelogs, failpoints, inputs
from streams.engine.clock import SystemClock
from streams.engine.cluster import Bounds, Committed, TopicState
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Table, Topology
from streams.engine.errors import StateMismatchError, StoreCorruptError, StoreError
from streams.engine.failpoints import InjectedFailureError, Step
from streams.engine.layout import own_topics, subtopologies
from streams.engine.meters import Meters
from streams.engine.notes import Note, Stand, short_id
from streams.engine.records import Record, TopicPartition
from streams.engine.store import Position, Store, StoreMemory, discard
from streams.engine.taking import take
from streams.engine.task import Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.topics import ORDERS

COUNTS: Table[int] = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)
TOPOLOGY = Topology(
    (Flow(lambda _: None, "counts", reads=(ORDERS,), keeps=COUNTS),), dead_letters="dead-letters"
)


class SetClock:
    """A clock whose days pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1_763_715_600.0

    def wall_ms(self) -> int:
        """Return milliseconds since 1970 UTC."""
        return round(self.now_s * 1_000)

    def monotonic_s(self) -> float:
        """Return seconds that never go back, from some start."""
        return self.now_s


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
        late_records_topic="late-records",
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


# -- what does not belong together -------------------------------------------------------------------


def kafka_of(task: Task) -> MemoryKafka:
    kafka: MemoryKafka = task.cluster.kafka  # type: ignore[attr-defined] # the one in memory
    return kafka


async def ids_of(task: Task) -> dict[str, str]:
    changelog = task.changelog(COUNTS).topic
    return {"counts": (await task.cluster.topics([changelog]))[changelog].topic_id}


def write_store(task: Task, position: Position) -> None:
    """Leave a store with a row that is in no changelog."""
    store = Store(task.path, tables=task.subtopology.tables)
    store.write({"counts": [(b"strange", b"1")]}, position)
    store.close()


def commit_noted(task: Task, offset: int, note: Note) -> None:
    """Commit an offset of the input, which gets so many records."""
    kafka = kafka_of(task)
    for _ in range(offset):
        kafka.append(task.inputs[0], Record(b"key", b"{}"), 0)
    metadata = msgspec.json.encode(note).decode()
    kafka.offsets["app", task.inputs[0]] = Committed(offset, metadata)


def rows(task: Task) -> dict[str, bytes]:
    assert task.store is not None
    return dict(task.store.scan("counts"))


@pytest.mark.parametrize("other", ["another task's", "another cluster's", "too old"])
async def test_a_store_that_does_not_belong_here_is_rebuilt(
    tmp_path: Path, other: str, caplog: pytest.LogCaptureFixture
) -> None:
    task = await new_task(tmp_path)
    kafka_of(task).append(task.changelog(COUNTS), Record(b"key", b"2"), 0)
    kafka_of(task).append(task.changelog(COUNTS), Record(b"key", b"3"), 0)
    ids = await ids_of(task)
    now_ms = task.clock.wall_ms()
    plausible = Position(1, {"counts": 1}, {"orders": 3}, 1, now_ms, task=task.id, topics=ids)
    changed: dict[str, dict[str, Any]] = {
        "another task's": {"task": "orders-7"},
        "another cluster's": {"topics": {"counts": "another-id"}},
        "too old": {"written_at_ms": now_ms - 2 * 86_400_000},
    }
    write_store(task, msgspec.structs.replace(plausible, **changed[other]))
    commit_noted(task, 3, Note(commit=2))
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"key": b"3"}
    assert "it is rebuilt" in caplog.text
    assert (task.position.task, task.position.topics) == (task.id, ids)
    task.close()


@pytest.mark.parametrize("tells", [True, False], ids=["of this release", "of an earlier one"])
async def test_a_store_that_belongs_here_is_caught_up(tmp_path: Path, *, tells: bool) -> None:
    task = await new_task(tmp_path)
    for value in (b"2", b"3"):
        kafka_of(task).append(task.changelog(COUNTS), Record(b"key", value), 0)
    told = {"task": task.id, "topics": await ids_of(task)} if tells else {}
    now_ms = task.clock.wall_ms()
    write_store(task, Position(1, {"counts": 1}, {"orders": 3}, 1, now_ms, **told))  # type: ignore[arg-type]
    commit_noted(task, 3, Note(commit=2))
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"strange": b"1", "key": b"3"}
    assert task.restored_records == 1
    task.close()


async def test_a_store_of_before_the_brokers_told_topic_ids_is_gone_on_with(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    for value in (b"2", b"3"):
        kafka_of(task).append(task.changelog(COUNTS), Record(b"key", value), 0)
    position = Position(1, {"counts": 1}, {"orders": 3}, 1, task.clock.wall_ms())
    write_store(task, msgspec.structs.replace(position, task=task.id, topics={"counts": ""}))
    commit_noted(task, 3, Note(commit=2))
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"strange": b"1", "key": b"3"}
    assert task.position.topics == await ids_of(task)
    task.close()


@pytest.mark.parametrize("of", ["an input", "a changelog"])
async def test_an_old_end_that_a_broker_tells_once_is_not_held_against_the_offsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    """As one does that was frozen, for as long as it has not heard that another leads."""
    monkeypatch.setattr("streams.engine.taking._OLD_ENDS_S", 0.0)
    task = await new_task(tmp_path)
    changelog = task.changelog(COUNTS)
    kafka_of(task).append(changelog, Record(b"key", b"2"), 0)
    commit_noted(task, 3, Note(commit=2, changelogs={"counts": Stand(1)}))
    bounds = MemoryCluster.bounds

    async def old(
        self: MemoryCluster, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Bounds]:
        monkeypatch.setattr(MemoryCluster, "bounds", bounds)
        tp = task.inputs[0] if of == "an input" else changelog
        return await bounds(self, partitions) | {tp: Bounds(0, 0)}

    monkeypatch.setattr(MemoryCluster, "bounds", old)
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"key": b"2"}
    task.close()


@pytest.mark.parametrize("names", ["inputs", "changelogs"])
async def test_brokers_that_tell_no_topic_ids_any_more_are_no_other_cluster(
    tmp_path: Path, names: str
) -> None:
    task = await new_task(tmp_path)
    await take(task, StoreMemory(), partitions=1)
    seen = changelogs.watched([task])
    assert list(seen) == [task.changelog(COUNTS).topic]
    untold = {name: TopicState(1, "") for name in [ORDERS.name, *seen]}
    other = {name: TopicState(1, "another") for name in [ORDERS.name, *seen]}
    if names == "inputs":
        assert inputs._difference([ORDERS.name], untold, [task], 1) is None
        assert "made anew" in str(inputs._difference([ORDERS.name], other, [task], 1))
    else:
        assert changelogs.difference(seen, untold) is None
        assert "made anew" in str(changelogs.difference(seen, other))
    task.close()


async def test_a_store_of_the_last_commit_is_used_however_old_it_is(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    write_store(task, Position(1, {"counts": 0}, {"orders": 3}, 2, written_at_ms=0))
    commit_noted(task, 3, Note(commit=2))
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"strange": b"1"}
    task.close()


@pytest.mark.parametrize("is_shorter", [True, False], ids=["shorter", "another topic"])
async def test_a_changelog_that_is_not_what_was_committed_to_stops_the_worker(
    tmp_path: Path, *, is_shorter: bool
) -> None:
    task = await new_task(tmp_path)
    kafka_of(task).append(task.changelog(COUNTS), Record(b"key", b"2"), 0)
    [topic_id] = (await ids_of(task)).values()
    stood = Stand(2, short_id(topic_id)) if is_shorter else Stand(1, "01234567")
    commit_noted(task, 3, Note(commit=2, changelogs={"counts": stood}))
    told = (
        "ends at offset 1, .* up to 2 of it"
        if is_shorter
        else "is not the one that group app wrote to"
    )
    with pytest.raises(StateMismatchError, match=rf"app-counts-changelog.* {told}"):
        await take(task, StoreMemory(), partitions=1)
    assert not task.path.exists()
    task.close()


async def test_a_changelog_that_was_trimmed_is_good_for_a_store_that_has_it_all_alone(
    tmp_path: Path,
) -> None:
    task = await new_task(tmp_path)
    for value in (b"1", b"2", b"3"):
        kafka_of(task).append(task.changelog(COUNTS), Record(b"key", value), 0)
    kafka_of(task).begins[task.changelog(COUNTS)] = 2
    commit_noted(task, 3, Note(commit=2))
    with pytest.raises(StateMismatchError, match="begins at offset 2, and local state ends at 0"):
        await take(task, StoreMemory(), partitions=1)
    task.close()
    now_ms = task.clock.wall_ms()
    write_store(task, Position(1, {"counts": 2}, {"orders": 2}, 1, written_at_ms=now_ms))
    await take(task, StoreMemory(), partitions=1)
    assert rows(task) == {"strange": b"1", "key": b"3"}
    task.close()


async def test_a_restore_that_outlives_the_changelogs_tombstones_is_done_again_and_then_refused(
    tmp_path: Path,
) -> None:
    task = await new_task(tmp_path)
    kafka_of(task).append(task.changelog(COUNTS), Record(b"key", b"1"), 0)
    kafka_of(task).tombstones_kept_ms[task.changelog(COUNTS).topic] = 60_000
    commit_noted(task, 3, Note(commit=2))
    slow = iter([True, False, True, True])
    clock = task.clock = SetClock()

    def take_long(_step: Step) -> None:
        clock.now_s += 61 if next(slow) else 0

    failpoints.arm(Step.RESTORE_AFTER_RUN, take_long)
    try:
        await take(task, StoreMemory(), partitions=1)
        assert rows(task) == {"key": b"1"}
        task.close()
        discard(task.path)
        with pytest.raises(StateMismatchError, match=r"raise delete\.retention\.ms of app-counts"):
            await take(task, StoreMemory(), partitions=1)
    finally:
        failpoints.disarm()
    task.close()


async def test_offsets_of_a_newer_release_are_left_to_it(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    kafka_of(task).append(task.inputs[0], Record(b"key", b"{}"), 0)
    newer = '{"format":99,"commit":"a word"}'
    kafka_of(task).offsets["app", task.inputs[0]] = Committed(1, newer)
    with pytest.raises(StateMismatchError, match="committed by a newer release"):
        await take(task, StoreMemory(), partitions=1)
    assert not task.path.exists()
    task.close()


async def test_a_note_of_a_later_release_of_the_same_format_is_read(tmp_path: Path) -> None:
    task = await new_task(tmp_path)
    write_store(task, Position(1, {"counts": 0}, {"orders": 1}, 7))
    kafka_of(task).append(task.inputs[0], Record(b"key", b"{}"), 0)
    later = '{"commit":7,"format":1,"what_we_do_not_know":[1]}'
    kafka_of(task).offsets["app", task.inputs[0]] = Committed(1, later)
    await take(task, StoreMemory(), partitions=1)
    assert task.position.commit == 7
    task.close()


# -- damage ------------------------------------------------------------------------------------------


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
