"""Feeds the orders to the rule, with the table that it keeps."""

from collections.abc import AsyncIterable
from typing import Protocol

from agents.vip_upgrades import rules
from streams.engine.api import App, Batch
from streams.events import OrderColumns, OrderCreated
from streams.topics import ORDERS
from tables.definitions import USER_ORDERS


class Settings(Protocol):
    """What this flow can be told."""

    @property
    def vip_orders(self) -> int:
        """How many orders make a user a VIP."""


def register(app: App[Settings]) -> None:
    """Hang the agent on the application."""
    at = app.settings.vip_orders

    @app.agent(ORDERS)
    async def vip_upgrades(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            orders = batch.columns(OrderCreated, OrderColumns.of)
            batch.run(rules.upgrade_vips, orders, USER_ORDERS, at=at)
