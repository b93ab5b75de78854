"""Feeds orders, and what is told of users' countries, to the rules, with the table of both."""

from collections.abc import AsyncIterable

from agents.order_countries import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS, USERS
from tables.sales import ORDER_COUNTRIES


def register(app: App[object]) -> None:
    """Hang the agents on the application, one for each topic."""

    async def of_orders(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_orders, batch.of(OrderCreated), ORDER_COUNTRIES)

    async def of_users(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            told = list(filter(rules.tells_country, batch.all()))
            batch.run(rules.take_countries, told, ORDER_COUNTRIES)

    of_orders.__name__ = of_users.__name__ = "order_countries"
    app.agent(USERS)(of_users)
    app.agent(ORDERS)(of_orders)
