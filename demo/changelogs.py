"""The tables as they change: what their changelogs say, read as anybody could."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition

from demo.following import Follower
from demo.panel import Sights
from demo.watched import Watched


class Changelogs(Follower):
    """Reads the changelogs of a group: counts changes by table, and has the rows seen."""

    def __init__(
        self, client: Mapping[str, Any], partitions: int, watched: Watched, sights: Sights
    ) -> None:
        self.changes: Counter[str] = Counter()
        self._sights = sights
        self._tables = {t.changelog(watched.app_id): t.name for t in watched.topology.tables}
        wanted = [TopicPartition(t, n) for t in self._tables for n in range(partitions)]
        super().__init__(client, wanted, wait_ms=200)

    def _take(self, topic: str, records: Sequence[Any]) -> None:
        table = self._tables[topic]
        self.changes[table] += len(records)
        for record in records:
            self._sights.see_row(table, record)
