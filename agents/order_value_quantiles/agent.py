"""Feeds orders' values, which come by country, to the rule, with the table of open days."""

from collections.abc import AsyncIterable

from agents.order_value_quantiles import rules
from streams.engine.api import App, Batch
from streams.sales import OrderValue
from streams.topics import ORDER_VALUES
from tables.sales import ORDER_VALUE_QUANTILES


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDER_VALUES)
    async def order_value_quantiles(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_values, batch.of(OrderValue), ORDER_VALUE_QUANTILES)
