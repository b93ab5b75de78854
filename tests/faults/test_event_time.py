"""The group `windows` on a real Kafka, its workers killed: every window, session and pair told once."""

import asyncio
import json
import os
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition

from demo.generator import TopicKeyValue
from demo.readback import Records, read_topics
from streams.broker import EmbeddedKafka
from streams.prepare import prepare_topics
from streams.topology import WINDOWS
from tests.broker.groups import caught_up, committed_records, send
from tests.event_time import Outcome, expected, in_order, late_line
from tests.faults.workers import WorkerProcess
from tests.waiting import until

PARTITIONS = 2
APPLICATION = "shop"
GROUP = "shop-windows"
RECORDS = 25_000
USERS = 1_500
KILLS = 3
MINUTE_MS = 60_000
HEADRACE = str(Path(sys.executable).with_name("headrace"))
INPUTS = [topic.name for topic in WINDOWS.inputs]
OUTPUTS = [topic.name for flow in WINDOWS.flows for topic in flow.outputs]


def _script(chance: random.Random, start_ms: int) -> Iterator[TopicKeyValue]:
    """Yield six hours of a shop: orders, payments in time, late or never, visits; some out of order."""
    came: list[tuple[int, TopicKeyValue]] = []
    for number in range(RECORDS):
        user = f"user-{chance.randrange(USERS)}"
        comes_ms = start_ms + number * 6 * 60 * MINUTE_MS // RECORDS
        at_ms = comes_ms - chance.randrange(20_000)
        if chance.random() < 0.02:  # beyond every grace, some of them
            at_ms -= chance.randrange(90 * MINUTE_MS)
        data: dict[str, Any] = {"user_id": user}
        topic, kind = "users", "user.logged_in"
        if chance.random() < 0.8:
            topic, kind = "orders", "order.created"
            data |= {"order_id": f"order-{number}", "amount": chance.randrange(1, 10**6) / 100}
            if chance.random() < 0.7:
                waits_ms = round(chance.expovariate(1 / (12 * MINUTE_MS)))
                paid = {"user_id": user, "order_id": f"order-{number}", "payment_id": f"p-{number}"}
                payment = _event("payment.completed", number, at_ms + waits_ms, paid)
                came.append((comes_ms + waits_ms, ("payments", user.encode(), payment)))
        came.append((comes_ms, (topic, user.encode(), _event(kind, number, at_ms, data))))
    return (record for _, record in sorted(came, key=itemgetter(0)))


def _event(kind: str, number: int, at_ms: int, data: dict[str, Any]) -> bytes:
    event = {
        "event_id": f"{kind}-{number}",
        "event_type": kind,
        "aggregate_id": str(data["user_id"]),
        "timestamp": at_ms,
        "data": data,
    }
    return json.dumps(event).encode()


async def _counted(table: str, bootstrap: str) -> int:
    """Return how many rows the running workers tell of."""
    command = await asyncio.create_subprocess_exec(
        HEADRACE, "tables", "count", table,
        env={**os.environ, "KAFKA_BROKERS": bootstrap, "HEADRACE_APP_ID": APPLICATION},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told, _ = await command.communicate()
    return int(told.replace(b",", b""))


def _outcome(records: Records, partition: int) -> Outcome:
    def values(topic: str) -> list[Any]:
        return [json.loads(r.value) for r in records[TopicPartition(topic, partition)]]

    topics = [topic for flow in WINDOWS.flows for topic in flow.outputs]
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for table in WINDOWS.tables:
        of_table = rows[table.name]
        for record in records[TopicPartition(table.changelog(GROUP), partition)]:
            if record.value is None:
                of_table.pop(record.key.decode(), None)
            else:
                of_table[record.key.decode()] = table.decode(record.value)
    late = records[TopicPartition(WINDOWS.late_records, partition)]
    return Outcome(
        {topic.name: in_order(topic, values(topic.name)) for topic in topics},
        dict(rows),
        sorted(late_line(r.headers, r.value) for r in late),
    )


@pytest.mark.timeout(400)
async def test_workers_that_are_killed_tell_each_window_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        client: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap}
        await prepare_topics(
            WINDOWS, client, application_id=GROUP, default_partitions=PARTITIONS,
            replication_factor=1, create=True,
        )  # fmt: skip
        await send(client, PARTITIONS, _script(chance, 1_763_715_600_000))
        settings = {
            "kafka_session_timeout_ms": 2_000,
            "kafka_heartbeat_interval_ms": 300,
            "headrace_standby_replicas": 1,
        }
        workers = [
            WorkerProcess(tmp_path / f"worker-{n}", kafka.bootstrap, APPLICATION, **settings)
            for n in range(2)
        ]
        try:
            for worker in workers:
                worker.start("--group", "windows")
            for kill in range(1, KILLS + 1):
                least = RECORDS * kill // (KILLS + 2)

                async def is_so_far(least: int = least) -> bool:
                    return await committed_records(client, GROUP, INPUTS, PARTITIONS) >= least

                await until(is_so_far, deadline_s=90)
                victim = chance.choice(workers)
                victim.kill()
                assert await committed_records(client, GROUP, INPUTS, PARTITIONS) < RECORDS
                victim.start("--group", "windows")
            await caught_up(client, GROUP, INPUTS, PARTITIONS)
            counted = [await _counted(table.name, kafka.bootstrap) for table in WINDOWS.tables]
            for worker in workers:
                await worker.says("worker starts")
                assert await asyncio.to_thread(worker.end) == 0, worker.said()[-3_000:]
        finally:
            for worker in workers:
                worker.kill()
        changelogs = [table.changelog(GROUP) for table in WINDOWS.tables]
        topics = [*INPUTS, *OUTPUTS, WINDOWS.late_records, *changelogs]
        records = await read_topics(client, topics, PARTITIONS)
    rows_of: Counter[str] = Counter()
    for partition in range(PARTITIONS):
        inputs = {
            topic: [r.value for r in records[TopicPartition(topic, partition)]] for topic in INPUTS
        }
        wanted, found = expected(inputs), _outcome(records, partition)
        assert all(wanted.derived.values())
        assert wanted.late
        assert found == wanted
        rows_of.update({name: len(rows) for name, rows in found.rows.items()})
    assert counted == [rows_of[table.name] for table in WINDOWS.tables]
