"""`headrace dead-letters` on a real Kafka."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams.broker import EmbeddedKafka
from streams.engine import dead_letters
from streams.engine.batch import Failure
from streams.engine.records import Reason, Record, Reject, TopicPartition
from streams.topology import TOPOLOGY
from tests.broker.command_line.conftest import Headrace, Start
from tests.unit.wire import run_of

NOW_MS = 1_763_715_600_000


def refused(offset: int, reason: Reason, value: bytes) -> Record:
    run = run_of(value, offset=offset)
    return dead_letters.rejected(
        TopicPartition("orders", 1), run, Reject(0, reason, f"it is {reason}"), NOW_MS + offset
    )


def failed(offset: int) -> Record:
    error = ZeroDivisionError("division by zero")
    run = run_of(b'{"the":"value"}', offset=offset)
    failure = Failure(TOPOLOGY.flows[0], error)
    return dead_letters.failed(TopicPartition("orders", 1), run, 0, failure, NOW_MS + offset)


LETTERS = [
    refused(3, Reason.UNDECODABLE, b"\xff\x00 no text"),
    refused(5, Reason.INVALID_FIELD, b"{}"),
    failed(7),
    refused(9, Reason.INVALID_FIELD, b"{}"),
]


async def send(client: dict[str, Any], letters: list[Record]) -> None:
    async with AIOKafkaProducer(**client) as producer:
        for key, value, headers in letters:
            await producer.send_and_wait("dead-letters", value, key, 1, headers=headers)


@pytest.fixture(scope="module", autouse=True)
def _letters(own_kafka: EmbeddedKafka) -> None:
    asyncio.run(send({"bootstrap_servers": own_kafka.bootstrap}, LETTERS))


class TestDeadLetters:
    def test_the_list_tells_time_record_reason_and_message(self, headrace: Headrace) -> None:
        rows = [line.split(maxsplit=2) for line in headrace("dead-letters", "list").lines[1:]]
        assert [row[1] for row in rows] == ["orders-1@3", "orders-1@5", "orders-1@7", "orders-1@9"]
        assert rows[1][0] == "2025-11-21T09:00:00.005Z"
        assert rows[1][2].split(maxsplit=1) == ["invalid-field", "it is invalid-field"]
        assert rows[2][2] == f"rule-failed in {TOPOLOGY.flows[0].name}  division by zero"

    def test_the_last_of_one_reason_are_found(self, headrace: Headrace) -> None:
        done = headrace("dead-letters", "list", "--reason", "undecodable", "-n", "1", "--json")
        [letter] = [json.loads(line) for line in done.lines]
        assert letter["headers"]["__streams.errors.offset"] == "3"
        assert (letter["key"], letter["base64"]) == ("ada", "/wAgbm8gdGV4dA==")

    def test_a_reason_that_does_not_exist_is_a_wrong_call(self, headrace: Headrace) -> None:
        done = headrace("dead-letters", "list", "--reason", "bad-luck")
        assert done.status == 2
        assert "it is one of undecodable, invalid-field, " in done.err

    def test_one_is_shown_with_its_headers_trace_and_value(self, headrace: Headrace) -> None:
        done = headrace("dead-letters", "show", "orders-1@7")
        assert done.lines[0] == "orders-1@7  rule-failed  division by zero"
        assert "__streams.errors.exception: builtins.ZeroDivisionError" in done.lines
        assert f"headrace.agent: {TOPOLOGY.flows[0].name}" in done.lines
        assert "key: ada" in done.lines
        trace = done.lines[done.lines.index("trace:") :]
        assert trace[1] == "ZeroDivisionError: division by zero"
        assert done.lines[-2:] == ["value, 15 bytes:", '{"the":"value"}']

    def test_its_parts_stand_apart_and_its_time_is_readable(self, headrace: Headrace) -> None:
        lines = headrace("dead-letters", "show", "orders-1@3").lines
        assert lines[lines.index("key: ada") - 1] == ""
        assert "headrace.agent:" in lines
        at = NOW_MS + 3
        assert f"headrace.first-failed-at: {at} (2025-11-21T09:00:00.003Z)" in lines

    def test_bytes_that_are_no_text_are_shown_as_escapes(self, headrace: Headrace) -> None:
        done = headrace("dead-letters", "show", "orders-1@3")
        assert done.lines[-1] == r"\xff\x00 no text"

    @pytest.mark.parametrize("record", ["orders-1@4", "orders-0@7", "users-1@7", "orders-70@7"])
    def test_one_that_is_not_there_is_one_line(self, headrace: Headrace, record: str) -> None:
        done = headrace("dead-letters", "show", record)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith(f"headrace: there is no dead letter of {record}: ")

    def test_what_names_no_record_is_a_wrong_call(self, headrace: Headrace) -> None:
        done = headrace("dead-letters", "show", "orders")
        assert done.status == 2
        assert "it looks like orders-1@1174" in done.err

    def test_they_are_counted_by_reason_and_agent(self, headrace: Headrace) -> None:
        agent = TOPOLOGY.flows[0].name
        counts = json.loads(headrace("dead-letters", "counts", "--json").out)
        assert [(c["reason"], c["agent"], c["count"], c["last_refused_at"]) for c in counts] == [
            ("undecodable", "", 1, NOW_MS + 3),
            ("invalid-field", "", 2, NOW_MS + 9),
            ("rule-failed", agent, 1, NOW_MS + 7),
        ]
        rows = [line.split() for line in headrace("dead-letters", "counts").lines]
        assert ["invalid-field", "2", "2025-11-21T09:00:00.009Z"] in rows

    def test_following_shows_what_comes_of_one_reason(
        self, start: Start, client: dict[str, Any]
    ) -> None:
        process = start("dead-letters", "list", "--follow", "--reason", "too-large", "-n", "1")
        assert process.stdout is not None
        new = [refused(11, Reason.INVALID_FIELD, b"{}"), refused(13, Reason.TOO_LARGE, b"{}")]
        asyncio.run(send(client, new))
        assert process.stdout.readline().split()[1:3] == ["orders-1@13", "too-large"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
