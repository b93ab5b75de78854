"""Feeds all that users do to the rule, with the table of their open sessions."""

from collections.abc import AsyncIterable

from agents.user_sessions import rules
from streams.engine.api import App, Batch
from streams.topics import ORDERS, USERS
from tables.timed import USER_SESSIONS


def register(app: App[object]) -> None:
    """Hang the agent on the application: once for each input."""

    async def user_sessions(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rules.take_events, batch.all(), USER_SESSIONS)

    app.agent(ORDERS)(user_sessions)
    app.agent(USERS)(user_sessions)
