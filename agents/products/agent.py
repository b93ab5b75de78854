"""Feeds what happens to products to the rule, with the table that it keeps."""

from collections.abc import AsyncIterable
from typing import Protocol

from agents.products import rules
from streams.engine.api import App, Batch
from streams.topics import PRODUCTS
from tables.products import PRODUCTS as ROWS


class Settings(Protocol):
    """What this flow can be told."""

    @property
    def low_stock(self) -> int:
        """Below how many of a product there are few."""


def register(app: App[Settings]) -> None:
    """Hang the agent on the application."""
    below = app.settings.low_stock

    @app.agent(PRODUCTS)
    async def products(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.keep_products, batch.all(), ROWS, below=below)
