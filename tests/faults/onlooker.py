"""Who looks on while an application is at work: what comes out as it comes, and how far it is."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from demo.closing import closed
from demo.following import Follower
from demo.oracle import DERIVED
from demo.readback import INPUTS
from streams.topics import DEAD_LETTERS

_ANSWER_TIMEOUT_S = 10.0


class Progress(NamedTuple):
    """Offsets of the input that are committed, and that there are."""

    committed: int
    end: int


class Onlooker(Follower):
    """A read_committed reader of all that an application emits. Its `seen` is (offset, key, value)."""

    def __init__(self, client: Mapping[str, Any], group: str, partitions: int) -> None:
        self.seen: dict[TopicPartition, list[tuple[int, bytes | None, bytes | None]]] = defaultdict(
            list
        )
        self._group = group
        self._inputs = [TopicPartition(t, n) for t in INPUTS for n in range(partitions)]
        self.followed = [
            TopicPartition(t, n) for t in (*DERIVED, DEAD_LETTERS) for n in range(partitions)
        ]
        super().__init__(client, self.followed, wait_ms=100)
        self._admin = AIOKafkaAdminClient(**client)

    async def __aenter__(self) -> Self:
        await self._admin.start()
        return await super().__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        # After an outage aiokafka's stop() may end half way, and leave connections open.
        await closed(self._consumer._client.close())
        await self._admin.close()

    def _take(self, topic: str, records: Sequence[Any]) -> None:
        of_partition = self.seen[TopicPartition(topic, records[0].partition)]
        of_partition += [(r.offset, r.key, r.value) for r in records]

    async def ends(self) -> dict[TopicPartition, int]:
        """Return the offset behind the last one of each input that may be read."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(self._inputs)
        return ends

    async def progress(self) -> Progress | None:
        """Return how far the application is; None while Kafka cannot tell."""
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                ends = await self.ends()
                found = await self._admin.list_consumer_group_offsets(
                    self._group, partitions=self._inputs
                )
        except (TimeoutError, KafkaError):
            return None
        committed = sum(max(0, found[tp].offset) for tp in self._inputs if tp in found)
        return Progress(committed, sum(ends.values()))
