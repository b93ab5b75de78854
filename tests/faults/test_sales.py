"""The group `sales` on a real Kafka, killed: lines that go on by product count once."""

import asyncio
import json
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from demo.generator import TopicKeyValue
from demo.readback import read_topics
from streams.broker import EmbeddedKafka
from streams.prepare import prepare_topics
from streams.topics import ORDER_LINES, ORDERS, PRODUCT_SALES, PRODUCTS
from streams.topology import SALES
from tests.broker.groups import caught_up, committed_records, send
from tests.faults.workers import WorkerProcess
from tests.flows.stories import order
from tests.flows.test_product_sales import CLOSERS, MINUTE_MS, Line, sales
from tests.flows.test_products import told as product_told
from tests.waiting import until

PARTITIONS = 3
APPLICATION = "shop"
GROUP = "shop-sales"
ORDERED = 30_000
OF_SALES = SALES.of(GROUP)
LINES = ORDER_LINES.of(GROUP).name


def _lines(chance: random.Random) -> list[list[Line]]:
    """Return orders' lines, all within the grace: whichever task is ahead, none is late."""
    return [
        [
            Line(user, f"prod-{chance.randrange(20)}", chance.randrange(4), price, at_ms)
            for price in chance.choices([0.99, 2.5, 1_299.5], k=chance.randrange(4))
        ]
        for number in range(ORDERED)
        for user, at_ms in [(chance.randrange(100), number * 4 * MINUTE_MS // ORDERED)]
    ]


def _records(orders: list[list[Line]], first: int = 0) -> Iterator[TopicKeyValue]:
    for number, lines in enumerate(orders, first):
        user, at_ms = (lines[0].user, lines[0].at_ms) if lines else (0, 0)
        items = [
            {"product_id": line.product, "quantity": line.quantity, "unit_price": line.price}
            for line in lines
        ]
        key, value = order(number, user=f"user-{user}", at_ms=at_ms, items=items)
        assert key is not None
        assert value is not None
        yield ORDERS.name, key, value


def _named(names: dict[str, str]) -> Iterator[TopicKeyValue]:
    for number, (product, name) in enumerate(names.items()):
        key, value = product_told(number, "created", product, name=name)
        assert key is not None
        assert value is not None
        yield PRODUCTS.name, key, value


@pytest.mark.timeout(300)
async def test_workers_that_are_killed_count_each_line_once(tmp_path: Path, seed: int) -> None:
    orders = _lines(random.Random(seed))
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        client: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap}
        await prepare_topics(
            OF_SALES, client, application_id=GROUP, default_partitions=PARTITIONS,
            replication_factor=1, create=True,
        )  # fmt: skip
        # The names are there before any line: who looks them up later must have them, on every worker.
        names = {f"prod-{number}": f"Product {number}" for number in range(0, 20, 2)}
        await send(client, PARTITIONS, _named(names))
        settings = {"kafka_session_timeout_ms": 2_000, "kafka_heartbeat_interval_ms": 300}
        first, second = (
            WorkerProcess(tmp_path / name, kafka.bootstrap, APPLICATION, **settings)
            for name in ("first", "second")
        )
        try:
            first.start("--group", "sales")
            await caught_up(client, GROUP, [PRODUCTS.name], PARTITIONS)
            await send(client, PARTITIONS, _records(orders))
            await until(partial(_has_committed, client, ORDERS.name), deadline_s=90)
            first.kill()
            assert await committed_records(client, GROUP, [ORDERS.name], PARTITIONS) < ORDERED
            second.start("--group", "sales")
            await until(partial(_has_committed, client, LINES), deadline_s=90)
            second.kill()
            first.start("--group", "sales")
            second.start("--group", "sales")
            await caught_up(client, GROUP, [ORDERS.name], PARTITIONS)
            await caught_up(client, GROUP, [LINES], PARTITIONS)
            last = [Line(0, product, 1, 1.0, 60 * MINUTE_MS) for product in CLOSERS]
            await send(client, PARTITIONS, _records([last], ORDERED))
            await caught_up(client, GROUP, [ORDERS.name], PARTITIONS)
            await caught_up(client, GROUP, [LINES], PARTITIONS)
            for worker in (first, second):
                await worker.says("worker starts")
                assert await asyncio.to_thread(worker.end) == 0, worker.said()[-3_000:]
        finally:
            first.kill()
            second.kill()
        topics = [PRODUCT_SALES.name, SALES.late_records, SALES.dead_letters]
        records = await read_topics(client, topics, PARTITIONS)
    told = [
        json.loads(record.value)["data"]
        for partition in range(PARTITIONS)
        for record in records[TopicPartition(PRODUCT_SALES.name, partition)]
    ]
    _compare(told, sales(line for lines in orders for line in lines), names)
    for topic in topics[1:]:
        assert not any(records[TopicPartition(topic, n)] for n in range(PARTITIONS))


def _compare(
    told: list[dict[str, Any]],
    expected: dict[tuple[str, int], dict[str, Any]],
    names: dict[str, str],
) -> None:
    assert len(told) == len(expected) > 100
    for data in told:
        of_window = expected[data["product_id"], data["window_start"]]
        p95, true_p95 = data.pop("line_amount_p95"), of_window.pop("line_amount_p95")
        assert abs(p95 - true_p95) <= true_p95 / 100
        data["revenue"] = pytest.approx(data["revenue"])
        of_window["product_name"] = names.get(data["product_id"])
        assert data == of_window


async def _has_committed(client: dict[str, Any], topic: str) -> bool:
    return await committed_records(client, GROUP, [topic], PARTITIONS) > 0
