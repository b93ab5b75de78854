"""A consumer group of the Kafka in memory."""

import asyncio
import itertools
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.memory_cluster import MemoryCluster, MemorySource

CURRENT: ContextVar["MemoryCluster | None"] = ContextVar("worker", default=None)
"""Whose the running asyncio task is."""


class Group:
    """A consumer group with eager rebalances: everything is revoked, then everything assigned."""

    def __init__(self) -> None:
        self._members: dict[str, MemorySource] = {}
        self._numbers = itertools.count()
        self._rebalance = asyncio.Lock()

    async def join(self, source: "MemorySource") -> None:
        async with self._rebalance:
            await self._revoke()
            self._members[f"member-{next(self._numbers)}"] = source
            await self._assign()

    async def leave(self, source: "MemorySource") -> None:
        async with self._rebalance:
            left = [name for name, member in self._members.items() if member is source]
            for name in left:
                del self._members[name]
            if left:
                await self._revoke()
                await self._assign()

    async def rejoin(self, source: "MemorySource | None" = None) -> None:
        async with self._rebalance:
            if source is not None and source not in self._members.values():
                self._members[f"member-{next(self._numbers)}"] = source
            await self._revoke()
            await self._assign()

    async def evict(self, worker: "MemoryCluster") -> None:
        """Go on without a member, as after a session time-out: it does not hear of it."""
        async with self._rebalance:
            self._members = {n: m for n, m in self._members.items() if m.cluster is not worker}
            await self._revoke()
            await self._assign()

    async def _revoke(self) -> None:
        for member in self._alive():
            await self._call(member, member.revoke())

    async def _assign(self) -> None:
        members = self._alive()
        if members:
            leader = members[0]
            names = {name: m for name, m in self._members.items() if m in members}
            told = {name: member.grouping.describe() for name, member in names.items()}
            partitions, owners, standbys = leader.grouping.assign(told)
            for name, assigned in partitions.items():
                names[name].grouping.hear(owners, standbys.get(name, ()))
                await self._call(names[name], names[name].assign(assigned))

    @staticmethod
    async def _call(member: "MemorySource", callback: Coroutine[Any, Any, None]) -> None:
        # What a callback starts is the member's; what its caller starts later is not.
        caller = CURRENT.set(member.cluster)
        try:
            await callback
        except BaseException:
            if not member.cluster.is_cut:  # a crash within the callback is the member's own
                raise
        finally:
            CURRENT.reset(caller)

    def _alive(self) -> list["MemorySource"]:
        self._members = {n: m for n, m in self._members.items() if not m.cluster.is_cut}
        return list(self._members.values())
