"""Feeds new orders to the rule, with the users to join them with."""

from collections.abc import AsyncIterable

from agents.enriched_orders import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS
from tables.definitions import USERS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def enriched_orders(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.enrich, batch.of(OrderCreated), USERS)
