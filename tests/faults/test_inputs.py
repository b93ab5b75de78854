"""What can happen to the inputs themselves: said and stopped at, or read as if nothing were."""

import re
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from demo.generator import OrderGenerator, TopicKeyValue, partition_of
from demo.poison import ORDERS, USERS, Subject, event
from demo.readback import INPUTS, OUTPUTS, Records, check, read_disk, read_topics, topics_of
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.topics import DEAD_LETTERS
from tests.broker.groups import caught_up
from tests.faults.conftest import StartTrial
from tests.faults.trial import APPLICATION, PARTITIONS, Trial
from tests.waiting import until, until_true

KEPT = {"retention.ms": "-1"}
AFRESH = "afresh"


@asynccontextmanager
async def admin_of(trial: Trial) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**trial.client)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def life(trial: Trial, *topics: str) -> Iterator[TopicKeyValue]:
    """Yield valid records of these topics: other ones than the trial itself produces."""
    made = OrderGenerator(trial.chance.randrange(1 << 30), users=2_000, poison_share=0)
    records = made.records(lambda: time.time_ns() // 1_000_000)
    return (record for record in records if record[0] in topics)


# -- deleted and made anew ----------------------------------------------------------------------


async def delete(trial: Trial, topic: str) -> None:
    async with admin_of(trial) as admin:
        await admin.delete_topics([topic])

        async def is_gone() -> bool:
            return topic not in await admin.list_topics()

        await until(is_gone)


async def make(trial: Trial, topic: str) -> None:
    spec = TopicSpec(topic, trial.partitions, KEPT)
    await ensure_topics(trial.client, [spec], replication_factor=1)


@pytest.mark.timeout(400)
async def test_a_topic_deleted_and_made_anew_is_never_taken_for_the_old_one(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed, poison_share=0) as trial:
        await trial.produce(8_000)
        (worker,) = trial.start_workers(1)
        await trial.done()
        gone = {tp: rows for tp, rows in (await trial.inputs()).items() if tp.topic == ORDERS}

        # While it runs. All orders were read: what was processed before is known exactly.
        await trial.send(islice(life(trial, USERS), 30_000))
        await trial.hit("an input deleted while it is read")
        await delete(trial, ORDERS)
        if trial.chance.random() < 0.5:
            await make(trial, ORDERS)
        line = await worker.refuses()
        assert re.search(r"topic orders was deleted|orders-\d holds no offset", line), line

        # While it is stopped: its offsets look plausible, and are of another topic.
        await make(trial, ORDERS)
        await trial.send(islice(life(trial, ORDERS), 15_000))
        worker.start()
        assert "topic orders was deleted and made anew since group trial read it" in (
            await worker.refuses()
        )
        trial.faults["an input made anew while it is not read"] += 1

        worker.start("--reset")
        await worker.says("reset to offset 0 of orders-", times=trial.partitions)
        await trial.check(gone=gone)


# -- records that are gone unread ---------------------------------------------------------------


class Losses:
    """Which records of the inputs were deleted, and which of those were processed all the same."""

    def __init__(self, trial: Trial, admin: AIOKafkaAdminClient) -> None:
        self._trial = trial
        self._admin = admin
        self._held: Records = {}
        self._begins: dict[TopicPartition, int] = {}
        self.processed: dict[TopicPartition, list[Any]] = {}

    async def lose(self) -> None:
        """Delete nearly all records of some partitions, read or not."""
        chance = self._trial.chance
        self._held = await self._trial.inputs()
        lossy = chance.sample(sorted(self._held), chance.randint(1, len(self._held)))
        self._begins = {tp: self._held[tp][-1].offset - chance.randrange(100) for tp in lossy}
        await self._admin.delete_records(
            {tp: RecordsToDelete(begin) for tp, begin in self._begins.items()}
        )

    async def settle(self) -> None:
        """Find out what was processed, when no worker runs any more; something must be lost."""
        found = await self._admin.list_consumer_group_offsets(APPLICATION)
        committed = {tp: found[tp].offset if tp in found else 0 for tp in self._begins}
        assert any(committed[tp] < begin for tp, begin in self._begins.items())
        for tp, begin in self._begins.items():
            done = min(begin, committed[tp])
            rows = [row for row in self._held[tp] if row.offset < done]
            self.processed[tp] = [*self.processed.get(tp, []), *rows]


@pytest.mark.timeout(400)
async def test_records_that_are_gone_unread_stop_a_worker_until_its_user_lets_them_go(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed, poison_share=0) as trial, admin_of(trial) as admin:
        losses = Losses(trial, admin)
        await trial.produce(8_000)
        (worker,) = trial.start_workers(1)
        await trial.done(trial.chance.uniform(0.05, 0.5))
        worker.pause()
        await trial.produce(4_000)  # it has fetched none of these: it stands still
        await trial.hit("unread records deleted under a running worker")
        await losses.lose()
        worker.resume()
        assert "holds no offset" in await worker.refuses()
        await losses.settle()

        worker.start("--reset")
        await trial.done()
        assert worker.end() == 0
        await trial.produce(4_000)
        await trial.hit("unread records deleted while no worker runs")
        await losses.lose()
        await losses.settle()
        worker.start()
        line = await worker.refuses()
        assert "`headrace worker --reset` goes on with what there is, and keeps the tables" in line
        worker.start("--reset")
        await trial.done()
        worker.kill()
        worker.start()  # what was reset is committed
        await trial.check(gone=losses.processed)


# -- partitions that are added ------------------------------------------------------------------


@pytest.mark.timeout(400)
async def test_partitions_that_are_added_stop_the_workers_and_a_fresh_start_reads_all(
    start_trial: StartTrial, seed: int
) -> None:
    more = PARTITIONS + 2
    async with start_trial(seed, poison_share=0) as trial, admin_of(trial) as admin:
        workers = trial.start_workers(2)
        async with trial.load(1_500):
            await trial.done(0.3)
            await trial.hit("partitions added to an input that is read")
            await admin.create_partitions({ORDERS: NewPartitions(more)})
            for worker in workers:
                assert f"topic orders has {more} partitions, and had 4" in await worker.refuses()
        await send_to_new(trial, range(PARTITIONS, more))
        workers[0].start()
        assert f"users has 4, orders has {more}" in await workers[0].refuses()

        # As the line says: another id, and as many partitions in every topic.
        shared = (USERS, *OUTPUTS, DEAD_LETTERS)
        await admin.create_partitions(dict.fromkeys(shared, NewPartitions(more)))
        earlier = await read_topics(trial.client, (*OUTPUTS, DEAD_LETTERS), more)
        heir = trial.new_worker(headrace_app_id=AFRESH)
        heir.start()
        await caught_up(trial.client, AFRESH, INPUTS, more)
        assert heir.end() == 0
        found = await read_topics(trial.client, topics_of(AFRESH), more)
        records = {tp: rows[len(earlier.get(tp, [])) :] for tp, rows in found.items()}
        disk = read_disk([heir.folder / "state" / AFRESH], more)
        verdict = check(records, disk, AFRESH, live=False)
        assert verdict.differences == []
        assert len(verdict.expected.tables["user_orders"]) > 100
        trial.records = sum(len(rows) for tp, rows in records.items() if tp.topic in INPUTS)


async def send_to_new(trial: Trial, partitions: Iterable[int]) -> None:
    """Send orders of users that nobody knows to partitions that nobody reads."""
    now_ms = time.time_ns() // 1_000_000
    async with AIOKafkaProducer(**trial.client) as producer:
        for partition in partitions:
            for number in range(500):
                user = b"new-%d-%d" % (partition, number % 50)
                made = event(
                    Subject(b"%b-%d" % (user, number), user, now_ms), "order.created", {}, {}
                )
                await producer.send(ORDERS, made, user, partition=partition)


# -- gaps -----------------------------------------------------------------------------------------

# A segment each 50 ms: what is not in the newest one is compacted at once.
COMPACTED = {
    **KEPT,
    "cleanup.policy": "compact",
    "segment.ms": "50",
    "min.cleanable.dirty.ratio": "0.001",
}


@pytest.mark.timeout(400)
async def test_gaps_of_compaction_and_of_others_transactions_are_read_over(
    start_trial: StartTrial, seed: int, tmp_path: Path
) -> None:
    eager = {"log.cleaner.backoff.ms": "100"}
    with EmbeddedKafka(tmp_path / "kafka", properties=eager) as kafka:
        async with start_trial(seed, kafka=kafka, users=400, poison_share=0) as trial:
            await configure(trial, COMPACTED)
            for _ in range(4):
                await trial.produce(3_000)
            await compacted(trial, 12_000)
            for committed in (True, False, True):
                await trial.produce(5_000)
                await strangers_transaction(trial, committed=committed)
            worker = trial.new_worker()
            # Each task commits once at least; nobody else would bring a commit more.
            visit = trial.chance.randint(2, trial.partitions)
            worker.start(headrace_failpoints=f"commit.before_disk=crash@{visit}")
            await until_true(lambda: not worker.is_alive(), deadline_s=60)
            # Before the transaction: what `hit` may have to send behind it could not be read.
            await trial.hit("kill -9 among gaps, before an open transaction of others")
            async with open_transaction(trial) as stranger:
                worker.start()
                await trial.done()  # as far as anybody may read
                await stranger.abort_transaction()
                await trial.check()


async def configure(trial: Trial, config: dict[str, str]) -> None:
    async with admin_of(trial) as admin:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, config) for topic in INPUTS]
        )


