"""Feeds all events of orders to the rule, with the table of ids that were passed on."""

from collections.abc import AsyncIterable

from agents.orders_deduplicated import rules
from streams.engine.api import App, Batch
from streams.topics import ORDERS
from tables.timed import ORDERS_PASSED


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def orders_deduplicated(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.pass_on, batch.all(), ORDERS_PASSED)
