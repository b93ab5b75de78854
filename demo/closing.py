"""Closing aiokafka's clients, which can wait without end for a Kafka that has gone."""

import asyncio
from collections.abc import Coroutine
from typing import Any

_TIMEOUT_S = 1.0


async def closed(closing: Coroutine[Any, Any, None]) -> bool:
    """Run what closes a client, for a moment; return whether it came to a good end.

    Whatever goes wrong in it is no news: the reason for it has been told, or nothing is lost.
    """
    task = asyncio.ensure_future(closing)
    # asyncio.wait: a consumer's stop() may raise the CancelledError of one of its own tasks.
    await asyncio.wait({task}, timeout=_TIMEOUT_S)
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_TIMEOUT_S)
    return task.done() and not task.cancelled() and task.exception() is None
