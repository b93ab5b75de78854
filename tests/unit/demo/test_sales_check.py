"""The check of the group `sales` finds what is wrong: each test spoils one thing of a right outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from itertools import islice
from typing import Any

import pytest
from aiokafka import TopicPartition

from demo.event_clock import SALES_LATENESS
from demo.generator import OrderGenerator, partition_of
from demo.oracle import SALES_DERIVED, SALES_TABLES, Json, Outcome, expect_sales
from demo.oracle.estimates import Near
from demo.readback import Disk, sources_of
from demo.sales_check import check_sales
from demo.watched import SALES_GROUP, changelog
from streams.topology import SALES
from tests.unit.demo.read_back import NOW_MS, Record, Topics, as_json, letter

PARTITIONS = 2
APP_ID = SALES_GROUP.app_id
OPEN: Json = {"due_ms": NOW_MS, "windows": [NOW_MS]}
Spoil = Callable[[list[Record]], object]


def inputs() -> Topics:
    topics: Topics = {
        TopicPartition(t, n): [] for t in SALES_GROUP.inputs for n in range(PARTITIONS)
    }
    times = iter(range(NOW_MS - 4 * 86_400_000, NOW_MS, 25_000))
    generator = OrderGenerator(
        seed=5, users=60, poison_share=0.05, products=True, lateness=SALES_LATENESS
    )
    for topic, key, value in islice(generator.records(lambda: next(times), NOW_MS), 5_000):
        rows = topics[TopicPartition(topic, partition_of(key, PARTITIONS))]
        rows.append(Record(len(rows), NOW_MS, key, value))
    return topics


def outcome_of(topics: Topics) -> Outcome:
    return expect_sales(sources_of(topics, SALES_GROUP.inputs))


def plainly(document: Any) -> Any:
    """Return a document as a right application tells it: of estimates the truth."""
    if isinstance(document, Near):
        middle = (document.least + document.most) / 2
        return int(middle) if middle == int(middle) else float(round(middle, 2))
    if isinstance(document, dict):
        return {name: plainly(value) for name, value in document.items()}
    return document


@pytest.fixture(scope="module")
def right() -> Topics:
    """Return all topics as they are after a right run; windows in another order than the oracle's."""
    topics = inputs()
    outcome = outcome_of(topics)
    for topic in SALES_GROUP.outputs:
        for partition, events in outcome.derived[topic].items():
            ordered = events if topic == "stock-alerts" else list(reversed(events))
            topics[TopicPartition(topic, partition)] = [
                Record(0, NOW_MS, one.key, as_json(plainly(one.event))) for one in ordered
            ]
    for found in outcome.dead_letters:
        source = topics[TopicPartition(found.topic, found.partition)][found.offset]
        letters = TopicPartition(SALES.dead_letters, found.partition)
        topics.setdefault(letters, []).append(letter(found, source))
    for table in SALES_TABLES:
        topics[TopicPartition(changelog(APP_ID, table), 0)] = [
            Record(0, NOW_MS, key.encode(), as_json(row))
            for key, row in outcome.tables[table].items()
        ]
    rows = Record(0, NOW_MS, b"pen", as_json(OPEN)), Record(1, NOW_MS, b"ink", None)
    topics[TopicPartition(changelog(APP_ID, "product_sales"), 0)] = list(rows)
    return topics


@pytest.fixture
def topics(right: Topics) -> Topics:
    """Return topics that may be spoilt."""
    return {tp: list(rows) for tp, rows in right.items()}


@pytest.fixture
def disk(topics: Topics) -> Disk:
    """Return the stores as they are after a right run."""
    expected = outcome_of(topics)
    tables: dict[str, dict[str, Json]] = {table: {} for table in SALES_GROUP.tables}
    tables |= {table: dict(rows) for table, rows in expected.tables.items()}
    tables["product_sales"] = {"pen": OPEN}
    ends = {(tp.topic, tp.partition): len(rows) for tp, rows in topics.items()}
    return Disk(tables, {at: end for at, end in ends.items() if at[0] in SALES_GROUP.inputs})


def differences(topics: Topics, disk: Disk) -> list[str]:
    return check_sales(topics, disk, APP_ID).differences


def rows_of(topics: Topics, topic: str) -> list[Record]:
    """Return the records of a partition that has some."""
    return next(rows for tp, rows in topics.items() if tp.topic == topic and rows)


def test_a_right_outcome_has_no_differences(topics: Topics, disk: Disk) -> None:
    verdict = check_sales(topics, disk, APP_ID)
    assert verdict.differences == []
    assert all(verdict.actual.derived[topic] for topic in SALES_GROUP.outputs)
    assert verdict.actual.refused["rule-failed"] > 3


