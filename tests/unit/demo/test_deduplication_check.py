"""The check of the group `deduplication`: what its oracle says, and that it finds what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice

import pytest
from aiokafka import TopicPartition

from demo.deduplication_check import check_deduplication
from demo.generator import OrderGenerator, partition_of
from demo.oracle import Deduplicated, Json, Source, expect_deduplicated
from demo.readback import Disk, sources_of
from demo.repeats import SHARE, repeated
from demo.watched import DEDUPLICATION_GROUP, changelog
from streams.topology import DEDUPLICATION
from tests.unit.demo.read_back import NOW_MS, Record, Topics, as_json, letter

PARTITIONS = 2
APP_ID = DEDUPLICATION_GROUP.app_id
MINUTE_MS = 60_000
OPEN: Json = {"due_ms": NOW_MS}
Spoil = Callable[[list[Record]], object]


def passed(*came: tuple[str, float]) -> Deduplicated:
    """Return what becomes of events, by user and id ("ada/1") and minute."""
    sources = []
    for offset, (whose, at_min) in enumerate(came):
        user, _, id_ = whose.partition("/")
        event = {
            "event_id": id_,
            "event_type": "order.paid",
            "aggregate_id": "o",
            "timestamp": NOW_MS + int(at_min * MINUTE_MS),
            "data": {"order_id": "o", "user_id": user, "payment_id": f"{offset}"},
        }
        sources.append(Source(offset, -1, user.encode(), json.dumps(event).encode()))
    return expect_deduplicated({0: sources})


def offsets(outcome: Deduplicated) -> list[int]:
    return [int(json.loads(value or b"")["data"]["payment_id"]) for _, value in outcome.passed[0]]


def test_an_id_is_passed_on_once_within_an_hour_of_event_time() -> None:
    outcome = passed(("ada/1", 0), ("ada/1", 0), ("ada/1", -60), ("ada/1", 60), ("ada/1", 60.01))
    assert offsets(outcome) == [0, 4]
    assert outcome.left_out == 3


def test_what_was_left_out_is_repeated_by_none() -> None:
    assert offsets(passed(("ada/1", 0), ("ada/1", 59), ("ada/1", 61))) == [0, 2]


def test_equal_ids_of_two_users_are_two_events() -> None:
    assert offsets(passed(("ada/1", 0), ("bob/1", 0), ("ada/2", 0))) == [0, 1, 2]


def test_what_is_more_than_an_hour_and_five_minutes_behind_is_late() -> None:
    outcome = passed(("ada/1", 65), ("ada/2", 0), ("ada/3", -0.01))
    assert offsets(outcome) == [0, 1]
    [late] = outcome.late
    assert late.what[0] == "orders_deduplicated"
    assert (late.offset, late.least_ms, late.most_ms) == (2, 600, 600)


def test_repeats_come_again_as_they_were_or_of_another_time() -> None:
    times = iter(range(NOW_MS, NOW_MS + 86_400_000, 2_000))
    now = [NOW_MS]

    def clock() -> int:
        return now[0]

    all_made = islice(OrderGenerator(seed=5, users=60).records(clock), 40_000)
    made = [each for each in all_made if each[0] == "orders"]
    came = []
    for each in repeated(made, clock, seed=5):
        now[0] = next(times)
        came.append(each)
    assert list(repeated(made, clock, seed=5))[:100] != came  # the clock decides what comes when
    again = len(came) - len(made)
    assert 0.5 * SHARE < again / len(made) <= 1.5 * SHARE
    ids = [json.loads(value or b"")["event_id"] for _, _, value in came]
    assert len(ids) - len(set(ids)) == again
    assert 0 < len(set(came)) - len(made) < again


def inputs() -> Topics:
    topics: Topics = {TopicPartition("orders", n): [] for n in range(PARTITIONS)}
    now = [NOW_MS - 86_400_000]

    def clock() -> int:
        now[0] += 1_000
        return now[0]

    generator = OrderGenerator(seed=5, users=60, poison_share=0.05)
    made = (each for each in generator.records(clock, NOW_MS) if each[0] == "orders")
    for _, key, value in islice(repeated(made, clock, 5), 6_000):
        rows = topics[TopicPartition("orders", partition_of(key, PARTITIONS))]
        rows.append(Record(len(rows), NOW_MS, key, value))
    return topics


@pytest.fixture(scope="module")
def right() -> Topics:
    """Return all topics as they are after a right run."""
    topics = inputs()
    outcome = expect_deduplicated(sources_of(topics, ["orders"])["orders"])
    assert outcome.left_out > 50
    for partition, rows in outcome.passed.items():
        topics[TopicPartition("orders-deduplicated", partition)] = [
            Record(n, NOW_MS, key, value) for n, (key, value) in enumerate(rows)
        ]
    for found in outcome.dead_letters:
        source = topics[TopicPartition(found.topic, found.partition)][found.offset]
        letters = TopicPartition(DEDUPLICATION.dead_letters, found.partition)
        topics.setdefault(letters, []).append(letter(found, source))
    for late in outcome.late:
        source = topics[TopicPartition(late.topic, late.partition)][late.offset]
        headers = {
            "flow": late.flow,
            "window": late.window,
            "lateness-ms": late.least_ms,
            "topic": late.topic,
            "partition": late.partition,
            "offset": late.offset,
        }
        encoded = [(f"headrace.{name}", str(told).encode()) for name, told in headers.items()]
        lates = topics.setdefault(TopicPartition("late-records", late.partition), [])
        lates.append(Record(0, NOW_MS, source.key, source.value, encoded))
    topics[TopicPartition(changelog(APP_ID, "orders_passed"), 0)] = [
        Record(0, NOW_MS, b"a", as_json(OPEN)),
        Record(1, NOW_MS, b"b", as_json(OPEN)),
        Record(2, NOW_MS, b"b", None),
    ]
    return topics


@pytest.fixture
def topics(right: Topics) -> Topics:
    """Return topics that may be spoilt."""
    return {tp: list(rows) for tp, rows in right.items()}


@pytest.fixture
def disk(topics: Topics) -> Disk:
    """Return the stores as they are after a right run."""
    ends = {(tp.topic, tp.partition): len(rows) for tp, rows in topics.items()}
    return Disk(
        {"orders_passed": {"a": OPEN}}, {at: end for at, end in ends.items() if at[0] == "orders"}
    )


def differences(topics: Topics, disk: Disk) -> list[str]:
    return check_deduplication(topics, disk, APP_ID).differences


def rows_of(topics: Topics, topic: str) -> list[Record]:
    """Return the records of a partition that has some."""
    return next(rows for tp, rows in topics.items() if tp.topic == topic and rows)


def test_a_right_outcome_has_no_differences(topics: Topics, disk: Disk) -> None:
    verdict = check_deduplication(topics, disk, APP_ID)
    assert verdict.differences == []
    assert verdict.actual.late == verdict.expected.late > 3
    assert len(verdict.actual.dead_letters) > 10
    assert "events that repeat one within an hour" in verdict.remarks[0]


@pytest.mark.parametrize(
    "topic", ["orders-deduplicated", DEDUPLICATION.dead_letters, "late-records"]
)
@pytest.mark.parametrize(
    "spoil", [list[Record].pop, lambda rows: rows.append(rows[-1])], ids=["missing", "twice"]
)
def test_an_output_that_is_missing_or_there_twice_is_found(
    topics: Topics, disk: Disk, topic: str, spoil: Spoil
) -> None:
    spoil(rows_of(topics, topic))
    [line] = differences(topics, disk)
    assert line.startswith(topic.removeprefix("deduplication-"))


def test_an_event_of_which_a_byte_has_changed_is_found(topics: Topics, disk: Disk) -> None:
    rows = rows_of(topics, "orders-deduplicated")
    rows[0] = rows[0]._replace(value=(rows[0].value or b"") + b" ")
    assert len(differences(topics, disk)) == 2


def test_another_order_is_found(topics: Topics, disk: Disk) -> None:
    rows = rows_of(topics, "orders-deduplicated")
    rows[7], rows[8] = rows[8], rows[7]
    [line] = differences(topics, disk)
    assert line.startswith("orders-deduplicated[0] #7: in another order than in orders")


def test_a_late_record_whose_bytes_changed_is_found(topics: Topics, disk: Disk) -> None:
    rows = rows_of(topics, "late-records")
    rows[0] = rows[0]._replace(value=b"something else")
    [line] = differences(topics, disk)
    assert line.endswith("differs from the record that it stands for")


def test_a_row_that_differs_on_disk_and_a_store_that_is_behind_are_found(
    topics: Topics, disk: Disk
) -> None:
    disk.tables["orders_passed"]["b"] = OPEN
    disk.next_offsets["orders", 1] -= 1
    row, store = differences(topics, disk)
    assert row.startswith("on disk: orders_passed[b]: expected nothing")
    assert store.startswith("on disk: orders-1 stands")
