"""What is said of bad records: a line a flow, not a line a record."""

import io
import logging
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import Any

from config.seldom import SeldomHandler
from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Topology
from streams.events import OrderCreated
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDERS
from tests.flows.stories import orders


def refuse(orders_: Iterable[OrderCreated]) -> tuple[()]:
    for each in orders_:
        raise ValueError(f"{each.data.order_id} is not for us")
    return ()


def register(app: App[Any]) -> None:
    @app.agent(ORDERS)
    async def strict(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(refuse, batch.of(OrderCreated))


def test_a_hundred_dead_letters_of_a_flow_are_two_lines(tmp_path: Path) -> None:
    topology = Topology((Flow(register, "strict", reads=(ORDERS,)),), dead_letters=DEAD_LETTERS)
    stream = io.StringIO()
    handler = SeldomHandler(stream, libraries=())
    handler.setFormatter(
        logging.Formatter("%(message)s x%(repeated)s", defaults={"repeated": 1}),
    )
    engine = logging.getLogger("streams.engine.processing")
    engine.addHandler(handler)
    try:
        with Driver(topology, load_settings(data_dir=tmp_path)) as driver:
            driver.pipe(ORDERS, orders(range(100)))
            assert len(driver.sent(DEAD_LETTERS)) == 100
    finally:
        engine.removeHandler(handler)
        handler.close()
    first, rest = stream.getvalue().splitlines()
    assert first.startswith("dead letter: orders-")
    assert "strict: " in first
    assert rest.endswith("x99")
