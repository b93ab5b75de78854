"""Topics on a real broker."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.engine.admin import TopicSpec, ensure_topics, partition_counts
from streams.errors import BrokerUnreachableError, TopicError


async def test_a_missing_topic_is_made_with_its_config_and_takes_records_at_once(
    client_options: dict[str, Any], topic: str
) -> None:
    spec = TopicSpec(topic, 3, {"cleanup.policy": "compact"})
    await ensure_topics(client_options, [spec], replication_factor=1)

    async with AIOKafkaProducer(**client_options, acks="all") as producer:
        for partition in range(3):
            sent = await producer.send_and_wait(topic, b"value", key=b"key", partition=partition)
            assert sent.offset == 0
    assert await config_of(client_options, topic, "cleanup.policy") == "compact"


async def test_a_topic_that_fits_is_left_as_it_is(
    client_options: dict[str, Any], topic: str
) -> None:
    await ensure_topics(client_options, [TopicSpec(topic, 2, {})], replication_factor=1)
    again = TopicSpec(topic, 2, {"cleanup.policy": "compact"})
    await ensure_topics(client_options, [again], replication_factor=1)
    assert await config_of(client_options, topic, "cleanup.policy") == "delete"


async def test_workers_that_make_the_same_topics_at_once_all_succeed(
    client_options: dict[str, Any], topic: str
) -> None:
    specs = [TopicSpec(f"{topic}-{n}", 2, {}) for n in range(5)]
    await asyncio.gather(
        *(ensure_topics(client_options, specs, replication_factor=1) for _ in range(4))
    )
    names = [spec.name for spec in specs]
    assert await partition_counts(client_options, names) == dict.fromkeys(names, 2)


async def test_another_number_of_partitions_is_refused_in_one_line(
    client_options: dict[str, Any], topic: str
) -> None:
    await ensure_topics(client_options, [TopicSpec(topic, 2, {})], replication_factor=1)
    with pytest.raises(TopicError) as raised:
        await ensure_topics(client_options, [TopicSpec(topic, 4, {})], replication_factor=1)
    assert str(raised.value).startswith(f"topic {topic} has 2 partitions and needs 4: ")
    assert "\n" not in str(raised.value)


async def test_without_create_missing_topics_are_named_and_not_made(
    client_options: dict[str, Any], topic: str
) -> None:
    spec = TopicSpec(topic, 1, {})
    for _ in range(2):  # the first look must not have made it
        with pytest.raises(TopicError, match=f"^missing topics: {topic};"):
            await ensure_topics(client_options, [spec], replication_factor=1, create=False)


async def test_a_refusal_of_the_broker_is_told_with_its_reason(
    client_options: dict[str, Any], topic: str
) -> None:
    with pytest.raises(TopicError, match=f"refuses to create topic {topic}: .*eplication"):
        await ensure_topics(client_options, [TopicSpec(topic, 1, {})], replication_factor=9)
    bad = TopicSpec(topic, 1, {"cleanup.policy": "shred"})
    with pytest.raises(TopicError, match=f"refuses to create topic {topic}: .*shred"):
        await ensure_topics(client_options, [bad], replication_factor=1)


async def test_no_topics_need_no_more_than_a_broker(client_options: dict[str, Any]) -> None:
    await ensure_topics(client_options, [], replication_factor=1)


async def test_a_closed_port_is_an_unreachable_broker(topic: str) -> None:
    with socket.socket() as reserved:  # bound, never listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        options = {"bootstrap_servers": f"127.0.0.1:{reserved.getsockname()[1]}"}
        with pytest.raises(BrokerUnreachableError, match=r"^no Kafka broker at 127\.0\.0\.1:"):
            await ensure_topics(
                options, [TopicSpec(topic, 1, {})], replication_factor=1, timeout_s=0.5
            )


async def test_a_name_that_is_not_known_is_told(topic: str) -> None:
    options = {"bootstrap_servers": "kafka.invalid:9092"}  # a domain that is never given out
    with pytest.raises(BrokerUnreachableError, match=r"not know the name kafka\.invalid: check"):
        await ensure_topics(options, [TopicSpec(topic, 1, {})], replication_factor=1, timeout_s=2)


async def test_a_silent_broker_is_an_unreachable_broker(topic: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        options = {"bootstrap_servers": f"127.0.0.1:{silent.getsockname()[1]}"}
        with pytest.raises(BrokerUnreachableError, match=r"within 0\.5 s"):
            await ensure_topics(
                options, [TopicSpec(topic, 1, {})], replication_factor=1, timeout_s=0.5
            )


async def config_of(client_options: dict[str, Any], topic: str, name: str) -> str:
    """Return one setting of a topic."""
    admin = AIOKafkaAdminClient(**client_options)
    await admin.start()
    try:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        [answer] = await admin.describe_configs([resource])
        [(_, _, _, _, entries)] = answer.resources
        [value] = [entry[1] for entry in entries if entry[0] == name]
        return str(value)
    finally:
        await admin.close()
