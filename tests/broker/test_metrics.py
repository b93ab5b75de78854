"""A worker process on a real Kafka, seen by its metrics and probes alone."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from aiokafka import AIOKafkaProducer

from streams.broker import EmbeddedKafka
from streams.topology import TOPOLOGY
from tests.faults.workers import WorkerProcess
from tests.flows.stories import KeyValue, orders
from tests.scraped import Scraped
from tests.waiting import until

APP_ID = "metrics"
DEADLINE_S = 90.0
FLOWS = [flow for flow in TOPOLOGY.flows if any(topic.name == "orders" for topic in flow.reads)]
POISON: list[KeyValue] = [(b"ada", b"no json"), (b"ben", orders([0])[0][1]), (b"ada", None)]
pytestmark = pytest.mark.timeout(300)


class Monitored:
    """A worker, its Kafka, and what was sent to partition 0 of its orders."""

    def __init__(self, kafka: EmbeddedKafka, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.bootstrap = kafka.bootstrap
        self.worker = WorkerProcess(
            folder,
            kafka.bootstrap,
            APP_ID,
            headrace_web_port=self.port,
            headrace_failpoints="commit.before_end=fail@3",
        )
        self.sent = 0

    async def get(self, path: str) -> tuple[int, str] | None:
        """Return status and body, None while nobody listens."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as answer,
            ):
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            assert self.worker.is_alive(), self.worker.said()
            return None

    async def is_ready(self) -> bool:
        return await self.get("/readyz") == (200, "ready\n")

    async def scrape(self, when: Callable[[Scraped], object]) -> Scraped:
        """Return the first scrape of which this is true."""

        async def look() -> Scraped | None:
            answer = await self.get("/metrics")
            seen = Scraped(answer[1]) if answer else None
            return seen if seen and when(seen) else None

        seen = await until(look, deadline_s=DEADLINE_S)
        assert seen is not None
        return seen

    async def send(self, records: list[KeyValue]) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            for key, value in records:
                await producer.send_and_wait("orders", value, key, partition=0)
        self.sent += len(records)

    async def done(self) -> Scraped:
        """Return a scrape in which all that was sent is committed; check that it adds up."""
        name = FLOWS[0].name
        seen = await self.scrape(
            lambda s: (
                s.of("headrace_records_in_total", flow=name, topic="orders") >= self.sent
                and s.of("headrace_consumer_lag_records") == 0
            )
        )
        for flow in FLOWS:
            labels = {"topic": "orders", "flow": flow.name}
            assert seen.of("headrace_records_in_total", **labels) == self.sent
            assert seen.ended(**labels) == self.sent  # law 5
        assert seen.of("headrace_end_to_end_latency_seconds_count", topic="orders") > 0
        assert seen.of("headrace_commit_duration_seconds_count") == seen.of(
            "headrace_commits_total"
        )
        assert seen.of("headrace_consumer_lag_seconds") == 0
        return seen


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker of its own: workers read topics of fixed names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
async def monitored(own_kafka: EmbeddedKafka, tmp_path: Path) -> AsyncIterator[Monitored]:
    one = Monitored(own_kafka, tmp_path / "worker")
    one.worker.start()
    try:
        yield one
    finally:
        one.worker.kill()


async def foreign(bootstrap: str, transactional_id: str) -> AIOKafkaProducer:
    """Return a producer of somebody else, started."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id)
    await producer.start()
    return producer


async def it_lives_before_it_is_ready(monitored: Monitored) -> None:
    answer = await until(lambda: monitored.get("/readyz"), deadline_s=DEADLINE_S)
    assert answer is not None
    assert (answer[0], await monitored.get("/livez")) == (503, (200, "alive\n"))
    await until(monitored.is_ready, deadline_s=DEADLINE_S)
    seen = await monitored.scrape(lambda s: len(s.series("headrace_consumer_lag_records")) == 8)
    lag = seen.series("headrace_consumer_lag_records", consumergroup=APP_ID, topic="orders")
    assert {(s.labels["partition"], s.value) for s in lag} == {(str(n), 0) for n in range(4)}
    assert seen.of("headrace_tasks", state="running") == 4
    assert [s.value for s in seen.series("headrace_build_info", application=APP_ID)] == [1]


async def records_of_an_aborted_commit_count_once(monitored: Monitored) -> None:
    numbers = iter(range(0, 1_000_000, 10))
    while not (await monitored.scrape(bool)).of("headrace_aborts_total"):  # the third commit
        first = next(numbers)
        await monitored.send([*orders(range(first, first + 10), amount=2_000.0), *POISON])
    seen = await monitored.done()
    rounds = monitored.sent / 13
    assert seen.of("headrace_aborts_total") == 1
    assert seen.of("headrace_records_dead_total", flow="vip_upgrades") == 2 * rounds
    assert seen.of("headrace_dead_letters_total", reason="key-mismatch") == rounds
    assert seen.of("headrace_records_skipped_total", flow="vip_upgrades") == rounds
    out = {"topic": "high-value-orders", "flow": "high_value_orders"}
    assert seen.of("headrace_records_out_total", **out) == 10 * rounds
    assert seen.of("kafka_producer_messages_total", topic=out["topic"]) > 10 * rounds
    assert seen.of("kafka_consumer_messages_total", topic="orders") > monitored.sent
    assert seen.of("headrace_store_size_bytes", task="orders-0") > 0


async def an_open_transaction_of_somebody_else_holds_its_input_back(monitored: Monitored) -> None:
    somebody = await foreign(monitored.bootstrap, "somebody")
    await somebody.begin_transaction()
    for key, value in orders(range(-3, 0)):
        await somebody.send_and_wait("orders", value, key, partition=0)
    await monitored.send(orders([-4]))
    held = {"topic": "orders", "partition": "0"}
    seen = await monitored.scrape(lambda s: s.of("headrace_input_held_back_records", **held) == 4)
    assert seen.of("headrace_consumer_lag_records", **held) == 4
    await somebody.abort_transaction()
    await somebody.stop()
    seen = await monitored.done()
    assert seen.of("headrace_input_held_back_records") == 0


async def a_transactional_id_that_is_taken_away_is_a_fence(monitored: Monitored) -> None:
    before = await monitored.scrape(bool)
    assert before.of("headrace_fences_total") == 0
    assert before.of("headrace_rebalances_total") > 0
    thief = await foreign(monitored.bootstrap, f"{APP_ID}-orders-0")
    await monitored.send(orders(range(-10, -5)))
    seen = await monitored.done()
    await thief.stop()
    assert seen.of("headrace_fences_total") == 1
    assert seen.of("headrace_aborts_total") == before.of("headrace_aborts_total") + 1
    assert seen.of("headrace_rebalances_total") > before.of("headrace_rebalances_total")
    assert seen.of("kafka_producer_errors_total") > before.of("kafka_producer_errors_total")
    assert seen.of("headrace_open_transaction_age_seconds") == 0


async def test_an_operator_sees_the_life_of_a_worker(monitored: Monitored) -> None:
    await it_lives_before_it_is_ready(monitored)
    await records_of_an_aborted_commit_count_once(monitored)
    await an_open_transaction_of_somebody_else_holds_its_input_back(monitored)
    await a_transactional_id_that_is_taken_away_is_a_fence(monitored)
    await until(monitored.is_ready, deadline_s=DEADLINE_S)
    assert monitored.worker.end() == 0
