"""`headrace lag` on a real Kafka, for a group whose offsets the tests commit themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from commands.group_lag import GroupLag, MemberLag, PartitionLag, TaskLag
from commands.lag import print_lag
from streams.topology import TOPOLOGY
from tests.broker.command_line.conftest import Headrace, Start
from tests.waiting import until

INPUTS = [topic.name for topic in TOPOLOGY.inputs]
PARTITIONS = [TopicPartition(topic, number) for topic in INPUTS for number in (0, 1)]
BEHIND = TopicPartition("orders", 0)
RECORDS = 3
AGE_S = 100


@contextlib.asynccontextmanager
async def group_member(client: dict[str, Any], group: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Join the group as its only member, with all inputs assigned; it commits nothing unasked."""
    consumer = AIOKafkaConsumer(
        *INPUTS, **client, client_id="the-worker", group_id=group, enable_auto_commit=False
    )
    await consumer.start()

    async def has_all() -> bool:
        return set(consumer.assignment()) == set(PARTITIONS)

    try:
        await until(has_all)
        yield consumer
    finally:
        await consumer.stop()


async def fall_behind(client: dict[str, Any], consumer: AIOKafkaConsumer) -> None:
    """Commit every end; then send orders to one partition, the first of them AGE_S old."""
    await consumer.commit(await consumer.end_offsets(PARTITIONS))
    first_ms = time.time_ns() // 1_000_000 - AGE_S * 1_000
    async with AIOKafkaProducer(**client) as producer:
        for n in range(RECORDS):
            time_ms = first_ms + n * 1_000
            await producer.send(*BEHIND[:1], b"{}", b"k", BEHIND.partition, time_ms)


class TestLag:
    async def test_it_is_told_by_member_and_by_task_in_records_and_seconds(
        self, start: Start, client: dict[str, Any], app_id: str
    ) -> None:
        async with group_member(client, app_id) as consumer:
            await fall_behind(client, consumer)
            out, _ = await asyncio.to_thread(start("lag", "--json").communicate)
        found = json.loads(out)
        assert (found["state"], found["records"]) == ("Stable", RECORDS)
        assert AGE_S <= found["seconds"] < AGE_S + 60
        [member] = found["members"]
        assert (member["client_id"], member["host"]) == ("the-worker", "127.0.0.1")
        assert (member["tasks"], member["records"]) == (["orders-0", "orders-1"], RECORDS)
        behind, done = found["tasks"]
        assert (behind["task"], behind["records"]) == ("orders-0", RECORDS)
        assert behind["member_id"] == done["member_id"] == member["member_id"]
        assert behind["seconds"] == found["seconds"] == member["seconds"]
        [orders] = [each for each in behind["partitions"] if each["topic"] == "orders"]
        assert orders["end"] - orders["committed"] == RECORDS
        assert (done["task"], done["records"], done["seconds"]) == ("orders-1", 0, 0.0)

    async def test_watching_looks_again_until_sigterm_ends_it_with_0(
        self, start: Start, client: dict[str, Any], app_id: str
    ) -> None:
        async with group_member(client, app_id) as consumer:
            await fall_behind(client, consumer)
            process = start("lag", "--watch", "--every", "0.1", "--json")
            assert process.stdout is not None
            line = await asyncio.to_thread(process.stdout.readline)
            assert json.loads(line)["records"] == RECORDS
            await consumer.commit(await consumer.end_offsets(PARTITIONS))

            async def has_caught_up() -> bool:
                line = await asyncio.to_thread(process.stdout.readline)  # type: ignore[union-attr]
                return bool(json.loads(line)["records"] == 0)

            await until(has_caught_up)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0

    def test_a_narrow_terminal_loses_offsets_and_no_other_numbers(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("commands.printing.on_terminal", lambda: True)
        monkeypatch.setenv("COLUMNS", "80")
        many = 123_456_789
        tasks = [
            TaskLag(
                task=f"orders-{number}",
                member_id="w",
                records=many,
                seconds=None,
                partitions=[
                    PartitionLag(
                        topic=topic,
                        partition=number,
                        committed=many,
                        end=2 * many,
                        records=many,
                        seconds=86_400.0,
                    )
                    for topic in INPUTS
                ],
            )
            for number in (10, 11)
        ]
        member = MemberLag(
            member_id="w",
            client_id="headrace",
            host="10.20.30.40",
            web="10.20.30.40:6066",
            tasks=["orders-10", "orders-11"],
            records=many,
            seconds=86_400.0,
        )
        found = GroupLag(
            group="g", state="Stable", records=many, seconds=1.0, members=[member], tasks=tasks
        )
        print_lag(found, as_json=False)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        rows = [line.split() for line in lines]
        assert ["orders-11", member.web, "users", "123,456,789", "86,400.0"] in rows
        monkeypatch.setenv("COLUMNS", "120")
        print_lag(found, as_json=False)
        assert "246,913,578" in capsys.readouterr().out

    def test_every_without_watch_is_a_wrong_call(self, headrace: Headrace) -> None:
        assert headrace("lag", "--every", "5").status == 2

    def test_a_group_without_members_is_told_as_such(
        self, headrace: Headrace, client: dict[str, Any], app_id: str
    ) -> None:
        done = headrace("lag")
        assert done.lines[0].startswith(
            f"group {app_id}: no worker runs, and none has committed anything; "
        )

        async def commit_alone() -> None:
            consumer = AIOKafkaConsumer(**client, group_id=app_id, enable_auto_commit=False)
            async with consumer:
                consumer.assign(PARTITIONS)
                await fall_behind(client, consumer)

        asyncio.run(commit_alone())
        done = headrace("lag")
        assert done.status == 0
        assert done.lines[0].startswith(f"group {app_id}: no worker runs; {RECORDS} records, 10")
        rows = [line.split() for line in done.lines]
        assert ["orders-1", "-", "users", "0", "0.0"] in [row[:5] for row in rows]
        assert ["orders-0", "-", "orders", str(RECORDS)] in [row[:4] for row in rows]

    def test_markers_of_transactions_alone_are_no_lag(
        self, headrace: Headrace, client: dict[str, Any], app_id: str
    ) -> None:
        async def commit_up_to_a_marker() -> None:
            consumer = AIOKafkaConsumer(**client, group_id=app_id, enable_auto_commit=False)
            producer = AIOKafkaProducer(**client, transactional_id=app_id)
            async with consumer, producer:
                consumer.assign(PARTITIONS)
                async with producer.transaction():
                    sent = await producer.send_and_wait("orders", b"{}", b"k", 0)

                async def marker_is_written() -> bool:
                    return bool((await consumer.end_offsets([BEHIND]))[BEHIND] == sent.offset + 2)

                await until(marker_is_written)
                ends = await consumer.end_offsets(PARTITIONS)
                await consumer.commit({**ends, BEHIND: sent.offset + 1})

        asyncio.run(commit_up_to_a_marker())
        assert headrace("lag").lines[0] == f"group {app_id}: no worker runs; nothing to do"
