"""Feeds orders and payments to their rules, with the table of what waits for a match."""

from collections.abc import AsyncIterable

from agents.order_payments import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated, PaymentCompleted
from streams.topics import ORDERS, PAYMENTS
from tables.timed import ORDER_PAYMENTS


def register(app: App[object]) -> None:
    """Hang the agent on the application: once for each input."""

    async def of_orders(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_orders, batch.of(OrderCreated), ORDER_PAYMENTS)

    async def of_payments(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_payments, batch.of(PaymentCompleted), ORDER_PAYMENTS)

    of_orders.__name__ = of_payments.__name__ = "order_payments"
    app.agent(ORDERS)(of_orders)
    app.agent(PAYMENTS)(of_payments)
