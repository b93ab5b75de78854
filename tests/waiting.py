"""How tests wait: for a condition, with a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
DEADLINE_S = 20.0
_LOOK_AGAIN_S = 0.02


async def until(
    look: Callable[[], Awaitable[T | None]],
    *,
    deadline_s: float = DEADLINE_S,
    each_s: float = _LOOK_AGAIN_S,
) -> T:
    """Return the first truthy thing that `look` finds. Raises TimeoutError after the deadline."""
    async with asyncio.timeout(deadline_s):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(each_s)


async def until_true(look: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Return once `look` returns true. Raises TimeoutError after the deadline."""

    async def looked() -> bool:
        return look()

    await until(looked, deadline_s=deadline_s)
