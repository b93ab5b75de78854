"""Runs against aiokafka's own records, of the same topic and of the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, errors
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from streams.engine import runs
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.records import Run, TopicPartition
from tests.waiting import DEADLINE_S

LEVELS = ["read_committed", "read_uncommitted"]
CODECS = [None, "gzip", "snappy", "lz4", "zstd"]
Row = tuple[int, int, bytes | None, bytes | None]


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        fetcher, "PartitionRecords", fetcher.PartitionRecords
    )  # put back afterwards
    runs.install()


@pytest.fixture
async def tp(client_options: dict[str, Any], topic: str) -> TopicPartition:
    await ensure_topics(client_options, [TopicSpec(topic, 1, {})], replication_factor=1)
    return TopicPartition(topic, 0)


async def fetched(
    client_options: dict[str, Any], tp: TopicPartition, begin: int, level: str, **options: Any
) -> tuple[list[Any], int]:
    """Return what a consumer gives from `begin` to the end, and its position then."""
    consumer = AIOKafkaConsumer(
        **client_options, isolation_level=level, auto_offset_reset="none", **options
    )
    await consumer.start()
    try:
        consumer.assign([tp])
        [end] = (await consumer.end_offsets([tp])).values()
        consumer.seek(tp, begin)
        found: list[Any] = []
        async with asyncio.timeout(DEADLINE_S):
            while await consumer.position(tp) < end:
                for given in (await consumer.getmany(tp, timeout_ms=100)).values():
                    found += given
        return found, await consumer.position(tp)
    finally:
        await consumer.stop()


async def assert_equal(
    client_options: dict[str, Any], tp: TopicPartition, begin: int, level: str
) -> list[Row]:
    """Assert that runs hold what aiokafka's records do; return it."""
    given, position = await fetched(
        client_options, tp, begin, level, value_deserializer=runs.AS_RUNS
    )
    assert all(isinstance(run, Run) for run in given)
    joined = runs.join(given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetcher, "PartitionRecords", runs.ORIGINAL)
        records, records_position = await fetched(client_options, tp, begin, level)
    rows = rows_of(joined)
    assert rows == [(r.offset, r.timestamp, r.key, r.value) for r in records]
    assert joined.next_offset == position == records_position
    return rows


def rows_of(run: Run) -> list[Row]:
    return list(zip(run.offsets, run.timestamps_ms, run.keys, run.values, strict=True))


async def send(producer: AIOKafkaProducer, tp: TopicPartition, rows: Sequence[Any]) -> None:
    """Send rows of key and value as one record batch."""
    batch = producer.create_batch()
    for n, (key, value) in enumerate(rows):
        headers = [("n", b"%d" % n)] if n % 3 else []
        batch.append(key=key, value=value, timestamp=1_700_000_000_000 + n, headers=headers)
    batch.close()
    await (await producer.send_batch(batch, tp.topic, partition=tp.partition))


def rows(count: int, word: bytes = b"v") -> list[tuple[bytes, bytes]]:
    return [(b"key %d" % n, word * 20) for n in range(count)]


@pytest.mark.parametrize("codec", CODECS, ids=str)
async def test_batches_of_every_codec_are_read_alike_from_any_offset_within_them(
    client_options: dict[str, Any], tp: TopicPartition, codec: str | None
) -> None:
    async with AIOKafkaProducer(**client_options, compression_type=codec) as producer:
        for _ in range(3):
            await send(producer, tp, rows(20))
    for begin in (0, 7, 19, 20, 59):
        found = await assert_equal(client_options, tp, begin, "read_committed")
        assert [row[0] for row in found] == list(range(begin, 60))


async def test_null_and_empty_keys_and_values_are_read_alike(
    client_options: dict[str, Any], tp: TopicPartition
) -> None:
    async with AIOKafkaProducer(**client_options) as producer:
        await send(producer, tp, [(None, b"a"), (b"", b""), (b"b", None), (b"c", b"d")])
    found = await assert_equal(client_options, tp, 0, "read_committed")
    assert [row[2:] for row in found] == [(None, b"a"), (b"", b""), (b"b", None), (b"c", b"d")]


