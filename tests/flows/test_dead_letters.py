"""What is no valid event, or makes a rule raise, goes to the dead letters: once, and alone."""

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Topology
from streams.engine.errors import CauselessFailureError
from streams.engine.failpoints import Step
from streams.events import OrderCreated, OrderHighValue
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, HIGH_VALUE_ORDERS, ORDERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS
from tests.flows.stories import order, order_ids, orders

Rule = Callable[[Iterable[OrderCreated]], Iterable[OrderHighValue]]


@contextmanager
def running(folder: Path, rule: Rule, *, emits: bool = False, **options: Any) -> Iterator[Driver]:
    """Run the production topology and behind it a flow with this rule."""

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def odd(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.of(OrderCreated))

    flow = Flow(register, "odd", reads=(ORDERS,), emits=HIGH_VALUE_ORDERS if emits else None)
    topology = Topology((*TOPOLOGY.flows, flow), dead_letters=DEAD_LETTERS)
    settings_ = load_settings(data_dir=folder, commit_interval_ms=1)
    with Driver(topology, settings_, **options) as driver:
        yield driver


def reasons(driver: Driver) -> list[tuple[str, str]]:
    """Return offset and reason of each dead letter, in their order."""
    headers = [dict(sent.headers) for sent in driver.sent(DEAD_LETTERS)]
    return [(h["__streams.errors.offset"].decode(), h["headrace.reason"].decode()) for h in headers]


def refuse_13(orders_: Iterable[OrderCreated]) -> tuple[()]:
    for each in orders_:
        if each.data.order_id.startswith("order-13"):
            raise ValueError("13 is not for us")
    return ()


def test_a_record_that_is_no_event_is_kept_to_the_byte(driver: Driver) -> None:
    driver.pipe(ORDERS, [order(1), (b"\xff", b"\x00 no JSON"), order(2)], partition=1)
    (letter,) = driver.read(DEAD_LETTERS)
    assert (letter.partition, letter.key, letter.value) == (1, b"\xff", b"\x00 no JSON")
    headers = dict(letter.headers)
    failed_at = headers.pop("headrace.first-failed-at")
    assert int(failed_at) > 0
    message = headers.pop("__streams.errors.message")
    assert message.startswith(b"not JSON")
    assert headers == {
        "__streams.errors.exception": b"streams.engine.dead_letters.InvalidEventError",
        "__streams.errors.stacktrace": b"",
        "__streams.errors.topic": b"orders",
        "__streams.errors.partition": b"1",
        "__streams.errors.offset": b"1",
        "headrace.reason": b"undecodable",
        "headrace.agent": b"",
    }
    assert driver.table(USER_ORDERS)["ada"].orders == 2


def test_a_record_that_makes_a_rule_raise_is_dropped_for_all_flows(tmp_path: Path) -> None:
    with running(tmp_path, refuse_13) as driver:
        driver.pipe(ORDERS, orders(range(10, 17), amount=5000.0))
        (letter,) = driver.read(DEAD_LETTERS)
        assert (letter.key, letter.value) == order(13, amount=5000.0)
        headers = dict(letter.headers)
        assert headers["__streams.errors.exception"] == b"builtins.ValueError"
        assert headers["__streams.errors.message"] == b"13 is not for us"
        assert b"in refuse_13" in headers["__streams.errors.stacktrace"]
        assert headers["__streams.errors.offset"] == b"3"
        assert headers["headrace.reason"] == b"rule-failed"
        assert headers["headrace.agent"] == b"odd"
        assert driver.table(USER_ORDERS)["ada"].orders == 6
        told = order_ids(driver.read(HIGH_VALUE_ORDERS))
        assert told == [f"order-{n}" for n in range(10, 17) if n != 13]


