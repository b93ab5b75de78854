"""Feeds new orders to the rule, with the table that it keeps."""

from collections.abc import AsyncIterable

from agents.user_order_minutes import rules
from streams.engine.api import App, Batch
from streams.events import OrderColumns, OrderCreated
from streams.topics import ORDERS
from tables.definitions import USER_ORDER_MINUTES


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(ORDERS)
    async def user_order_minutes(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            orders = batch.columns(OrderCreated, OrderColumns.of)
            batch.run(rules.count_minutes, orders, USER_ORDER_MINUTES)
