"""Rows that cannot be written, and stores that cannot be read: found, told, and overcome."""

from collections.abc import AsyncIterable, Iterable, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, Topology
from streams.engine.errors import StoreCorruptError
from streams.engine.store import Store
from streams.events import OrderCreated
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDERS
from streams.topology import TOPOLOGY, WINDOWS
from tables.definitions import USER_ORDER_MINUTES, USER_ORDERS
from tables.timed import ORDER_PAYMENTS, ORDER_STATS
from tests.flows.stories import NOW_MS, order, orders

DAY_MS = 86_400_000


def _encode(row: str) -> bytes:
    if "bad" in row:
        raise ValueError("this row cannot be written")
    return f'"{row}"'.encode()


NAMES = Table("names", _encode, lambda value: value.decode().strip('"'))


def remember(orders_: Iterable[OrderCreated], names: MutableMapping[str, str]) -> tuple[()]:
    """Append each order's id to its user's row, which so grows and grows."""
    for each in orders_:
        names[each.data.user_id] = names.get(each.data.user_id, "") + each.data.order_id
    return ()


def remembering(folder: Path, **options: Any) -> Driver:
    """Return a driver of the production topology and a flow that keeps NAMES."""

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def remembers(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(remember, batch.of(OrderCreated), NAMES)

    flow = Flow(register, "remembers", reads=(ORDERS,), keeps=NAMES)
    topology = Topology((*TOPOLOGY.flows, flow), dead_letters=DEAD_LETTERS)
    return Driver(topology, load_settings(data_dir=folder, commit_interval_ms=1), **options)


def reasons(driver: Driver) -> list[tuple[bytes, bytes, bytes]]:
    """Return offset, reason and agent of each dead letter."""
    headers = [dict(sent.headers) for sent in driver.sent(DEAD_LETTERS)]
    return [
        (h["__streams.errors.offset"], h["headrace.reason"], h["headrace.agent"]) for h in headers
    ]


def test_the_record_that_spoils_a_row_is_found_and_the_rest_goes_through(tmp_path: Path) -> None:
    with remembering(tmp_path) as driver:
        spoiler = order(7, user="bob", order_id="bad")
        driver.pipe(ORDERS, [*orders(range(5)), spoiler, *orders(range(8, 12))])
        assert reasons(driver) == [(b"5", b"rule-failed", b"remembers")]
        assert driver.table(USER_ORDERS)["ada"].orders == 9
        assert "bob" not in driver.table(USER_ORDERS)
        assert driver.table(NAMES)["ada"].count("order-") == 9
        driver.pipe(ORDERS, orders([20], user="bob"))
        assert driver.table(NAMES)["bob"] == "order-20"


def test_a_row_that_grows_above_the_limit_costs_the_record_that_did_it(tmp_path: Path) -> None:
    with remembering(tmp_path, max_record_bytes=400) as driver:
        driver.pipe(ORDERS, orders(range(60), amount=1.0))
        found = reasons(driver)
        assert {(reason, agent) for _, reason, agent in found} == {(b"too-large", b"remembers")}
        assert driver.table(USER_ORDERS)["ada"].orders == 60 - len(found)
        assert len(driver.changelog(NAMES)["ada"]) <= 300


@pytest.mark.parametrize("partition", [0, 1])
def test_a_store_that_turns_out_damaged_is_rebuilt_while_the_worker_runs(
    tmp_path: Path, partition: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with remembering(tmp_path) as driver:
        driver.pipe(ORDERS, orders(range(5)), partition=partition)
        driver.restart()

        healthy = Store.get
        damaged = iter([True])

        def get(self: Store, table: str, key: str) -> bytes | None:
            if next(damaged, False):  # as RocksDB tells of a block whose checksum is wrong
                raise StoreCorruptError(f"{self.path} is damaged")
            return healthy(self, table, key)

        monkeypatch.setattr(Store, "get", get)
        driver.pipe(ORDERS, orders(range(5, 9)), partition=partition)
        assert next(damaged, None) is None
        assert driver.table(USER_ORDERS)["ada"].orders == 9
        assert driver.workers == 1


@pytest.mark.parametrize("table", [ORDER_PAYMENTS.name, ORDER_STATS.name])
def test_a_store_whose_time_index_is_damaged_for_good_is_rebuilt(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(WINDOWS, settings, partitions=1) as driver:
        driver.pipe(ORDERS, orders(range(5)))
        driver.stop_worker()
        healthy = Store.last_begun
        damaged: list[Store] = []

        def last_begun(self: Store, name: str) -> int | None:
            if name == table:
                damaged[:] = damaged or [self]
                if self in damaged:
                    raise StoreCorruptError(f"{self.path} is damaged")
            return healthy(self, name)

        monkeypatch.setattr(Store, "last_begun", last_begun)
        driver.start_worker()
        driver.pipe(ORDERS, orders(range(5, 9)))
        assert damaged
        assert len(driver.table(ORDER_PAYMENTS)) == 9
        assert sum(row.events for row in driver.table(ORDER_STATS).values()) == 9


def test_a_store_that_turns_out_damaged_as_rows_expire_is_rebuilt_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with remembering(tmp_path) as driver:
        driver.pipe(ORDERS, orders(range(5)))
        driver.stop_worker()  # of what a worker has written itself it need not ask
        driver.start_worker()
        driver.settle()
        healthy = Store.begun
        damaged = iter([True])

        def begun(self: Store, table: str, from_ms: int, to_ms: int, limit: int) -> list[str]:
            if next(damaged, False):
                raise StoreCorruptError(f"{self.path} is damaged")
            return healthy(self, table, from_ms, to_ms, limit)

        monkeypatch.setattr(Store, "begun", begun)
        driver.pipe(ORDERS, [order(5, at_ms=9 * DAY_MS)])
        assert next(damaged, None) is None
        assert driver.table(USER_ORDERS)["ada"].orders == 6
        assert list(driver.table(USER_ORDER_MINUTES)) == [f"ada@{NOW_MS + 9 * DAY_MS}"]
