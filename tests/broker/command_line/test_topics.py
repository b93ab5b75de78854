"""`headrace topics` on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import time
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.layout import DEAD_LETTER_CONFIG
from streams.topology import TOPOLOGY
from tests.broker.command_line.conftest import Headrace, Start

EVENT = {
    "event_id": "e-1",
    "event_type": "order.created",
    "aggregate_id": "o-1",
    "timestamp": 1_763_715_600_000,
    "data": {"order_id": "o-1", "user_id": "ada", "amount": 12.50, "items": [{}, {}]},
}


async def send(client: dict[str, Any], topic: str, *records: tuple[int, bytes | None]) -> None:
    """Send values of ada's to partitions, a millisecond apart."""
    async with AIOKafkaProducer(**client) as producer:
        start_ms = time.time_ns() // 1_000_000 - 1_000
        for time_ms, (partition, value) in enumerate(records, start_ms):
            await producer.send(topic, value, b"ada", partition, time_ms)


def sent(client: dict[str, Any], topic: str, *records: tuple[int, bytes | None]) -> None:
    asyncio.run(send(client, topic, *records))


class TestCreate:
    def test_it_makes_all_that_the_application_needs_and_a_second_time_nothing(
        self, headrace: Headrace, app_id: str
    ) -> None:
        first = json.loads(headrace("topics", "create", "--json").out)
        made = {each["topic"]: each["made"] for each in first}
        assert made.keys() >= {TOPOLOGY.dead_letters, *(topic.name for topic in TOPOLOGY.inputs)}
        assert made[f"{app_id}-user_orders-changelog"]
        again = headrace("topics", "create", "--json")
        assert again.status == 0
        assert {(each["partitions"], each["made"]) for each in json.loads(again.out)} == {
            (2, False)
        }

    def test_another_number_of_partitions_than_there_is_is_refused(
        self, headrace: Headrace
    ) -> None:
        done = headrace("topics", "create", "--partitions", "5")
        assert done.status == 1
        assert done.err.startswith("headrace: topic ")
        assert "is there with 2 partitions, not 5" in done.err
        assert len(done.err.splitlines()) == 1

    def test_the_topic_that_was_asked_for_is_the_one_that_is_refused(
        self, headrace: Headrace, app_id: str
    ) -> None:
        done = headrace("topics", "create", "orders", "--partitions", "8")
        assert done.err.startswith("headrace: topic orders is there with 2 partitions, not 8: ")
        new = f"{app_id}-users-changelog"
        done = headrace("topics", "create", new, "--partitions", "8")
        assert done.err.startswith(
            f"headrace: topic {new} must have as many partitions as users (2)"
        )

    def test_kafka_s_own_topics_are_internal(self, headrace: Headrace) -> None:
        headrace("lag")  # asks for a group, and so makes Kafka make it
        [topic] = json.loads(headrace("topics", "create", "__consumer_offsets", "--json").out)
        assert (topic["kind"], topic["made"]) == ("internal", False)

    def test_an_input_s_number_of_partitions_is_that_of_the_other_inputs(
        self, headrace: Headrace, monkeypatch: pytest.MonkeyPatch, app_id: str
    ) -> None:
        monkeypatch.setenv("HEADRACE_PARTITIONS", "7")
        changelog = f"{app_id}-user_orders-changelog"
        [made] = json.loads(headrace("topics", "create", changelog, "--json").out)
        assert made == {"topic": changelog, "kind": "changelog", "partitions": 2, "made": True}

    def test_what_the_broker_refuses_is_one_line(self, headrace: Headrace) -> None:
        done = headrace("topics", "create", "copies", "--replication-factor", "3")
        assert done.status == 1
        assert done.err.startswith("headrace: the broker refuses to create topic copies: ")


