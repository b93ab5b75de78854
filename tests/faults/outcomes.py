"""What came out of an application on a real Kafka, read back in full, to be held against the oracle."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from demo.generator import OrderGenerator, TopicKeyValue, partition_of
from demo.oracle import DeadLetter, Derived, Outcome, Source, parse
from demo.readback import CHECKED, INPUTS, OUTPUTS
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.store import Position, Store
from tests.faults.workers import WorkerProcess

Ends = Mapping[TopicPartition, int]
DERIVED = (*OUTPUTS, "dead-letters")


async def fill(bootstrap: str, partitions: int, records: int, **generator: Any) -> None:
    """Make the input topics if they are not there; produce life-like records, as fast as they come."""
    made = OrderGenerator(**generator).records(lambda: time.time_ns() // 1_000_000)
    await send(bootstrap, partitions, islice(made, records))


async def send(bootstrap: str, partitions: int, records: Iterable[TopicKeyValue]) -> None:
    """Make the input topics if they are not there, and send records to them."""
    specs = [TopicSpec(topic, partitions, {"retention.ms": "-1"}) for topic in INPUTS]
    await ensure_topics({"bootstrap_servers": bootstrap}, specs, replication_factor=1)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type="lz4",
        max_batch_size=131_072,
        max_request_size=4 << 20,
        linger_ms=0,
    )
    await producer.start()
    sent = []
    batches: dict[tuple[str, int], Any] = defaultdict(producer.create_batch)
    for topic, key, value in records:
        at = topic, partition_of(key, partitions)
        if batches[at].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batches.pop(at), topic, partition=at[1]))
            batches[at].append(key=key, value=value, timestamp=None)
    for (topic, partition), batch in batches.items():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
    await producer.stop()


async def ends(bootstrap: str, topics: Iterable[str], partitions: int) -> dict[TopicPartition, int]:
    """Return the end of each partition; 0 for topics that are not there yet."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    try:
        present = await consumer.topics()
        tps = [TopicPartition(t, p) for t in topics for p in range(partitions)]
        known = await consumer.end_offsets([tp for tp in tps if tp.topic in present])
    finally:
        await consumer.stop()
    return {tp: known.get(tp, 0) for tp in tps}


async def wait_until_done(
    bootstrap: str,
    group: str,
    wanted: Ends,
    *,
    workers: Iterable[WorkerProcess],
    deadline_s: float,
    share: float = 1.0,
) -> None:
    """Return when the group has committed `share` of all up to the wanted ends.

    Raises TimeoutError, or AssertionError as soon as a worker has ended by itself.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    found = await admin.list_consumer_group_offsets(group, partitions=list(wanted))
                except KafkaError:
                    found = {}
                done = sum(max(0, found[tp].offset) for tp in wanted if tp in found)
                if done >= share * sum(wanted.values()):
                    return
                for worker in workers:
                    assert worker.process.poll() is None, worker.said()[-2_000:]
                await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def read_all(bootstrap: str, begins: Ends) -> dict[TopicPartition, list[Any]]:
    """Return all committed records of partitions from `begins` on."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed",
        max_partition_fetch_bytes=8 << 20,
    )
    await consumer.start()
    found: dict[TopicPartition, list[Any]] = defaultdict(list)
    try:
        present = await consumer.topics()
        tps = [tp for tp in begins if tp.topic in present]
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, begins[tp])
        until = await consumer.end_offsets(tps)
        async with asyncio.timeout(120):
            while any([await consumer.position(tp) < until[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp] += records
    finally:
        await consumer.stop()
    return found


async def read_input(bootstrap: str, partitions: int) -> dict[str, dict[int, list[Source]]]:
    """Return the input as the oracle takes it."""
    begins = {TopicPartition(topic, p): 0 for topic in INPUTS for p in range(partitions)}
    sources: dict[str, dict[int, list[Source]]] = {topic: {} for topic in INPUTS}
    for tp, records in (await read_all(bootstrap, begins)).items():
        sources[tp.topic][tp.partition] = [
            Source(r.offset, r.timestamp, r.key, r.value) for r in records
        ]
    return sources


async def read_outcome(
    bootstrap: str, application_id: str, begins: Ends, expected: Outcome
) -> Outcome:
    """Return what an application wrote from `begins` on: derived events, dead letters, changelogs.

    What no topic tells of, skipped and late records, is as expected.
    """
    changelogs = {f"{application_id}-{table}-changelog": table for table in CHECKED}
    partitions = 1 + max(tp.partition for tp in begins)
    everything = {
        **begins,
        **{TopicPartition(c, p): 0 for c in changelogs for p in range(partitions)},
    }
    outcome = Outcome(
        tables={table: {} for table in CHECKED},
        derived={topic: {} for topic in OUTPUTS},
        skipped=expected.skipped,
        late=expected.late,
    )
    for tp, records in (await read_all(bootstrap, everything)).items():
        if tp.topic in OUTPUTS:
            events = [Derived(r.key, parse(r.value)) for r in records]
            outcome.derived[tp.topic][tp.partition] = events
        elif tp.topic == "dead-letters":
            outcome.dead_letters += [_dead_letter(dict(r.headers)) for r in records]
        elif tp.topic in changelogs:
            fold(outcome.tables[changelogs[tp.topic]], records)
    return outcome


def fold(rows: dict[str, Any], changelog: Iterable[Any]) -> None:
    """Apply a changelog's records to a table's rows."""
    for record in changelog:
        if record.value is None:
            rows.pop(record.key.decode(), None)
        else:
            rows[record.key.decode()] = parse(record.value)


def _dead_letter(headers: Mapping[str, bytes]) -> DeadLetter:
    return DeadLetter(
        headers["__streams.errors.topic"].decode(),
        int(headers["__streams.errors.partition"]),
        int(headers["__streams.errors.offset"]),
        headers["headrace.reason"].decode(),
    )


def stored_rows(folders: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """Return each table's rows in RocksDB; of a task that lies in several folders, the newest."""
    newest: dict[str, tuple[int, dict[str, dict[str, Any]]]] = {}
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            store = Store(path, read_only=True)
            position = store.position() or Position(partitions=0)
            tables = {t: {key: parse(value) for key, value in store.scan(t)} for t in CHECKED}
            store.close()
            stands_at = sum(position.sources.values())
            if stands_at >= newest.get(path.name, (-1, {}))[0]:
                newest[path.name] = (stands_at, tables)
    stored: dict[str, dict[str, Any]] = {table: {} for table in CHECKED}
    for _, tables in newest.values():
        for table, rows in tables.items():
            stored[table] |= rows
    return stored
