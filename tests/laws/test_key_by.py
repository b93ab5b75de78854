"""Laws 1 to 3 across a repartition topic: by whatever key records go on, each counts once."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterable, Collection, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.cluster import Bounds
from streams.engine.definitions import Flow, RepartitionTopic, Table, Topology
from streams.engine.failpoints import InjectedFailureError, Step, disarm
from streams.engine.records import Record, TopicPartition
from streams.engine.verify import TaskReport, verify
from streams.events import OrderCreated
from streams.memory_cluster import MemoryCluster
from streams.testing import Driver
from streams.topics import ORDERS
from tests.laws.test_crashes import Blow, blows
from tests.laws.world import NOW_MS, Cuts, cuts
from tests.unit.wire import USER, order

PARTITIONS = 3


class Priced(msgspec.Struct, frozen=True, tag="order.priced", tag_field="event_type"):
    """An order by its price."""

    event_id: str
    timestamp: int
    price: str


PRICES = RepartitionTopic("prices", events=(Priced,), key=lambda priced: priced.price)
COUNTS = Table("counts", msgspec.json.encode, msgspec.json.Decoder(int).decode)


def by_price(orders: Iterable[OrderCreated]) -> Iterator[Priced]:
    for each in orders:
        yield Priced(each.event_id, each.timestamp, f"{each.data.amount:g}")


def count(prices: Iterable[Priced], counts: MutableMapping[str, int]) -> None:
    for each in prices:
        counts[each.price] = counts.get(each.price, 0) + 1


def register_priced(app: App[Any]) -> None:
    @app.agent(ORDERS)
    async def priced(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(by_price, batch.of(OrderCreated))


def register_counted(app: App[Any]) -> None:
    @app.agent(PRICES)
    async def counted(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(count, batch.of(Priced), COUNTS)


BY_PRICE = Topology(
    (
        Flow(register_priced, "priced", reads=(ORDERS,), emits=PRICES),
        Flow(register_counted, "counted", reads=(PRICES,), keeps=COUNTS),
    ),
    dead_letters="dead-letters",
)


def settle(driver: Driver) -> None:
    """Let the workers finish, whatever strikes them."""
    while True:
        try:
            driver.settle()
        except InjectedFailureError:
            driver.kill_worker()
        if driver.workers:
            return
        while driver.workers_started:
            driver.kill_worker()
        driver.start_worker()


prices = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), st.integers(1, 5)), max_size=12)


@given(
    portions=st.lists(prices, min_size=1, max_size=3),
    cut=cuts,
    blow=blows(st.sampled_from(Step)),
    purged=st.booleans(),
)
def test_records_of_one_key_meet_in_one_task_each_once(
    portions: Sequence[Sequence[tuple[int, int]]], cut: Cuts, blow: Blow, *, purged: bool
) -> None:
    with TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder), commit_interval_ms=1)
        driver = Driver(
            BY_PRICE,
            settings,
            partitions=PARTITIONS,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
            purge_interval_s=0 if purged else 3_600,
        )
        with driver:
            driver.cut_input(cut.run_lengths)
            driver.delay_answers(cut.delays)
            strike = {"crash": driver.crash_at, "fail": driver.fail_at}[blow.kind]
            strike(blow.step, blow.visit)
            for number, portion in enumerate(portions):
                for at, (partition, price) in enumerate(portion):
                    value = order(
                        event_id=f"e-{number}-{at}", data={"amount": price}, timestamp=NOW_MS + at
                    )
                    driver.pipe(
                        ORDERS, [(USER, value)], partition=partition, timestamp_ms=NOW_MS,
                        settle=False,
                    )  # fmt: skip
                settle(driver)
            disarm()
            given = Counter(str(price) for portion in portions for _, price in portion)
            assert driver.table(COUNTS) == given
            sent = driver.sent(PRICES.of(settings.app_id).name)
            if not purged:
                assert Counter(json.loads(each.value or b"")["price"] for each in sent) == given
            where = {(each.key, each.partition) for each in sent}
            assert len(where) == len({key for key, _ in where})


def test_what_is_processed_of_a_repartition_topic_is_deleted(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(BY_PRICE, settings, partitions=1, purge_interval_s=0) as driver:
        driver.pipe(ORDERS, [(USER, order(event_id=f"e-{n}", timestamp=NOW_MS)) for n in range(5)])
        driver.pipe(ORDERS, [(USER, order(event_id="e-5", timestamp=NOW_MS))])
        tp = TopicPartition(f"{settings.app_id}-prices-repartition", 0)
        assert driver.kafka.begins[tp] >= 5
        assert TopicPartition(ORDERS.name, 0) not in driver.kafka.begins
        driver.kill_worker()
        driver.lose_disk()
        driver.start_worker()
        driver.pipe(ORDERS, [(USER, order(event_id="e-6", timestamp=NOW_MS))])
        assert sum(driver.table(COUNTS).values()) == 7


class _Between(MemoryCluster):
    """Between the answers to two questions, a worker commits and deletes what it has processed."""

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        for (group, tp), committed in list(self.kafka.offsets.items()):
            if tp in partitions and tp.topic.endswith("-prices-repartition"):
                end = self.kafka.stable_end(tp)
                self.kafka.offsets[group, tp] = committed._replace(offset=end)
                await self.delete_before({tp: end})
        return await super().bounds(partitions)


def test_what_is_deleted_while_somebody_compares_is_no_difference(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(BY_PRICE, settings, partitions=1) as driver:
        driver.pipe(ORDERS, [(USER, order(event_id="e", timestamp=NOW_MS))])
        driver.kill_worker()
        tp = TopicPartition(f"{settings.app_id}-prices-repartition", 0)
        driver.kafka.append(tp, Record(None, b"{}"), NOW_MS)
        cluster = _Between(driver.kafka, settings.app_id, lambda: NOW_MS)

        async def verified() -> list[TaskReport]:
            found = verify(
                driver.topology,
                cluster,
                application_id=settings.app_id,
                data_dir=tmp_path / "elsewhere",
                partitions=1,
                limit=1,
            )
            return [report async for report in found]

        assert all(report.is_equal for report in asyncio.run(verified()))
        assert driver.kafka.begins[tp] == driver.kafka.stable_end(tp)


def test_an_event_whose_key_is_none_is_a_dead_letter_that_says_so(tmp_path: Path) -> None:
    def without_price(orders: Iterable[OrderCreated]) -> Iterator[Priced]:
        for each in orders:
            yield Priced(each.event_id, each.timestamp, None)  # type: ignore[arg-type] # a user's mistake

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def priced(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(without_price, batch.of(OrderCreated))

    first, second = BY_PRICE.flows
    broken = Topology((replace(first, register=register), second), dead_letters="dead-letters")
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(broken, settings, partitions=1) as driver:
        driver.pipe(ORDERS, [(USER, order(timestamp=NOW_MS))])
        [letter] = driver.sent("dead-letters")
    told = dict(letter.headers)
    assert letter.value == order(timestamp=NOW_MS)
    assert told["__streams.errors.message"].decode() == (
        "e-1 for headrace-prices-repartition has None as key: that must be a text"
    )
