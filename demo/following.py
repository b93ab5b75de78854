"""Reading topics as a consumer downstream does: committed records, as they become visible."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from demo.closing import closed


class Follower(ABC):
    """Reads partitions from their beginnings on, without end. Use it with `async with`."""

    def __init__(
        self, client: Mapping[str, Any], partitions: Sequence[TopicPartition], *, wait_ms: int
    ) -> None:
        """`wait_ms` is how long the broker may hold an answer back for more."""
        self._followed = partitions
        self._consumer = AIOKafkaConsumer(
            **client,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=wait_ms,
        )

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        self._consumer.assign(self._followed)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await closed(self._consumer.stop())

    async def follow(self) -> None:
        """Read without end."""
        while True:
            for tp, records in (await self._consumer.getmany(timeout_ms=500)).items():
                self._take(tp.topic, records)

    @abstractmethod
    def _take(self, topic: str, records: Sequence[Any]) -> None:
        """See what came of a topic's partition: aiokafka's ConsumerRecords, in offset order."""
