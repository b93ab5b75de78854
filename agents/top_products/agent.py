"""Feeds what products earned, of all of them, to the rule, with the table of open windows."""

from collections.abc import AsyncIterable

from agents.top_products import rules
from streams.engine.api import App, Batch
from streams.sales import ProductRevenue
from streams.topics import PRODUCT_REVENUES
from tables.sales import TOP_PRODUCTS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(PRODUCT_REVENUES)
    async def top_products(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.rank, batch.of(ProductRevenue), TOP_PRODUCTS)
