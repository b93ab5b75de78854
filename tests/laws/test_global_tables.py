"""Global tables: every worker has every row before its tasks look anything up, and hears of each change."""

import json
import logging
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, TimedTable, Topic, Topology
from streams.engine.errors import DefinitionError
from streams.engine.failpoints import Step, disarm
from streams.engine.store import GLOBAL_FOLDER
from streams.events import OrderCreated, UserRegistered, UserUpdated
from streams.operators.aggregates import count
from streams.operators.windowing import WindowAggregation, Windowed, open_codec
from streams.operators.windows import TumblingWindows
from streams.testing import Driver
from streams.topics import ORDERS, USERS
from tests.laws.test_crashes import Blow, blows
from tests.laws.test_key_by import settle
from tests.laws.world import NOW_MS, Cuts, cuts
from tests.unit.wire import order

PARTITIONS = 3


class Sold(msgspec.Struct, frozen=True, tag="order.sold", tag_field="event_type"):
    """An order with the country of who sold it."""

    event_id: str
    timestamp: int
    seller: str
    country: str | None


SOLD = Topic("sold", events=(Sold,), key=lambda sold: sold.seller)
SELLERS = Table("sellers", msgspec.json.encode, msgspec.json.Decoder(str).decode)
WINDOWS = WindowAggregation[Any, Any, Any](
    TumblingWindows(10, grace_ms=0), count(), key=lambda event: event.data.user_id
)


def keep(events: Iterable[Any], sellers: MutableMapping[str, str]) -> None:
    for event in events:
        match event:
            case UserRegistered():
                sellers[event.data.user_id] = event.data.country or ""
            case UserUpdated():
                sellers.pop(event.data.user_id, None)


def sell(orders: Iterable[OrderCreated], sellers: Mapping[str, str]) -> Iterator[Sold]:
    """The seller is told by the amount: whose task the order comes to has nothing to do with it."""
    for each in orders:
        seller = f"s-{each.data.amount:g}"
        yield Sold(each.event_id, each.timestamp, seller, sellers.get(seller))


