"""The check of the group `windows` finds what is wrong: each test spoils one thing of a right outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

import pytest
from aiokafka import TopicPartition

from demo.event_clock import LATENESS
from demo.generator import OrderGenerator, partition_of
from demo.oracle import (
    WINDOWS_DERIVED,
    WINDOWS_FLOWS,
    Json,
    Late,
    WindowsOutcome,
    expect_windows,
)
from demo.readback import Disk, sources_of
from demo.watched import WINDOWS_GROUP, changelog
from demo.windows_check import check_windows
from streams.topology import WINDOWS
from tests.unit.demo.read_back import NOW_MS, Record, Topics, as_json, letter

PARTITIONS = 2
APP_ID = WINDOWS_GROUP.app_id
CHANGELOG = TopicPartition(changelog(APP_ID, "user_sessions"), 0)
OPEN: Json = {"due_ms": NOW_MS, "sessions": [NOW_MS]}
Spoil = Callable[[list[Record]], object]


def inputs() -> Topics:
    topics: Topics = {
        TopicPartition(t, n): [] for t in WINDOWS_GROUP.inputs for n in range(PARTITIONS)
    }
    times = iter(range(NOW_MS - 86_400_000, NOW_MS, 1_000))
    generator = OrderGenerator(
        seed=5, users=60, poison_share=0.05, payments=True, lateness=LATENESS
    )
    for topic, key, value in islice(generator.records(lambda: next(times), NOW_MS), 6_000):
        rows = topics[TopicPartition(topic, partition_of(key, PARTITIONS))]
        rows.append(Record(len(rows), NOW_MS, key, value))
    return topics


def outcome_of(topics: Topics) -> WindowsOutcome:
    return expect_windows(sources_of(topics, WINDOWS_GROUP.inputs))


def late_record(late: Late, source: Record) -> Record:
    headers = {
        "headrace.flow": late.flow,
        "headrace.window": late.window,
        "headrace.lateness-ms": str(late.least_ms),
        "headrace.topic": late.topic,
        "headrace.partition": str(late.partition),
        "headrace.offset": str(late.offset),
    }
    encoded = [(name, text.encode()) for name, text in headers.items()]
    return Record(0, NOW_MS, source.key, source.value, encoded)


@pytest.fixture(scope="module")
def right() -> Topics:
    """Return all topics as they are after a right run; events in another order than the oracle's."""
    topics = inputs()
    outcome = outcome_of(topics)
    for topic in WINDOWS_GROUP.outputs:
        for partition, events in outcome.derived[topic].items():
            topics[TopicPartition(topic, partition)] = [
                Record(0, NOW_MS, one.key, as_json(one.event)) for one in reversed(events)
            ]
    for found in outcome.dead_letters:
        source = topics[TopicPartition(found.topic, found.partition)][found.offset]
        letters = TopicPartition("windows-dead-letters", found.partition)
        topics.setdefault(letters, []).append(letter(found, source))
    for late in outcome.late:
        source = topics[TopicPartition(late.topic, late.partition)][late.offset]
        lates = topics.setdefault(TopicPartition("late-records", late.partition), [])
        lates.append(late_record(late, source))
    topics[CHANGELOG] = [
        Record(0, NOW_MS, b"ada", as_json({"due_ms": 0})),
        Record(1, NOW_MS, b"ada", as_json(OPEN)),
        Record(2, NOW_MS, b"bob", as_json(OPEN)),
        Record(3, NOW_MS, b"bob", None),
    ]
    return topics


@pytest.fixture
def topics(right: Topics) -> Topics:
    """Return topics that may be spoilt."""
    return {tp: list(rows) for tp, rows in right.items()}


@pytest.fixture
def disk(topics: Topics) -> Disk:
    """Return the stores as they are after a right run."""
    tables: dict[str, dict[str, Json]] = {table: {} for table in WINDOWS_GROUP.tables}
    tables["user_sessions"]["ada"] = OPEN
    ends = {(tp.topic, tp.partition): len(rows) for tp, rows in topics.items()}
    return Disk(tables, {at: end for at, end in ends.items() if at[0] in WINDOWS_GROUP.inputs})


