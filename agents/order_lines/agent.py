"""Feeds new orders to the rule."""

from collections.abc import AsyncIterable

from agents.order_lines import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def order_lines(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.by_product, batch.of(OrderCreated))
