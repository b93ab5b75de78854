"""Feeds new orders to the rule, with the table of open windows."""

from collections.abc import AsyncIterable

from agents.order_stats import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS
from tables.timed import ORDER_STATS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def order_stats(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_orders, batch.of(OrderCreated), ORDER_STATS)
