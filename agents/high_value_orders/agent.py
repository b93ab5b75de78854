"""Feeds the orders to the rule."""

from collections.abc import AsyncIterable
from decimal import Decimal
from typing import Protocol

from agents.high_value_orders import rules
from streams.engine.api import App, Batch
from streams.events import OrderCreated
from streams.topics import ORDERS


class Settings(Protocol):
    """What this flow can be told."""

    @property
    def high_value_amount(self) -> Decimal:
        """In the main unit; amounts above it are of high value."""


def register(app: App[Settings]) -> None:
    """Hang the agent on the application."""
    # Cut off below the cent: whole cents above 1000.005 are those above 1000.00.
    above_cents = int(app.settings.high_value_amount * 100)

    @app.agent(ORDERS)
    async def high_value_orders(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.high_value, batch.of(OrderCreated), above_cents=above_cents)
