"""`headrace produce` on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from tests.broker.command_line.conftest import Headrace, Start
from tests.unit.wire import order

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ATTRIBUTES = 22  # the byte of a record batch whose lower three bits are its codec
WAIT_S = 20


async def read(client: Mapping[str, Any], topic: str) -> list[ConsumerRecord]:
    """Return all records of a topic of two partitions."""
    found: list[ConsumerRecord] = []
    async with AIOKafkaConsumer(**client, auto_offset_reset="earliest") as consumer:
        partitions = [TopicPartition(topic, number) for number in (0, 1)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        async with asyncio.timeout(WAIT_S):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
    return found


def records_of(client: Mapping[str, Any], topic: str) -> list[ConsumerRecord]:
    return asyncio.run(read(client, topic))


def end_of(client: Mapping[str, Any], topic: str) -> int:
    """Return the sum of the end offsets of a topic of two partitions."""

    async def ends() -> dict[TopicPartition, int]:
        async with AIOKafkaConsumer(**client) as consumer:
            found: dict[TopicPartition, int] = await consumer.end_offsets(
                [TopicPartition(topic, number) for number in (0, 1)]
            )
            return found

    return sum(asyncio.run(ends()).values())


def by_kafka(client: Mapping[str, Any], topic: str, keys: list[bytes]) -> dict[bytes, int]:
    """Return the partition that aiokafka's own producer takes for each key."""

    async def sent() -> dict[bytes, int]:
        async with AIOKafkaProducer(**client) as producer:
            return {key: (await producer.send_and_wait(topic, b"x", key)).partition for key in keys}

    return asyncio.run(sent())


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "lines.jsonl"


