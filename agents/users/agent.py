"""Feeds user events to the rule, with the table that it keeps."""

from collections.abc import AsyncIterable

from agents.users import rules
from streams import topics
from streams.engine.api import App, Batch
from tables.definitions import USERS


def register(app: App[object]) -> None:
    """Hang the agent on the application."""

    @app.agent(topics.USERS)
    async def users(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.keep_users, batch.all(), USERS)
