"""Feeds order lines, which come by product, to the rule, with the table of open windows."""

from collections.abc import AsyncIterable

from agents.product_sales import rules
from streams.engine.api import App, Batch
from streams.sales import OrderLine
from streams.topics import ORDER_LINES
from tables.sales import PRODUCT_SALES


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDER_LINES)
    async def product_sales(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_lines, batch.of(OrderLine), PRODUCT_SALES)
