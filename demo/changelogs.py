"""The tables as they change: what their changelogs say, read as anybody could."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from demo.following import Follower
from demo.snapshot import UserRow
from demo.watched import MAIN_GROUP, Watched
from tables.definitions import USER_ORDERS

_KEPT = 100


class TopUsers:
    """Those who have spent most. Amounts never shrink, so whoever falls out may be forgotten."""

    def __init__(self) -> None:
        self._rows: dict[str, UserRow] = {}

    def put(self, row: UserRow) -> None:
        """Take a user's newest row."""
        self._rows[row.user] = row
        if len(self._rows) > 2 * _KEPT:
            self._rows = {kept.user: kept for kept in self.first(_KEPT)}

    def first(self, count: int) -> list[UserRow]:
        """Return up to so many (at most 100), first the one who has spent most."""
        return heapq.nlargest(count, self._rows.values(), key=lambda row: row.amount_cents)


class Changelogs(Follower):
    """Reads the changelogs of an application: counts changes by table, and knows the top users."""

    def __init__(
        self,
        client: Mapping[str, Any],
        application_id: str,
        partitions: int,
        watched: Watched = MAIN_GROUP,
    ) -> None:
        self.changes: Counter[str] = Counter()
        self.top_users = TopUsers()
        self._tables = {t.changelog(application_id): t.name for t in watched.topology.tables}
        wanted = [TopicPartition(t, n) for t in self._tables for n in range(partitions)]
        super().__init__(client, wanted, wait_ms=200)

    def _take(self, topic: str, records: Sequence[Any]) -> None:
        table = self._tables[topic]
        self.changes[table] += len(records)
        if table == USER_ORDERS.name:
            self._see(records)

    def _see(self, records: Iterable[Any]) -> None:
        for record in records:
            if record.value is not None:
                row = USER_ORDERS.decode(record.value)
                user = record.key.decode()
                self.top_users.put(UserRow(user, row.orders, row.amount_cents, row.vip))
