"""Feeds new orders to the rule, with the table of open hours."""

from collections.abc import AsyncIterable

from agents.spending_spikes import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS
from tables.timed import SPENDING_SPIKES


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def spending_spikes(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_orders, batch.of(OrderCreated), SPENDING_SPIKES)