def differences(topics: Topics, disk: Disk) -> list[str]:
    return check_windows(topics, disk, APP_ID).differences


def rows_of(topics: Topics, topic: str) -> list[Record]:
    """Return the records of a partition that has some."""
    return next(rows for tp, rows in topics.items() if tp.topic == topic and rows)


def test_a_right_outcome_has_no_differences(topics: Topics, disk: Disk) -> None:
    verdict = check_windows(topics, disk, APP_ID)
    assert verdict.differences == []
    assert all(verdict.actual.derived[topic] for topic in WINDOWS_GROUP.outputs)
    assert verdict.actual.late == verdict.expected.late > 5
    assert len(verdict.actual.dead_letters) > 10


@pytest.mark.parametrize("topic", [*WINDOWS_GROUP.outputs, "windows-dead-letters", "late-records"])
@pytest.mark.parametrize(
    "spoil", [list[Record].pop, lambda rows: rows.append(rows[-1])], ids=["missing", "twice"]
)
def test_an_output_that_is_missing_or_there_twice_is_found(
    topics: Topics, disk: Disk, topic: str, spoil: Spoil
) -> None:
    spoil(rows_of(topics, topic))
    [line] = differences(topics, disk)
    assert line.startswith(topic.removeprefix("windows-"))


def test_late_records_of_a_flow_that_was_added_are_none_of_its_business(
    topics: Topics, disk: Disk
) -> None:
    rows = rows_of(topics, "late-records")
    rows.append(
        rows[0]._replace(headers=[*dict(rows[0].headers, **{"headrace.flow": b"mine"}).items()])
    )
    assert differences(topics, disk) == []


def test_the_oracle_and_the_application_know_the_same_names() -> None:
    assert set(WINDOWS_FLOWS) == {flow.name for flow in WINDOWS.flows}
    emitted = {topic.name for flow in WINDOWS.flows for topic in flow.outputs}
    assert set(WINDOWS_GROUP.outputs) == set(WINDOWS_DERIVED) == emitted
    assert set(WINDOWS_GROUP.inputs) == {topic.name for topic in WINDOWS.inputs}


def test_an_event_that_differs_in_a_field_is_found(topics: Topics, disk: Disk) -> None:
    rows = topics[TopicPartition("order-stats", 0)]
    event = json.loads(rows[0].value or b"")
    event["data"]["mean"] += 0.01
    rows[0] = rows[0]._replace(value=as_json(event))
    missing, unexpected = differences(topics, disk)
    assert missing.startswith("order-stats[0]: missing b'user-")
    assert unexpected.startswith("order-stats[0]: not expected b'user-")


def test_an_event_on_another_partition_is_found(topics: Topics, disk: Disk) -> None:
    topics[TopicPartition("user-sessions", 1)].append(
        topics[TopicPartition("user-sessions", 0)].pop()
    )
    assert len(differences(topics, disk)) == 2


@pytest.mark.parametrize(
    ("header", "text", "count"),
    [("headrace.lateness-ms", b"1", 1), ("headrace.window", b"1-2", 2)],
)
def test_a_late_record_that_tells_something_else_is_found(
    topics: Topics, disk: Disk, header: str, text: bytes, count: int
) -> None:
    rows = rows_of(topics, "late-records")
    rows[0] = rows[0]._replace(headers=[*dict(rows[0].headers, **{header: text}).items()])
    assert len(differences(topics, disk)) == count


def test_a_late_record_whose_bytes_changed_is_found(topics: Topics, disk: Disk) -> None:
    rows = rows_of(topics, "late-records")
    rows[0] = rows[0]._replace(value=b"something else")
    [line] = differences(topics, disk)
    assert line.endswith("differs from the record that it stands for")


def test_a_row_that_differs_on_disk_is_found(topics: Topics, disk: Disk) -> None:
    disk.tables["user_sessions"]["bob"] = {"due_ms": 1}
    [line] = differences(topics, disk)
    assert line.startswith("on disk: user_sessions[bob]: expected nothing, got ")


def test_a_store_that_is_behind_is_found(topics: Topics, disk: Disk) -> None:
    disk.next_offsets["payments", 1] -= 1
    [line] = differences(topics, disk)
    assert line.startswith("on disk: payments-1 stands")