class TestList:
    def test_it_shows_the_application_s_topics_and_those_that_are_missing(
        self, headrace: Headrace, topic: str, app_id: str
    ) -> None:
        shown = {
            each["topic"]: each for each in json.loads(headrace("topics", "list", "--json").out)
        }
        assert shown["orders"]["kind"] == "input"
        assert shown["orders"]["partitions"] == 2
        assert shown["dead-letters"]["kind"] == "dead letters"
        absent = shown[f"{app_id}-user_orders-changelog"]
        assert (absent["kind"], absent["partitions"], absent["records"]) == ("changelog", 0, None)
        assert topic not in shown

    def test_all_are_the_others_too_with_their_records(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        sent(client, topic, (0, b"1"), (1, b"2"), (1, b"3"))
        done = headrace("topics", "list", "--all")
        [row] = [line.split() for line in done.lines if line.startswith(topic)]
        assert row == [topic, "other", "2", "3"]

    def test_a_cluster_with_hundreds_of_topics_is_listed_too(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        names = [f"{topic}-{number}" for number in range(300)]
        specs = [TopicSpec(name, 1, {}) for name in names]
        asyncio.run(ensure_topics(client, specs, replication_factor=1))
        listed = json.loads(headrace("topics", "list", "--all", "--json").out)
        records = {each["topic"]: each["records"] for each in listed}
        assert [records[name] for name in names] == [0] * len(names)

    def test_on_a_terminal_it_is_a_table_with_colours(self, start: Start, topic: str) -> None:
        ours, theirs = pty.openpty()
        process = start("topics", "list", "--all", stdout=theirs)
        os.close(theirs)
        text = b""
        while topic.encode() not in text:
            text += os.read(ours, 4_096)
        process.kill()
        os.close(ours)
        assert b"\x1b[1m" in text
        assert "──".encode() in text


class TestDescribe:
    def test_it_shows_partitions_and_what_is_not_default(
        self, headrace: Headrace, client: dict[str, Any]
    ) -> None:
        done = headrace("topics", "describe", "dead-letters")
        rows = [line.split() for line in done.lines]
        assert ["retention.ms", "-1", "topic"] in rows
        assert "compression.type" not in done.out
        facts = json.loads(headrace("topics", "describe", "dead-letters", "--json").out)
        assert facts["config"]["max.message.bytes"] == DEAD_LETTER_CONFIG["max.message.bytes"]
        assert [each["partition"] for each in facts["partitions"]] == [0, 1]
        assert facts["partitions"][0]["replicas"] == facts["partitions"][0]["in_sync"] == [0]

    @pytest.mark.parametrize("command", ["describe", "tail"])
    def test_an_unknown_topic_is_one_line(self, headrace: Headrace, command: str) -> None:
        for _ in range(2):  # asking must not make it
            done = headrace("topics", command, "nowhere")
            assert (done.status, done.out) == (1, "")
            assert done.err.startswith("headrace: there is no topic nowhere, ")
            assert len(done.err.splitlines()) == 1


class TestTail:
    def test_an_event_is_its_type_and_main_fields_and_all_else_raw_text(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        event = json.dumps(EVENT).encode()
        sent(client, topic, (1, event), (1, b"\x1b[2Jno event \xff"), (1, None))
        lines = [line.split("  ", 1) for line in headrace("topics", "tail", topic).lines]
        assert all(moment.endswith("Z") for moment, _ in lines)
        assert [text for _, text in lines] == [
            "1@0  ada  order.created  order_id=o-1  amount=12.5  items[2]",
            r"1@1  ada  \x1b[2Jno event \xff",
            "1@2  ada  null (tombstone)",
        ]

    def test_the_last_are_those_of_all_partitions_together(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        sent(client, topic, *[(n % 2, b"%d" % n) for n in range(160)])
        lines = headrace("topics", "tail", topic, "-n", "5").lines
        assert [line.split()[-1] for line in lines] == ["155", "156", "157", "158", "159"]
        lines = headrace("topics", "tail", topic, "-n", "2", "-p", "0").lines
        assert [line.split()[1:] for line in lines] == [
            ["0@78", "ada", "156"],
            ["0@79", "ada", "158"],
        ]
        everything = headrace("topics", "tail", topic, "--from-beginning", "--until-end").lines
        assert len(everything) == 160

    def test_records_before_many_markers_of_transactions_are_found(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        async def send_in_transactions() -> None:
            producer = AIOKafkaProducer(**client, transactional_id=topic)
            async with producer:
                for n in range(40):
                    await producer.begin_transaction()
                    await producer.send_and_wait(topic, b"%d" % n, partition=0)
                    if n > 1:
                        await producer.abort_transaction()
                    else:
                        await producer.commit_transaction()

        asyncio.run(send_in_transactions())
        lines = headrace("topics", "tail", topic, "-n", "2").lines
        assert [line.split()[-1] for line in lines] == ["0", "1"]

    def test_json_has_the_value_digit_by_digit_on_one_line(
        self, headrace: Headrace, client: dict[str, Any], topic: str
    ) -> None:
        sent(client, topic, (0, b'{"amount":\n 12.50}'), (0, b"text"), (0, b"\xff"), (0, None))
        done = headrace("topics", "tail", topic, "--json")
        assert '"value":{"amount":12.50}' in done.lines[0]
        objects = [json.loads(line) for line in done.lines]
        assert [each["offset"] for each in objects] == [0, 1, 2, 3]
        assert objects[0]["key"] == "ada"
        assert (objects[1]["text"], objects[2]["base64"], objects[3]["value"]) == (
            "text",
            "/w==",
            None,
        )

    def test_following_shows_what_comes_and_sigterm_ends_it_with_0(
        self, start: Start, client: dict[str, Any], topic: str
    ) -> None:
        sent(client, topic, (0, b"before"))
        process = start("topics", "tail", topic, "--follow")
        assert process.stdout is not None
        assert "before" in process.stdout.readline()
        sent(client, topic, (1, b"after"))
        assert "after" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 0

    def test_a_reader_that_has_enough_hears_no_complaint(
        self, start: Start, client: dict[str, Any], topic: str
    ) -> None:
        sent(client, topic, *[(0, b"x" * 900) for _ in range(200)])
        process = start("topics", "tail", topic, "--from-beginning", "--follow")
        assert process.stdout is not None
        assert "0@0" in process.stdout.readline()
        process.stdout.close()
        sent(client, topic, (0, b"one more"))
        process.wait(20)
        assert process.stderr is not None
        assert process.stderr.read() == ""

    def test_nothing_to_show_is_said(self, headrace: Headrace, topic: str) -> None:
        assert headrace("topics", "tail", topic) == (0, "", "no records\n")

    def test_a_partition_that_is_not_there_is_named(self, headrace: Headrace, topic: str) -> None:
        done = headrace("topics", "tail", topic, "-p", "2")
        assert done.err == f"headrace: topic {topic} has no partition 2: it has 0 to 1\n"

    def test_last_and_from_beginning_exclude_each_other(
        self, headrace: Headrace, topic: str
    ) -> None:
        assert headrace("topics", "tail", topic, "-n", "1", "--from-beginning").status == 2


def test_a_broker_that_is_not_there_is_one_line(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    monkeypatch.setattr("commands.topic_facts.ANSWER_TIMEOUT_S", 0.5)
    done = headrace("topics", "list")
    assert done.status == 1
    assert done.err.startswith("headrace: no Kafka broker at 127.0.0.1:1 answered within 0.5 s")
    assert len(done.err.splitlines()) == 1


def test_verbose_stands_behind_each_command(start: Start) -> None:
    process = start("topics", "describe", "nowhere", "--verbose")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" in err
    assert "nowhere" in err.splitlines()[-1]
