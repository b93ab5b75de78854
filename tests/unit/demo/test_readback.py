"""The demo's check finds what is wrong: each test spoils one thing of a right outcome."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from demo.generator import OrderGenerator, partition_of
from demo.oracle import Outcome, Source, expect, parse
from demo.readback import CHECKED, INPUTS, OUTPUTS, Disk, check, read_disk
from streams.engine.store import Position, Store
from tests.unit.demo.read_back import NOW_MS, Record, Topics, as_json, letter

PARTITIONS = 2
CHANGELOG = "demo-user_orders-changelog"


def inputs() -> Topics:
    topics: Topics = {TopicPartition(t, n): [] for t in INPUTS for n in range(PARTITIONS)}
    generator = OrderGenerator(seed=1, users=20, poison_share=0.1)
    for topic, key, value in islice(generator.records(NOW_MS), 1_000):
        rows = topics[TopicPartition(topic, partition_of(key, PARTITIONS))]
        rows.append(Record(len(rows), NOW_MS, key, value))
    return topics


def outcome_of(topics: Topics) -> Outcome:
    sources: dict[str, dict[int, list[Source]]] = {topic: {} for topic in INPUTS}
    for tp, rows in topics.items():
        if tp.topic in INPUTS:
            sources[tp.topic][tp.partition] = [Source(*row[:4]) for row in rows]
    return expect(sources)


@pytest.fixture
def topics() -> Topics:
    """Return all topics as they are after a right run."""
    topics = inputs()
    outcome = outcome_of(topics)
    for topic in OUTPUTS:
        for partition, events in outcome.derived[topic].items():
            topics[TopicPartition(topic, partition)] = [
                Record(0, NOW_MS, one.key, as_json(one.event)) for one in events
            ]
    for found in outcome.dead_letters:
        source = topics[TopicPartition(found.topic, found.partition)][found.offset]
        letters = topics.setdefault(TopicPartition("dead-letters", found.partition), [])
        letters.append(letter(found, source))
    for table in CHECKED:
        for key, row in outcome.tables[table].items():
            changelog = TopicPartition(f"demo-{table}-changelog", 0)
            rows = topics.setdefault(changelog, [])
            rows.append(Record(0, NOW_MS, key.encode(), as_json({**row, "orders": 0})))
            rows.append(Record(1, NOW_MS, key.encode(), as_json(row)))
    return topics


@pytest.fixture
def disk(topics: Topics) -> Disk:
    """Return the stores as they are after a right run."""
    outcome = outcome_of(topics)
    tables = {
        table: {key: parse(as_json(row)) for key, row in outcome.tables[table].items()}
        for table in CHECKED
    }
    ends = {(tp.topic, tp.partition): len(rows) for tp, rows in topics.items()}
    return Disk(tables, {at: end for at, end in ends.items() if at[0] in INPUTS})


def differences(topics: Topics, disk: Disk) -> list[str]:
    return check(topics, disk, "demo").differences


def test_a_right_outcome_has_no_differences(topics: Topics, disk: Disk) -> None:
    outcome = check(topics, disk, "demo").actual
    assert all(outcome.derived.values())
    assert all(outcome.tables.values())
    assert len(outcome.dead_letters) > 10
    assert differences(topics, disk) == []


@pytest.mark.parametrize("topic", ["high-value-orders", "vip-upgrades", "dead-letters"])
@pytest.mark.parametrize(
    "spoil", [list[Record].pop, lambda rows: rows.append(rows[-1])], ids=["missing", "twice"]
)
def test_an_output_that_is_missing_or_there_twice_is_found(
    topics: Topics, disk: Disk, topic: str, spoil: Callable[[list[Record]], object]
) -> None:
    spoil(topics[TopicPartition(topic, 0)])
    found = differences(topics, disk)
    assert found
    assert all(line.startswith(topic) for line in found)


def test_two_events_that_changed_places_are_found(topics: Topics, disk: Disk) -> None:
    rows = topics[TopicPartition("high-value-orders", 0)]
    rows[0], rows[1] = rows[1], rows[0]
    assert len(differences(topics, disk)) == 2


def test_a_dead_letter_whose_bytes_changed_is_found(topics: Topics, disk: Disk) -> None:
    rows = topics[TopicPartition("dead-letters", 0)]
    rows[0] = rows[0]._replace(value=b"something else")
    assert [line.split(":")[0] for line in differences(topics, disk)] == ["dead-letters"]


def test_a_row_that_is_behind_in_the_changelog_is_found(topics: Topics, disk: Disk) -> None:
    topics[TopicPartition(CHANGELOG, 0)].pop()
    found = differences(topics, disk)
    assert len(found) == 1
    assert found[0].startswith("user_orders[user-")


def test_a_row_that_is_gone_from_the_changelog_is_found(topics: Topics, disk: Disk) -> None:
    rows = topics[TopicPartition(CHANGELOG, 0)]
    rows.append(rows[-1]._replace(value=None))
    assert differences(topics, disk)[0].endswith("got nothing")


def test_a_row_that_differs_on_disk_is_found(topics: Topics, disk: Disk) -> None:
    rows = disk.tables["user_orders"]
    rows[next(iter(rows))]["orders"] += 1
    assert [line.split("[")[0] for line in differences(topics, disk)] == ["on disk: user_orders"]


def test_a_store_that_is_behind_is_found(topics: Topics, disk: Disk) -> None:
    disk.next_offsets["orders", 1] -= 1
    assert [line.split(" stands")[0] for line in differences(topics, disk)] == ["on disk: orders-1"]


def test_of_a_task_that_two_workers_had_the_furthest_store_counts(tmp_path: Path) -> None:
    for worker, offset in ((1, 7), (2, 9), (3, 8)):
        store = Store(tmp_path / str(worker) / "orders-0")
        row = b'{"orders":%d}' % offset
        position = Position(1, sources={"orders": offset})
        store.write({"user_orders": [(b"user-1", row)]}, position)
        store.close()
    folders = [tmp_path / str(worker) for worker in range(1, 5)]
    disk = read_disk(folders, 1)
    assert disk.tables["user_orders"] == {"user-1": {"orders": 9}}
    assert disk.next_offsets == {("orders", 0): 9}
