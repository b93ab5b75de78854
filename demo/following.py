"""Reading topics as a consumer downstream does: committed records, as they become visible."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from demo.closing import closed
from demo.watched import MAIN_GROUP, Watched
from streams.errors import HeadraceError

_ANSWER_TIMEOUT_S = 10.0


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


class Standing(NamedTuple):
    """Of an input: the next offset to be committed, and that of the next record to be sent."""

    committed: int
    end: int


class OutputFollower(Follower):
    """Reads all that an application emits, `followed`, and knows how far its group is in the inputs."""

    def __init__(
        self,
        client: Mapping[str, Any],
        group: str,
        partitions: int,
        watched: Watched = MAIN_GROUP,
        beside: Sequence[TopicPartition] = (),
    ) -> None:
        """`beside` are partitions that are read as well."""
        self._group = group
        self._inputs = [TopicPartition(t, n) for t in watched.inputs for n in range(partitions)]
        self.between = [TopicPartition(t, n) for t in watched.between for n in range(partitions)]
        self.followed = [TopicPartition(t, n) for t in watched.told for n in range(partitions)]
        super().__init__(client, [*self.followed, *beside], wait_ms=100)
        # What a transaction has written there may be committed before it can be read.
        self._written = (
            AIOKafkaConsumer(**client, isolation_level="read_uncommitted") if self.between else None
        )
        self._admin = AIOKafkaAdminClient(**client)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        if self._written is not None:
            await self._written.start()
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        if self._written is not None:
            await closed(self._written.stop())
        await closed(self._admin.close())

    async def standings(self) -> dict[TopicPartition, Standing]:
        """Return how far the workers are in each input, and in what they hand on among themselves.

        What came there of inputs that are committed lies before the ends. Raises HeadraceError if Kafka
        is silent.
        """
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                committed = await self._admin.list_consumer_group_offsets(
                    self._group, partitions=[*self._inputs, *self.between]
                )
                ends = await self._consumer.end_offsets(self._inputs)
                if self._written is not None:
                    ends |= await self._written.end_offsets(self.between)
        except (TimeoutError, KafkaError) as error:
            why = (
                f"not within {_ANSWER_TIMEOUT_S:g} s" if isinstance(error, TimeoutError) else error
            )
            raise HeadraceError(f"Kafka does not answer any more: {why}") from error
        return {
            tp: Standing(max(0, committed[tp].offset) if tp in committed else 0, end)
            for tp, end in ends.items()
        }
