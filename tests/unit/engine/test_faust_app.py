"""What streams/engine/faust_app.py leans on in Faust's inner parts, and how agents may go wrong."""

import asyncio
import inspect
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any

import faust
import pytest
from faust.app import BootStrategy
from faust.tables import TableManager
from faust.transport.conductor import Conductor
from faust.types import ConsumerMessage

from config.settings import load_settings
from streams.engine.batch import Batch
from streams.engine.definitions import Flow, Topology
from streams.engine.errors import AgentFailedError, DefinitionError
from streams.engine.faust_app import App
from streams.events import OrderCreated
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, HIGH_VALUE_ORDERS, ORDERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS
from tests.flows.stories import order, orders

Register = Callable[[Any], None]


def one_flow(register: Register, name: str = "odd") -> Topology:
    return Topology((Flow(register, name, reads=(ORDERS,)),), dead_letters=DEAD_LETTERS)


def app_of(register: Register, name: str = "odd") -> App:
    return App(one_flow(register, name), "an-app", object())


# --- what an agent may not do --------------------------------------------------------------------


def run_odd(agent: Callable[[AsyncIterable[Any]], Any], folder: Path) -> None:
    """Run a flow of this agent over three orders; raises what stops the worker."""

    def register(app: Any) -> None:
        agent.__name__ = "odd"
        app.agent(ORDERS)(agent)

    settings = load_settings(data_dir=folder, commit_interval_ms=1)
    with Driver(one_flow(register), settings) as driver:
        try:
            driver.pipe(ORDERS, orders(range(3)))
        finally:
            assert driver.kafka.offsets == {}  # nothing is committed past an agent's failure


def test_an_agent_that_raises_outside_of_run_stops_the_worker(tmp_path: Path) -> None:
    async def odd(batches: AsyncIterable[Any]) -> None:
        async for _ in batches:
            raise KeyError("oh")

    with pytest.raises(AgentFailedError, match=r"odd.* raised outside batch.run: KeyError\('oh'\)"):
        run_odd(odd, tmp_path)


def test_an_agent_that_raises_before_its_first_batch_stops_the_worker(tmp_path: Path) -> None:
    async def odd(batches: AsyncIterable[Any]) -> None:
        raise KeyError(type(batches).__name__)

    with pytest.raises(AgentFailedError, match=r"odd.* raised outside batch.run: KeyError"):
        run_odd(odd, tmp_path)


def test_an_agent_that_ends_stops_the_worker(tmp_path: Path) -> None:
    async def odd(batches: AsyncIterable[Any]) -> None:
        async for _ in batches:
            break

    with pytest.raises(AgentFailedError, match="agent odd ended"):
        run_odd(odd, tmp_path)


def test_an_agent_that_uses_a_table_which_is_not_its_own_stops_the_worker(tmp_path: Path) -> None:
    async def odd(batches: AsyncIterable[Any]) -> None:
        async for batch in batches:
            batch.run(lambda _orders, _table: (), batch.of(OrderCreated), USER_ORDERS)

    with pytest.raises(DefinitionError, match="odd uses table user_orders"):
        run_odd(odd, tmp_path)


def test_an_agent_that_emits_without_a_topic_stops_the_worker(tmp_path: Path) -> None:
    async def odd(batches: AsyncIterable[Any]) -> None:
        async for batch in batches:
            batch.run(lambda orders_: orders_, batch.of(OrderCreated))

    with pytest.raises(DefinitionError, match="odd derives events"):
        run_odd(odd, tmp_path)


def test_an_agent_of_no_flow_is_refused() -> None:
    async def stranger(batches: Any) -> None: ...

    def register(app: Any) -> None:
        app.agent(ORDERS)(stranger)

    with pytest.raises(DefinitionError, match=r"agent stranger is no flow of streams/topology\.py"):
        app_of(register)


def test_an_agent_of_another_topic_than_its_flows_is_refused() -> None:
    async def odd(batches: Any) -> None: ...

    def register(app: Any) -> None:
        app.agent(HIGH_VALUE_ORDERS)(odd)

    with pytest.raises(DefinitionError, match="agent odd reads high-value-orders, but"):
        app_of(register)


@pytest.mark.parametrize("channel", ["orders", None])
def test_a_channel_that_is_no_topic_is_refused(channel: Any) -> None:
    async def odd(batches: Any) -> None: ...

    def register(app: Any) -> None:
        app.agent(channel)(odd)

    with pytest.raises(DefinitionError, match=r"takes a Topic of streams/topics\.py"):
        app_of(register)


def test_a_flow_without_an_agent_is_refused() -> None:
    with pytest.raises(DefinitionError, match="flow odd registered no agent called odd"):
        app_of(lambda app: None)


# --- what the engine leans on in Faust -----------------------------------------------------------


def test_agents_are_called_by_their_flows_names() -> None:
    app = App(TOPOLOGY, "an-app", load_settings())
    assert set(app.agents) == {flow.name for flow in TOPOLOGY.flows}


def test_every_agent_of_a_topic_gets_the_same_batch(tmp_path: Path) -> None:
    seen: dict[str, list[Batch]] = {}

    def flow(name: str) -> Flow:
        def register(app: Any) -> None:
            async def agent(batches: AsyncIterable[Any]) -> None:
                async for batch in batches:
                    seen.setdefault(name, []).append(batch._batch)

            agent.__name__ = name
            app.agent(ORDERS)(agent)

        return Flow(register, name, reads=(ORDERS,))

    topology = Topology((flow("first"), flow("second")), dead_letters=DEAD_LETTERS)
    with Driver(topology, load_settings(data_dir=tmp_path, commit_interval_ms=1)) as driver:
        driver.pipe(ORDERS, [order(1)])
        driver.pipe(ORDERS, [order(2)], partition=1)
    assert len(seen["first"]) == 2
    assert all(a is b for a, b in zip(seen["first"], seen["second"], strict=True))


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_the_parts_of_faust_that_are_replaced_are_still_there() -> None:
    assert issubclass(faust.App.BootStrategy, BootStrategy)
    assert {"server", "tables", "sensors", "agents"} <= set(vars(BootStrategy))
    assert {"on_start", "on_stop"} <= set(vars(TableManager))
    assert parameters(faust.App._on_agent_error) == ["self", "agent", "exc"]
    assert parameters(faust.Schema.loads_value)[:3] == ["self", "app", "message"]
    assert parameters(faust.Schema.loads_key)[:3] == ["self", "app", "message"]
    assert parameters(Conductor.on_partitions_assigned) == ["self", "assigned"]
    assert {"tp", "generation_id", "value"} <= set(parameters(ConsumerMessage))


async def test_the_app_has_what_the_engine_sets_and_calls() -> None:
    app = App(TOPOLOGY, "an-app", load_settings())
    assert isinstance(app.tables, TableManager)
    assert isinstance(app.tables._tables_finalized, asyncio.Event)
    assert isinstance(app.tables._tables_registered, asyncio.Event)
    assert callable(app.topics.on_message)
    assert callable(app.flow_control.resume)
    assert app.consumer_generation_id == 1