async def compacted(trial: Trial, sent: int) -> None:
    """Return when most of what was sent is compacted away, and nothing more will be."""

    async def count() -> int:
        return sum(map(len, (await trial.inputs()).values()))

    async def is_compacted() -> bool:
        return await count() < sent / 2

    async def is_settled() -> bool:
        return len({await count() for _ in range(3)}) == 1

    await until(is_compacted, deadline_s=60)
    await configure(trial, KEPT)
    await until(is_settled)


@asynccontextmanager
async def open_transaction(trial: Trial) -> AsyncIterator[AIOKafkaProducer]:
    """Send valid records to all input partitions in a transaction that is not ended yet."""
    producer = AIOKafkaProducer(
        **trial.client,
        transactional_id=f"stranger-{trial.chance.randrange(1 << 30)}",
        transaction_timeout_ms=600_000,  # no slow machine ends it behind the trial's back
    )
    async with producer:
        await producer.begin_transaction()
        for topic, key, value in islice(life(trial, *INPUTS), 400):
            await producer.send(topic, value, key, partition=partition_of(key, trial.partitions))
        await producer.flush()
        yield producer


async def strangers_transaction(trial: Trial, *, committed: bool) -> None:
    """Send valid records in a transaction, and end it so or so."""
    async with open_transaction(trial) as stranger:
        await (stranger.commit_transaction() if committed else stranger.abort_transaction())
