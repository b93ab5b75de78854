"""Who looks on while an application is at work: what comes out as it comes, and how far it is."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from demo.closing import closed
from demo.following import OutputFollower
from streams.errors import HeadraceError


class Progress(NamedTuple):
    """Offsets of the input that are committed, and that there are."""

    committed: int
    end: int


class Onlooker(OutputFollower):
    """A read_committed reader of all that an application emits. Its `seen` is (offset, key, value)."""

    def __init__(self, client: Mapping[str, Any], group: str, partitions: int) -> None:
        self.seen: dict[TopicPartition, list[tuple[int, bytes | None, bytes | None]]] = defaultdict(
            list
        )
        super().__init__(client, group, partitions)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await super().__aexit__(kind, error, trace)
        # After an outage aiokafka's stop() may end half way, and leave connections open.
        await closed(self._consumer._client.close())

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
            standings = (await self.standings()).values()
        except HeadraceError:
            return None
        return Progress(sum(at.committed for at in standings), sum(at.end for at in standings))
