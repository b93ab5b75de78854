"""One worker on a real Kafka, given all poison there is, and a dead-letter topic that takes none."""

import random
import shutil
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from config.settings import load_settings
from demo.poison import Subject, event
from demo.readback import INPUTS, check, read_disk, read_topics, topics_of
from streams.app import create_worker
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.engine import Engine
from tests.broker.groups import caught_up, send
from tests.laws.world import WORLD
from tests.poisoned import KINDS, RULES, traffic
from tests.waiting import until_true

PARTITIONS = 2
APP_ID = "poisoned"


async def test_poison_of_every_kind_ends_as_the_oracle_says_and_harms_nobody(
    tmp_path: Path,
) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        client = {"bootstrap_servers": kafka.bootstrap}
        await make_inputs(client, PARTITIONS)
        await send(client, PARTITIONS, traffic(time.time_ns() // 1_000_000))
        await send_what_grows(kafka.bootstrap)
        settings = load_settings(
            kafka_brokers=(kafka.bootstrap,), app_id=APP_ID, data_dir=tmp_path / "state"
        )
        worker = create_worker(settings, WORLD)
        try:
            await worker.start()
            await caught_up(client, APP_ID, INPUTS, PARTITIONS)
        finally:
            await worker.app.stop()
        records = await read_topics(client, topics_of(APP_ID), PARTITIONS)
    disk = read_disk([tmp_path / "state" / APP_ID], PARTITIONS)
    verdict = check(records, disk, APP_ID, live=False, rules=RULES)
    assert verdict.differences == []
    refused = verdict.expected.refused
    assert sum(refused.values()) > len(KINDS) // 2
    assert {"rule-failed", "too-large"} < set(refused)
    assert verdict.expected.late
    shutil.rmtree(tmp_path)


async def make_inputs(client: dict[str, Any], partitions: int) -> None:
    specs = [TopicSpec(topic, partitions, {"retention.ms": "-1"}) for topic in INPUTS]
    await ensure_topics(client, specs, replication_factor=1)


async def send_what_grows(bootstrap: str) -> None:
    """Send a record that is within the broker's limit as its producer compressed it, and no event."""
    text = random.Random(1).randbytes(350_000).hex().encode()
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, compression_type="zstd", max_request_size=8 << 20
    )
    await producer.start()
    try:
        await producer.send_and_wait("orders", text * 4, b"ada", partition=0)
    finally:
        await producer.stop()


async def test_where_a_dead_letter_cannot_be_written_nothing_is_committed_past_it(
    tmp_path: Path,
) -> None:
    now_ms = time.time_ns() // 1_000_000
    orders = [
        (
            "orders",
            b"ada",
            event(Subject(b"o-%d" % number, b"ada", now_ms), "order.created", {}, {}),
        )
        for number in range(6)
    ]
    orders[3] = ("orders", b"ada", b"no event")
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        bootstrap = kafka.bootstrap
        client = {"bootstrap_servers": bootstrap}
        tight = TopicSpec("dead-letters", 1, {"max.message.bytes": "100"})
        await ensure_topics(client, [tight], replication_factor=1)
        await make_inputs(client, 1)
        await send(client, 1, orders)
        settings = load_settings(
            kafka_brokers=(bootstrap,), app_id=APP_ID, data_dir=tmp_path / "state"
        )
        worker = create_worker(settings)
        admin = AIOKafkaAdminClient(**client)
        await admin.start()
        try:
            await worker.start()
            await until_true(
                lambda: worker.engine is not None and tried(worker.engine) > 2, deadline_s=60
            )
            committed = await admin.list_consumer_group_offsets(APP_ID)
            assert all(at.offset <= 3 for tp, at in committed.items() if tp.topic == "orders")

            roomy = {"max.message.bytes": "2097176"}
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, "dead-letters", roomy)]
            )
            await caught_up(client, APP_ID, INPUTS, 1)
        finally:
            await worker.app.stop()
            await admin.close()
        records = await read_topics(client, topics_of(APP_ID), 1)
    disk = read_disk([tmp_path / "state" / APP_ID], 1)
    verdict = check(records, disk, APP_ID, live=False)
    assert verdict.differences == []
    assert [letter.offset for letter in verdict.expected.dead_letters] == [3]
    shutil.rmtree(tmp_path)


def tried(engine: Engine) -> int:
    """Return how often the most unhappy task was taken anew without a commit."""
    return max((task.retakes for task in engine.tasks.values()), default=0)