@pytest.mark.parametrize("topic", [*SALES_GROUP.outputs, SALES.dead_letters])
@pytest.mark.parametrize(
    "spoil", [list[Record].pop, lambda rows: rows.append(rows[-1])], ids=["missing", "twice"]
)
def test_an_output_that_is_missing_or_there_twice_is_found(
    topics: Topics, disk: Disk, topic: str, spoil: Spoil
) -> None:
    spoil(rows_of(topics, topic))
    [line] = differences(topics, disk)
    assert line.startswith(topic.removeprefix("sales-"))


def test_the_oracle_and_the_application_know_the_same_names() -> None:
    emitted = {topic.name for flow in SALES_GROUP.topology.flows for topic in flow.outputs}
    assert set(SALES_DERIVED) <= emitted - set(SALES_GROUP.between)
    assert set(SALES_GROUP.outputs) == set(SALES_DERIVED)
    inputs = {topic.name for topic in SALES_GROUP.topology.inputs}
    assert set(SALES_GROUP.inputs) == inputs - set(SALES_GROUP.between)
    assert set(SALES_TABLES) <= set(SALES_GROUP.tables)


@pytest.mark.parametrize(
    ("topic", "field", "by", "count"),
    [
        ("product-sales", "units", 1, 1),
        ("product-sales", "revenue", 0.01, 1),
        ("product-sales", "line_amount_p95", 0, 0),
        ("product-sales", "line_amount_p95", 1_000_000, 1),
        ("product-sales", "buyers", 1, 1),
        ("order-value-quantiles", "p90", 1_000_000, 1),
        ("order-value-quantiles", "orders", 1, 1),
        ("stock-alerts", "stock", 1, 1),
        ("top-products", "window_end", 1, 1),
    ],
)
def test_a_result_that_is_not_near_enough_is_found(  # noqa: PLR0917 - of the parameters
    topics: Topics, disk: Disk, topic: str, field: str, by: float, count: int
) -> None:
    rows = rows_of(topics, topic)
    event = json.loads(rows[0].value or b"", parse_float=Decimal)
    event["data"][field] += Decimal(str(by))
    rows[0] = rows[0]._replace(value=as_json(event))
    assert len(differences(topics, disk)) == count


def test_an_event_on_another_partition_is_found(topics: Topics, disk: Disk) -> None:
    topics[TopicPartition("product-sales", 1)].append(
        topics[TopicPartition("product-sales", 0)].pop()
    )
    assert len(differences(topics, disk)) == 2


def test_another_key_is_found(topics: Topics, disk: Disk) -> None:
    rows = rows_of(topics, "order-value-quantiles")
    rows[0] = rows[0]._replace(key=b"another")
    [line] = differences(topics, disk)
    assert "expected the key" in line


def test_anything_late_is_found_but_for_flows_that_were_added(topics: Topics, disk: Disk) -> None:
    headers = {"headrace.flow": b"product_sales", "headrace.window": b"1-2"}
    late = Record(0, NOW_MS, b"pen", b"{}", [*headers.items()])
    mine = late._replace(headers=[*{**headers, "headrace.flow": b"mine"}.items()])
    topics[TopicPartition("late-records", 1)] = [late, mine]
    [line] = differences(topics, disk)
    assert line.startswith("late-records[1]: not expected: product_sales 1-2")


@pytest.mark.parametrize(
    ("table", "row"), [("products", {"name": "x"}), ("product_views", {"views": 9})]
)
def test_a_row_that_differs_is_found_in_the_changelog_and_on_disk(
    topics: Topics, disk: Disk, table: str, row: Json
) -> None:
    rows = rows_of(topics, changelog(APP_ID, table))
    rows[0] = rows[0]._replace(value=as_json(row))
    [line] = differences(topics, disk)
    assert line.startswith(f"{table}[")
    disk.tables[table]["new"] = row
    assert differences(topics, disk)[1].startswith(f"on disk: {table}[new]: expected nothing")


def test_what_is_open_is_compared_with_its_changelog(topics: Topics, disk: Disk) -> None:
    disk.tables["product_sales"]["ink"] = OPEN
    [line] = differences(topics, disk)
    assert line.startswith("on disk: product_sales[ink]: expected nothing")


def test_a_store_that_is_behind_is_found(topics: Topics, disk: Disk) -> None:
    disk.next_offsets["products", 1] -= 1
    [line] = differences(topics, disk)
    assert line.startswith("on disk: products-1 stands")
