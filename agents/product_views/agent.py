"""Feeds looks at products to the rule, with the table that it keeps."""

from collections.abc import AsyncIterable

from agents.product_views import rules
from streams.engine.api import App, Batch
from streams.products import ProductViewed
from streams.topics import PRODUCTS
from tables.products import PRODUCT_VIEWS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(PRODUCTS)
    async def product_views(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.count_views, batch.of(ProductViewed), PRODUCT_VIEWS)