class TestLines:
    def test_the_key_is_the_declared_one_on_the_partition_of_kafka_s_own_clients(
        self, headrace: Headrace, client: dict[str, Any], topic: str, lines: Path
    ) -> None:
        users = [f"user-{n}" for n in range(20)]
        events = [order(data={"user_id": user}) for user in users]
        lines.write_bytes(b"\n".join(events) + b"\n\n")
        done = headrace("produce", "orders", str(lines), "--json")
        assert done.status == 0
        assert json.loads(done.out)["records"] == 20
        found = {r.value: (r.key, r.partition) for r in records_of(client, "orders")}
        keys = by_kafka(client, topic, [user.encode() for user in users])
        for user, event in zip(users, events, strict=True):
            assert found[event] == (user.encode(), keys[user.encode()])

    def test_one_bad_line_keeps_all_from_being_sent_and_is_named(
        self, headrace: Headrace, client: dict[str, Any], lines: Path
    ) -> None:
        before = end_of(client, "orders")
        bad = [b"no json", order(data={"amount": -1}), order(timestamp=2**53), b"[]"]
        lines.write_bytes(b"\n".join([order(), b"", *bad]))
        done = headrace("produce", "orders", str(lines))
        assert (done.status, done.out) == (1, "")
        assert len(done.err.splitlines()) == 1
        assert f"{lines}: 4 of 5 lines are refused, and nothing was sent: line 3: " in done.err
        assert "line 4: invalid-field: data.amount: " in done.err
        assert "and 1 more" in done.err
        assert end_of(client, "orders") == before

    def test_as_is_sends_every_byte_of_every_line(
        self, headrace: Headrace, client: dict[str, Any], topic: str, lines: Path
    ) -> None:
        poison = [b"\xff\x00", b"", b" {} \r", b'{"data":{"user_id":"ada"}}']
        lines.write_bytes(b"\n".join(poison))
        path = str(lines)
        assert (
            headrace("produce", topic, path, "--as-is", "--key-field", "data.user_id").status == 0
        )
        found = {record.value: record.key for record in records_of(client, topic)}
        assert found == {b"\xff\x00": None, b"": None, b" {} \r": None, poison[3]: b"ada"}

    def test_lines_as_they_are_that_were_to_hold_a_key_and_do_not_are_named(
        self, headrace: Headrace, client: dict[str, Any], topic: str, lines: Path
    ) -> None:
        lines.write_bytes(b"ada\tx\nno tab\n")
        done = headrace("produce", topic, str(lines), "--keyed", "--as-is")
        assert done.status == 1
        assert "1 of 2 lines are refused, and nothing was sent: line 2: no tab" in done.err
        assert "--as-is" not in done.err
        assert end_of(client, topic) == 0

    def test_records_of_a_type_that_the_topic_does_not_know_are_told(
        self, headrace: Headrace, lines: Path
    ) -> None:
        lines.write_bytes(order() + b"\n" + order())
        done = headrace("produce", "users", str(lines))
        assert done.status == 0
        told = "2 of 2 records have a type that users does not know: workers skip them\n"
        assert done.err == told

    def test_keyed_lines_have_their_key_before_the_tab(
        self, headrace: Headrace, client: dict[str, Any], topic: str, lines: Path
    ) -> None:
        lines.write_bytes(b'ada\t{"n":\t1}\nbob\t{}\n')
        assert headrace("produce", topic, str(lines), "--keyed").status == 0
        found = {record.key: record.value for record in records_of(client, topic)}
        assert found == {b"ada": b'{"n":\t1}', b"bob": b"{}"}

    def test_standard_input_is_read_when_no_file_is_named(
        self, start: Start, client: dict[str, Any], topic: str
    ) -> None:
        process = start("produce", topic, "--key-field", "id", stdin=subprocess.PIPE)
        out, err = process.communicate('{"id": 7}\n{"id": "x"}\n', timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.startswith(f"2 records to {topic} in ")
        assert {(record.key, record.value) for record in records_of(client, topic)} == {
            (b"7", b'{"id": 7}'),
            (b"x", b'{"id": "x"}'),
        }

    @pytest.mark.parametrize("codec", CODECS)
    def test_each_codec_is_used_and_can_be_read(  # noqa: PLR0917 - fixtures
        self,
        headrace: Headrace,
        client: dict[str, Any],
        kafka_dir: Path,
        topic: str,
        lines: Path,
        codec: str,
    ) -> None:
        value = json.dumps({"text": "once more " * 50}).encode()
        lines.write_bytes(b"\n".join(f"k\t{value.decode()}".encode() for _ in range(50)))
        assert headrace("produce", topic, str(lines), "--keyed", "--compression", codec).status == 0
        found = records_of(client, topic)
        assert [record.value for record in found] == [value] * 50
        [log] = kafka_dir.glob(f"broker-0/**/{topic}-{found[0].partition}/*.log")
        assert log.read_bytes()[ATTRIBUTES] & 7 == CODECS[codec]

    def test_a_record_that_is_too_large_is_named_by_its_line(
        self, headrace: Headrace, topic: str, lines: Path
    ) -> None:
        large = json.dumps({"text": "".join(map(str, range(300_000)))}).encode()
        lines.write_bytes(b"{}\n" + large + b"\n{}\n")
        done = headrace("produce", topic, str(lines), "--compression", "none")
        assert done.status == 1
        assert done.err.startswith("headrace: line 2 is larger than the broker takes")

    def test_an_unknown_topic_is_one_line_and_not_made(
        self, headrace: Headrace, lines: Path
    ) -> None:
        lines.write_bytes(b"{}\n")
        for _ in range(2):
            done = headrace("produce", "nowhere", str(lines))
            assert done.status == 1
            assert done.err.startswith("headrace: there is no topic nowhere, ")


class TestRate:
    def test_it_makes_up_users_and_orders_at_the_rate(self, headrace: Headrace) -> None:
        args = ("--rate", "500", "--seconds", "1", "--seed", "1", "--poison", "0.1", "--json")
        done = headrace("produce", *args)
        outcome = json.loads(done.out)
        assert outcome["topics"] == ["users", "orders"]
        assert (outcome["records"], outcome["is_whole"]) == (500, True)
        assert outcome["seconds"] >= 1
        assert json.loads(headrace("produce", "users", *args).out)["topics"] == ["users"]

    def test_asked_to_it_makes_up_payments(
        self, headrace: Headrace, client: dict[str, Any], start: Start
    ) -> None:
        assert headrace("topics", "create", "payments").status == 0
        process = start("produce", "payments", "--payments", "--rate", "200", "--json")
        while not end_of(client, "payments"):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=20)
        assert json.loads(out)["topics"] == ["payments"]
        sent = {json.loads(record.value)["event_type"] for record in records_of(client, "payments")}
        assert sent <= {"payment.completed", "payment.failed"}

    def test_asked_to_it_makes_up_products_and_repeats(
        self, headrace: Headrace, client: dict[str, Any]
    ) -> None:
        assert headrace("topics", "create", "products").status == 0
        args = ("--products", "--repeats", "--rate", "1000", "--seconds", "1", "--json")
        outcome = json.loads(headrace("produce", *args).out)
        assert outcome["topics"] == ["users", "orders", "products"]
        [first, *_] = records_of(client, "products")
        assert json.loads(first.value)["event_type"] == "product.created"

    @pytest.mark.parametrize(
        ("more", "number", "status"),
        [((), signal.SIGINT, 0), (("--seconds", "60"), signal.SIGTERM, 143)],
    )
    def test_a_signal_ends_it_and_what_was_sent_is_told(
        self,
        start: Start,
        client: dict[str, Any],
        more: tuple[str, ...],
        number: signal.Signals,
        status: int,
    ) -> None:
        before = end_of(client, "orders")
        process = start("produce", "orders", "--rate", "200", "--json", *more)
        while end_of(client, "orders") == before:
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (status, "")
        outcome = json.loads(out)
        assert outcome["records"] == end_of(client, "orders") - before
        assert outcome["is_whole"] == (status == 0)