@pytest.mark.parametrize("level", LEVELS)
async def test_aborted_transactions_and_control_records_are_passed_alike(
    client_options: dict[str, Any], tp: TopicPartition, level: str
) -> None:
    async with (
        AIOKafkaProducer(**client_options, transactional_id=f"{tp.topic}-a") as one,
        AIOKafkaProducer(**client_options, transactional_id=f"{tp.topic}-b") as other,
        AIOKafkaProducer(**client_options) as plain,
    ):
        for aborts in (True, False, True):  # interleaved with another one that commits
            await one.begin_transaction()
            await other.begin_transaction()
            for _ in range(2):
                await send(one, tp, rows(3, b"one"))
                await send(other, tp, rows(2, b"other"))
            await send(plain, tp, rows(1, b"plain"))
            await (one.abort_transaction() if aborts else one.commit_transaction())
            await send(plain, tp, rows(1, b"plain"))
            await other.commit_transaction()
    for begin in (0, 1, 4, 11, 13, 20):
        await assert_equal(client_options, tp, begin, level)
    values = [row[3] for row in await assert_equal(client_options, tp, 0, level)]
    assert values.count(b"one" * 20) == (6 if level == "read_committed" else 18)
    assert values.count(b"other" * 20) == 12
    assert values.count(b"plain" * 20) == 6


async def test_a_consumer_that_asks_for_no_runs_gets_aiokafkas_records(
    client_options: dict[str, Any], tp: TopicPartition
) -> None:
    async with AIOKafkaProducer(**client_options) as producer:
        await send(producer, tp, rows(5))
    assert fetcher.PartitionRecords is not runs.ORIGINAL
    with_runs_installed, _ = await fetched(
        client_options, tp, 2, "read_committed", value_deserializer=bytes.decode
    )
    fetcher.PartitionRecords = runs.ORIGINAL
    without, _ = await fetched(
        client_options, tp, 2, "read_committed", value_deserializer=bytes.decode
    )
    assert with_runs_installed == without
    assert [record.value for record in without] == ["v" * 20] * 3
    assert without[0].headers == (("n", b"2"),)


# -- what a broker cannot be made to send quickly --------------------------------------------------


def batch(base: int, offsets: Sequence[int], last: int) -> bytearray:
    """Return a record batch as compaction leaves it: `last` may lie behind the last record."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1 << 20)
    for offset in offsets:
        builder.append(offset - base, 1_000 + offset, b"%d" % offset, b"value", [])
    builder._last_offset = last - base
    built = bytearray(builder.build())
    built[:8] = base.to_bytes(8, "big")  # the broker's; the checksum does not cover it
    return built


def given(data: bytes, begin: int, marker: Any) -> Any:
    records = MemoryRecords(data)
    tp, level = TopicPartition("t", 0), fetcher.READ_COMMITTED
    return fetcher.PartitionRecords(tp, records, [], begin, None, marker, True, level)


@pytest.mark.parametrize("begin", [0, 4, 6, 10, 15, 31])
def test_gaps_that_compaction_leaves_are_passed_alike(begin: int) -> None:
    data = bytes(batch(0, [1, 4, 5], 9) + batch(10, [], 19) + batch(20, [20, 31], 39))
    with_runs, with_records = given(data, begin, runs.AS_RUNS), given(data, begin, None)
    joined = runs.join(list(with_runs))
    records = list(with_records)
    assert rows_of(joined) == [(r.offset, r.timestamp, r.key, r.value) for r in records]
    assert joined.next_offset == 40
    assert with_runs.next_fetch_offset == with_records.next_fetch_offset == 40


@pytest.mark.parametrize("marker", [runs.AS_RUNS, None], ids=["runs", "records"])
def test_a_wrong_checksum_is_an_error_and_the_position_stays_before_it(marker: Any) -> None:
    data = batch(0, [0, 1], 1) + batch(2, [2, 3], 3)
    data[-1] ^= 1
    broken = given(bytes(data), 0, marker)
    with pytest.raises(errors.CorruptRecordException, match="Invalid CRC"):
        list(broken)
    assert broken.next_fetch_offset == 2


def test_the_position_follows_each_run_as_it_is_taken() -> None:
    taken = given(bytes(batch(0, [0, 1], 4) + batch(5, [5], 5)), 0, runs.AS_RUNS)
    assert next(taken).next_offset == 5
    assert taken.next_fetch_offset == 5
    assert next(taken).next_offset == 6


# -- what runs.py leans on -------------------------------------------------------------------------

REVIEWED = "2209b2b6a8ae313c"


def test_aiokafkas_inner_parts_are_those_that_runs_were_written_for() -> None:
    """When this fails: read what has changed, mend streams/engine/runs.py, then the digest."""
    inner = runs.ORIGINAL
    parts = [inner, fetcher.FetchResult, fetcher.Fetcher._proc_fetch_request]
    source = "".join(inspect.getsource(part) for part in parts)
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == REVIEWED