def register_sellers(app: App[Any]) -> None:
    @app.agent(USERS)
    async def sellers(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(keep, batch.all(), SELLERS)


def register_sold(app: App[Any]) -> None:
    @app.agent(ORDERS)
    async def sold(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(sell, batch.of(OrderCreated), SELLERS)


SELLING = Topology(
    (
        Flow(register_sellers, "sellers", reads=(USERS,), keeps=SELLERS),
        Flow(register_sold, "sold", reads=(ORDERS,), global_tables=(SELLERS,), emits=SOLD),
    ),
    dead_letters="dead-letters",
)


class Change(NamedTuple):
    """A seller's country from now on; None removes the seller."""

    seller: int
    country: str | None

    def record(self, number: int) -> tuple[bytes, bytes]:
        kind = "user.updated" if self.country is None else "user.registered"
        user = f"s-{self.seller}"
        data = (
            {"user_id": user, "changes": {}}
            if self.country is None
            else {"user_id": user, "email": "s@example.org", "country": self.country}
        )
        event = {
            "event_id": f"u-{number}",
            "event_type": kind,
            "aggregate_id": user,
            "timestamp": NOW_MS + number,
            "data": data,
        }
        return user.encode(), json.dumps(event).encode()


class Portion(NamedTuple):
    """Changes, and then orders: of which partition and from which seller."""

    changes: Sequence[Change]
    orders: Sequence[tuple[int, int]]
    loses_disk: bool
    workers: int


sellers = st.integers(1, 4)
portions = st.builds(
    Portion,
    st.lists(st.builds(Change, sellers, st.sampled_from(["GB", "FR", None])), max_size=5),
    st.lists(st.tuples(st.integers(0, PARTITIONS - 1), sellers), max_size=6),
    st.booleans(),
    st.integers(1, 2),
)


def driven(folder: Path, cut: Cuts | None = None) -> Driver:
    settings = load_settings(data_dir=folder, commit_interval_ms=1)
    options: dict[str, Any] = {"max_stretched_interval_ms": 1}
    if cut is not None:
        options |= {
            "max_batch_records": cut.max_batch_records,
            "max_epoch_records": cut.max_epoch_records,
        }
    return Driver(SELLING, settings, partitions=PARTITIONS, **options)


def order_of(event_id: str, seller: int) -> tuple[bytes, bytes]:
    return b"ada", order(event_id=event_id, data={"amount": seller}, timestamp=NOW_MS)


def countries(driver: Driver) -> dict[str, str | None]:
    """Return what was told of each order. Each is told once."""
    told = [json.loads(each.value or b"") for each in driver.sent(SOLD.name)]
    assert len({each["event_id"] for each in told}) == len(told)
    return {each["event_id"]: each["country"] for each in told}


@given(
    lives=st.lists(portions, min_size=1, max_size=3),
    cut=cuts,
    blow=blows(st.sampled_from(Step)),
)
def test_what_was_there_before_is_found_by_every_worker_whatever_strikes_it(
    lives: Sequence[Portion], cut: Cuts, blow: Blow
) -> None:
    with TemporaryDirectory() as folder, driven(Path(folder), cut) as driver:
        driver.cut_input(cut.run_lengths)
        driver.delay_answers(cut.delays)
        strike = {"crash": driver.crash_at, "fail": driver.fail_at}[blow.kind]
        strike(blow.step, blow.visit)
        known: dict[int, str] = {}
        expected: dict[str, str | None] = {}
        for number, life in enumerate(lives):
            for at, change in enumerate(life.changes):
                partition = change.seller % PARTITIONS
                driver.pipe(USERS, [change.record(at)], partition=partition, settle=False)
                if change.country is None:
                    known.pop(change.seller, None)
                else:
                    known[change.seller] = change.country
            settle(driver)
            while life.loses_disk and driver.workers_started:
                driver.kill_worker()
            if life.loses_disk:
                driver.lose_disk()
            for at, (partition, seller) in enumerate(life.orders):
                event_id = f"o-{number}-{at}"
                driver.pipe(ORDERS, [order_of(event_id, seller)], partition=partition, settle=False)
                expected[event_id] = known.get(seller)
            while driver.workers_started < life.workers:
                driver.start_worker()
            settle(driver)
        disarm()
        assert countries(driver) == expected


def test_no_task_begins_before_all_is_here(tmp_path: Path) -> None:
    with driven(tmp_path) as driver:
        driver.pipe(USERS, [Change(1, "GB").record(0)], partition=2)
        driver.pipe(ORDERS, [order_of("o-1", 1)])
        driver.stop_worker()
        driver.lose_disk()
        driver.pipe(ORDERS, [order_of("o-2", 1)], settle=False)
        driver.start_worker()
        driver.settle()
        assert countries(driver) == {"o-1": "GB", "o-2": "GB"}


def test_a_copy_that_is_kept_is_read_on_not_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with driven(tmp_path) as driver:
        driver.pipe(USERS, [Change(1, "GB").record(0)])
        driver.stop_worker()
        driver.start_worker()
        driver.pipe(ORDERS, [order_of("o-1", 1)])
        assert countries(driver) == {"o-1": "GB"}
        folder = tmp_path / driver.settings.app_id / GLOBAL_FOLDER
        assert [path.name for path in folder.iterdir()] == ["0"]
        driver.start_worker()  # on the same disk, at the same time: it needs one of its own
        assert sorted(path.name for path in folder.iterdir()) == ["0", "1"]
    assert "begins anew" not in caplog.text


def test_a_damaged_copy_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with driven(tmp_path) as driver:
        driver.pipe(USERS, [Change(n, "GB").record(n) for n in range(1, 5)])
        driver.stop_worker()
        folder = tmp_path / driver.settings.app_id / GLOBAL_FOLDER / "0"
        [*files] = folder.glob("*.sst")
        for path in files:
            path.write_bytes(b"x" * path.stat().st_size)
        driver.start_worker()
        driver.pipe(ORDERS, [order_of("o-1", 2)])
        assert countries(driver) == {"o-1": "GB"}
    assert files
    assert "its copy begins anew" in caplog.text


def test_damage_that_a_rule_finds_is_mended_while_its_tasks_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with driven(tmp_path) as driver:
        long = "GB" * 5_000  # more than a block, so that opening the store reads no row
        driver.pipe(USERS, [Change(n, long).record(n) for n in range(1, 5)])
        driver.stop_worker()
        driver.start_worker()
        driver.settle()
        folder = tmp_path / driver.settings.app_id / GLOBAL_FOLDER / "0"
        for path in folder.glob("*.sst"):
            path.write_bytes(b"x" * path.stat().st_size)
        driver.pipe(ORDERS, [order_of("o-1", 2)])
        assert countries(driver) == {"o-1": long}
    assert "it is rebuilt" in caplog.text


def test_damage_that_is_found_where_windows_close_is_mended_as_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Going through all rows finds it as well as asking for one."""

    def told(results: Sequence[Windowed[Any]], sellers: Mapping[str, str]) -> list[Sold]:
        return [Sold(each.key, each.end_ms, "all", str(len(sellers))) for each in results]

    def fire(key: str, row: Any, now_ms: int, sellers: Mapping[str, str]) -> Any:
        left, closed = WINDOWS.fire(key, row, now_ms)
        return left, told(closed, sellers)

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def windows(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(add, batch.of(OrderCreated), table)

    def add(orders: Iterable[OrderCreated], rows: Any) -> None:
        WINDOWS.add(orders, rows)

    table = TimedTable("windows", *open_codec(count()))
    flow = Flow(
        register,
        "windows",
        reads=(ORDERS,),
        keeps=table,
        global_tables=(SELLERS,),
        fires=fire,
        emits=SOLD,
    )
    topology = Topology((SELLING.flows[0], flow), dead_letters="dead-letters")
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(topology, settings, partitions=1) as driver:
        driver.pipe(USERS, [Change(n, "GB" * 5_000).record(n) for n in range(1, 5)])
        driver.stop_worker()
        driver.start_worker()
        driver.settle()
        folder = tmp_path / driver.settings.app_id / GLOBAL_FOLDER / "0"
        for path in folder.glob("*.sst"):
            path.write_bytes(b"x" * path.stat().st_size)
        later = order(event_id="o-2", timestamp=NOW_MS + 10)
        driver.pipe(ORDERS, [order_of("o-1", 2), (b"ada", later)])
        assert list(countries(driver).values()) == ["4"]
    assert "it is rebuilt" in caplog.text


def test_a_global_table_is_written_by_its_own_flow_alone(tmp_path: Path) -> None:
    def write(orders: Iterable[OrderCreated], sellers: Any) -> None:
        for each in orders:
            sellers[each.event_id] = "GB"

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def sold(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(write, batch.of(OrderCreated), SELLERS)

    flows = (
        SELLING.flows[0],
        Flow(register, "sold", reads=(ORDERS,), global_tables=(SELLERS,)),
    )
    topology = Topology(flows, dead_letters="dead-letters")
    with (
        Driver(topology, load_settings(data_dir=tmp_path), partitions=1) as driver,
        pytest.raises(DefinitionError, match="table sellers, which is global"),
    ):
        driver.pipe(ORDERS, [order_of("o-1", 2)])
