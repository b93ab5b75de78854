"""Transactional ids that somebody else uses, and transactions that somebody leaves open."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from streams.broker import EmbeddedKafka
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.records import NO_HEADERS
from tests.faults.conftest import StartTrial
from tests.faults.trial import APPLICATION, Trial
from tests.scraped import Scraped
from tests.waiting import until, until_true

FENCED = "ProducerFenced"
HELD_BACK = "headrace_input_held_back_records"
BEGUN_AGAIN = "begins again at its committed offsets"
_OPEN_MS = 5_000


@pytest.mark.timeout(400)
async def test_of_two_with_the_same_transactional_ids_one_survives(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        (worker,) = trial.start_workers(1)
        async with trial.load(800):
            await trial.done(0.1)
            # Once: the worker takes the task anew.
            partition = trial.chance.randrange(trial.partitions)
            await trial.hit("another producer with a task's transactional id")
            await _take_away(trial, partition)
            # Whom it meets while a transaction is being ended, Kafka may tell -1 instead.
            await until_true(
                lambda: FENCED in worker.said() or BEGUN_AGAIN in worker.said(), deadline_s=60
            )
            await trial.goes_on()

            # Again and again: a quarrel, over one task alone. The worker does not go on with it.
            await trial.hit("another application with a task's transactional id")
            async with _taking_away(trial, partition):
                assert await asyncio.to_thread(worker.process.wait, 120) == 1
            [line] = [text for text in worker.said().splitlines() if text.startswith("headrace:")]
            assert "was taken away 6 times by another producer with the id trial-orders-" in line
            assert "does another application use HEADRACE_APP_ID trial?" in line
            worker.start()
            await trial.goes_on()
        await trial.check()


async def _take_away(trial: Trial, partition: int) -> None:
    """Do what whoever uses the transactional id of a task does at its start."""
    transactional_id = f"{APPLICATION}-orders-{partition}"
    async with AIOKafkaProducer(**trial.client, transactional_id=transactional_id):
        pass


@asynccontextmanager
async def _taking_away(trial: Trial, partition: int) -> AsyncIterator[None]:
    """Do so as often as it goes, for as long as the block runs."""
    over = asyncio.Event()

    async def again_and_again() -> None:
        while not over.is_set():
            await _take_away(trial, partition)

    quarrelling = asyncio.create_task(again_and_again())
    try:
        yield
    finally:
        over.set()
        await quarrelling


@pytest.mark.timeout(400)
async def test_a_transaction_that_somebody_leaves_open_holds_readers_up_until_its_time_out(
    start_trial: StartTrial, tmp_path: Path, seed: int
) -> None:
    quickly = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
    with EmbeddedKafka(tmp_path / "kafka", properties=quickly) as kafka:
        async with start_trial(seed, kafka=kafka) as trial:
            (worker,) = trial.start_workers(1)
            async with trial.load(800):
                await trial.done(0.1)
                partition = trial.chance.randrange(trial.partitions)
                await trial.hit("transaction left open in an input and an output")
                await _leave_open(trial, partition)
                held_back = {"topic": "orders", "partition": str(partition)}
                await _scraped(trial, lambda s: s.of(HELD_BACK, **held_back) > 0)
                await trial.goes_on()  # with the other partitions
                await _scraped(trial, lambda s: s.of(HELD_BACK, topic="orders") == 0)
            assert BEGUN_AGAIN not in worker.said()
            await trial.check()


async def _leave_open(trial: Trial, partition: int) -> None:
    """Write an order and a derived event as somebody else who then falls silent."""
    options = KafkaOptions(client=trial.client, group="somebody", transaction_timeout_ms=_OPEN_MS)
    producer = KafkaCluster(options).producer("somebody")
    await producer.start()
    await producer.begin()
    order = {
        "event_id": "left-open",
        "event_type": "order.created",
        "aggregate_id": "left-open",
        "timestamp": 1_763_715_600_000,
        "data": {"order_id": "left-open", "user_id": "user-1", "amount": 5_000},
    }
    record = (b"user-1", msgspec.json.encode(order), NO_HEADERS)
    await producer.send(partition, {"orders": [record], "high-value-orders": [record]})
    producer.abandon()


async def _scraped(trial: Trial, when: Callable[[Scraped], bool]) -> Scraped:
    """Return the first scrape of the first worker's metrics of which this is true."""
    address = trial.workers[0].web_address()
    async with aiohttp.ClientSession(f"http://{address}") as session:

        async def look() -> Scraped | None:
            async with session.get("/metrics") as answer:
                seen = Scraped(await answer.text())
            return seen if when(seen) else None

        seen = await until(look, deadline_s=60)
    assert seen is not None
    return seen
