"""The group `deduplication` on a real Kafka and the main group behind it, killed: each order counts once."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from demo.generator import TopicKeyValue
from demo.readback import read_topics
from streams.broker import EmbeddedKafka
from streams.prepare import prepare_topics
from streams.topics import ORDERS, ORDERS_DEDUPLICATED
from streams.topology import DEDUPLICATION
from tables.definitions import USER_ORDERS
from tests.broker.groups import caught_up, committed_records, send
from tests.faults.workers import WorkerProcess
from tests.waiting import until

PARTITIONS = 2
APPLICATION = "shop"
GROUP = "shop-deduplication"
ORDERED = 40_000
USERS = 500
HOUR_MS = 3_600_000
GRACE_MS = 300_000
DEDUPLICATED = ORDERS_DEDUPLICATED.name


def _script(chance: random.Random, start_ms: int) -> Iterator[TopicKeyValue]:
    """Yield six hours of orders out of order, each sent once to three times, some of them too late."""
    came: list[tuple[int, int, TopicKeyValue]] = []
    for number in range(ORDERED):
        user = f"user-{chance.randrange(USERS)}"
        at_ms = start_ms + number * 6 * HOUR_MS // ORDERED
        for again in range(chance.choice([1, 1, 2, 3])):
            # The same id, mostly as it was; by a source that is replayed, of another time.
            moved_ms = chance.choice([0, 0, 0, chance.randrange(2 * HOUR_MS)])
            event = {
                "event_id": f"event-{number}",
                "event_type": "order.created",
                "aggregate_id": f"order-{number}",
                "timestamp": at_ms + moved_ms * (again > 0),
                "data": {"order_id": f"order-{number}", "user_id": user, "amount": 1.0},
                "sent": again,
            }
            comes_ms = at_ms + again * chance.randrange(2 * HOUR_MS)
            record = (ORDERS.name, user.encode(), json.dumps(event).encode())
            came.append((comes_ms, len(came), record))
    return (record for *_, record in sorted(came))


def _passed(values: Iterable[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return which of a partition's values are passed on, and which are late."""
    passed: list[bytes] = []
    late: list[bytes] = []
    times_ms: dict[tuple[str, str], list[int]] = {}
    now_ms = 0
    for value in values:
        event = json.loads(value)
        at_ms = event["timestamp"]
        now_ms = max(now_ms, at_ms)
        of_id = times_ms.setdefault((event["data"]["user_id"], event["event_id"]), [])
        if at_ms + HOUR_MS + GRACE_MS < now_ms:
            late.append(value)
        elif all(abs(at_ms - other_ms) > HOUR_MS for other_ms in of_id):
            of_id.append(at_ms)
            passed.append(value)
    return passed, late


@pytest.mark.timeout(300)
async def test_workers_that_are_killed_pass_on_and_count_each_order_once(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        client: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap}
        await prepare_topics(
            DEDUPLICATION, client, application_id=GROUP, default_partitions=PARTITIONS,
            replication_factor=1, create=True,
        )  # fmt: skip
        await send(client, PARTITIONS, _script(chance, 1_763_715_600_000))
        settings = {
            "kafka_session_timeout_ms": 2_000,
            "kafka_heartbeat_interval_ms": 300,
            "headrace_orders_topic": DEDUPLICATED,
        }
        first, second = (
            WorkerProcess(tmp_path / name, kafka.bootstrap, APPLICATION, **settings)
            for name in ("deduplication", "main")
        )
        try:
            first.start("--group", "deduplication")
            second.start()
            await until(partial(_has_committed, client, GROUP, ORDERS.name), deadline_s=90)
            first.kill()
            assert await committed_records(client, GROUP, [ORDERS.name], PARTITIONS) < ORDERED
            await until(partial(_has_committed, client, APPLICATION, DEDUPLICATED), deadline_s=90)
            second.kill()
            first.start("--group", "deduplication")
            second.start()
            await caught_up(client, GROUP, [ORDERS.name], PARTITIONS)
            await caught_up(client, APPLICATION, [DEDUPLICATED], PARTITIONS)
            for worker in (first, second):
                await worker.says("worker starts")
                assert await asyncio.to_thread(worker.end) == 0, worker.said()[-3_000:]
            second.start(headrace_orders_topic=ORDERS.name)
            line = await second.refuses()
            assert "has read orders-deduplicated so far, and is to read orders in its place" in line
        finally:
            first.kill()
            second.kill()
        changelog = USER_ORDERS.changelog(APPLICATION)
        topics = [ORDERS.name, DEDUPLICATED, DEDUPLICATION.late_records, changelog]
        records = await read_topics(client, topics, PARTITIONS)
    for partition in range(PARTITIONS):

        def values(topic: str, at: int = partition) -> list[bytes]:
            return [record.value for record in records[TopicPartition(topic, at)]]

        passed, late = _passed(values(ORDERS.name))
        assert late
        assert len(passed) < len(values(ORDERS.name)) - len(late)
        assert values(DEDUPLICATED) == passed
        assert values(DEDUPLICATION.late_records) == late
        counted = Counter(json.loads(value)["data"]["user_id"] for value in passed)
        rows = {r.key.decode(): r.value for r in records[TopicPartition(changelog, partition)]}
        assert {user: USER_ORDERS.decode(row).orders for user, row in rows.items()} == counted


async def _has_committed(client: dict[str, Any], group: str, topic: str) -> bool:
    return await committed_records(client, group, [topic], PARTITIONS) > 0
