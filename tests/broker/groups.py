"""How far a consumer group is, and input for it."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from demo.generator import TopicKeyValue, partition_of
from tests.waiting import until


@asynccontextmanager
async def sender(
    client: Mapping[str, Any], partitions: int
) -> AsyncIterator[Callable[[Iterable[TopicKeyValue]], Awaitable[None]]]:
    """Give what sends records, each to its key's partition; when it returns, Kafka has them all."""
    producer = AIOKafkaProducer(
        **client,
        enable_idempotence=True,  # a broker that dies doubles nothing
        compression_type="lz4",
        max_batch_size=262_144,
        max_request_size=16 << 20,
    )

    async def send_all(records: Iterable[TopicKeyValue]) -> None:
        sent = []
        # Batches: `send` refuses a record without key and value, which is among the poison.
        batches: dict[tuple[str, int], Any] = defaultdict(producer.create_batch)
        for topic, key, value in records:
            at = topic, partition_of(key, partitions)
            if batches[at].append(key=key, value=value, timestamp=None) is None:
                sent.append(await producer.send_batch(batches.pop(at), topic, partition=at[1]))
                batches[at].append(key=key, value=value, timestamp=None)
        for (topic, partition), batch in batches.items():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
        await asyncio.gather(*sent)

    async with producer:
        yield send_all


async def send(
    client: Mapping[str, Any], partitions: int, records: Iterable[TopicKeyValue]
) -> None:
    """Send records once."""
    async with sender(client, partitions) as send_all:
        await send_all(records)


async def caught_up(
    client: Mapping[str, Any],
    group: str,
    topics: Iterable[str],
    partitions: int,
    *,
    deadline_s: float = 90,
) -> None:
    """Return when a group has committed all that the topics hold now. Raises TimeoutError."""
    wanted = [TopicPartition(topic, n) for topic in topics for n in range(partitions)]
    async with AIOKafkaConsumer(**client) as consumer:
        ends = {tp: end for tp, end in (await consumer.end_offsets(wanted)).items() if end}
    admin = AIOKafkaAdminClient(**client)
    await admin.start()

    async def is_there() -> bool:
        try:
            committed = await admin.list_consumer_group_offsets(group, partitions=wanted)
        except KafkaError:  # a group that nobody has asked for yet has no coordinator
            return False
        return all(tp in committed and committed[tp].offset >= end for tp, end in ends.items())

    try:
        await until(is_there, deadline_s=deadline_s)
    finally:
        await admin.close()


async def committed_records(
    client: Mapping[str, Any], group: str, topics: Iterable[str], partitions: int
) -> int:
    """Return how many records of the topics a group has committed."""
    admin = AIOKafkaAdminClient(**client)
    await admin.start()
    try:
        wanted = [TopicPartition(topic, n) for topic in topics for n in range(partitions)]
        found = await admin.list_consumer_group_offsets(group, partitions=wanted)
    except KafkaError:  # a group that nobody has asked for yet has no coordinator
        return 0
    finally:
        await admin.close()
    return sum(max(0, each.offset) for each in found.values())