@settings(max_examples=15, deadline=None)
@given(bad=st.sets(st.integers(0, 11)), junk=st.sets(st.integers(0, 11)), size=st.integers(1, 12))
def test_narrowing_finds_each_of_several_wherever_they_stand(
    tmp_path_factory: pytest.TempPathFactory, bad: set[int], junk: set[int], size: int
) -> None:
    def refuse(orders_: Iterable[OrderCreated]) -> tuple[()]:
        if any(int(each.data.order_id.removeprefix("order-")) in bad for each in orders_):
            raise ValueError
        return ()

    folder = tmp_path_factory.mktemp("narrowing")
    with running(folder, refuse, max_batch_records=size) as driver:
        piped = [(b"ada", b"?") if n in junk else order(n, amount=5000.0) for n in range(12)]
        driver.pipe(ORDERS, piped)
        assert reasons(driver) == [
            (str(n), "undecodable" if n in junk else "rule-failed") for n in sorted(bad | junk)
        ]
        good = [n for n in range(12) if n not in bad | junk]
        assert order_ids(driver.sent(HIGH_VALUE_ORDERS.name)) == [f"order-{n}" for n in good]
        counted = driver.table(USER_ORDERS)
        assert (counted["ada"].orders if good else len(counted)) == len(good)


def test_the_first_flow_in_topology_order_is_named(tmp_path: Path) -> None:
    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def early(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(refuse_13, batch.of(OrderCreated))

    def register_late(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def a_late_one(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(refuse_13, batch.of(OrderCreated))

    flows = (
        Flow(register, "early", reads=(ORDERS,)),
        Flow(register_late, "a_late_one", reads=(ORDERS,)),
    )
    topology = Topology(flows, dead_letters=DEAD_LETTERS)
    with Driver(topology, load_settings(data_dir=tmp_path, commit_interval_ms=1)) as driver:
        driver.pipe(ORDERS, orders([13]))
        (letter,) = driver.read(DEAD_LETTERS)
        assert dict(letter.headers)["headrace.agent"] == b"early"


def test_an_output_above_the_brokers_limit_is_too_large(tmp_path: Path) -> None:
    def shout(orders_: Iterable[OrderCreated]) -> Iterator[OrderHighValue]:
        for each in orders_:
            if each.data.order_id == "order-1":
                yield OrderHighValue.caused_by(each)

    # High-value events are longer than their orders, which alone fit.
    with running(tmp_path, shout, emits=True, max_record_bytes=1_000) as driver:
        long = order(1, note="x", items=[{"product_id": "p" * 700, "quantity": 1, "unit_price": 1}])
        driver.pipe(ORDERS, [order(0), long, order(2)])
        assert reasons(driver) == [("1", "too-large")]
        assert driver.table(USER_ORDERS)["ada"].orders == 2
        assert driver.sent(HIGH_VALUE_ORDERS.name) == []


def no_pairs(orders_: Iterable[OrderCreated]) -> tuple[()]:
    if len(list(orders_)) > 1:
        raise RuntimeError("two are too many")
    return ()


def test_an_error_that_no_single_record_causes_stops_the_worker(tmp_path: Path) -> None:
    with running(tmp_path, no_pairs) as driver:
        driver.cut_input([1])
        driver.pipe(ORDERS, orders([0]))
        driver.cut_input([2])
        with pytest.raises(
            CauselessFailureError, match=r"odd failed on 2 records together.*offset"
        ):
            driver.pipe(ORDERS, orders([1, 2]))
        assert driver.sent(DEAD_LETTERS) == []
        assert [row.decode()[:12] for row in driver.changelog(USER_ORDERS).values()] == [
            '{"orders":1,'
        ]


def test_a_hand_over_that_waits_for_such_a_batch_commits_nothing_of_it(tmp_path: Path) -> None:
    with running(tmp_path, no_pairs) as driver:
        engine = driver._workers[0].worker.engine
        assert engine is not None
        revoked = engine.on_revoked
        revoking: list[asyncio.Future[None]] = []
        failpoints.arm(
            Step.PROCESS_AFTER_AGENTS,
            failpoints.on_visit(1, lambda _step: revoking.append(asyncio.ensure_future(revoked()))),
        )
        with pytest.raises(CauselessFailureError):
            driver.pipe(ORDERS, orders([1, 2]))
        driver._do(asyncio.wait_for(revoking[0], timeout=20))
        assert driver.changelog(USER_ORDERS) == {}


def test_a_dead_letter_is_not_lost_nor_doubled_by_a_crash(driver: Driver) -> None:
    driver.crash_at(Step.COMMIT_BEFORE_DISK)
    driver.pipe(ORDERS, [(b"ada", b"?")])
    driver.restart()
    assert reasons(driver) == [("0", "undecodable")]
