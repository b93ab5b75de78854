"""What a task did since its last commit, and would commit next."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from streams.engine.records import Outgoing, TopicPartition
from streams.engine.store import IndexChanges

_KEY: Final = itemgetter(0)
_VALUE: Final[Any] = itemgetter(1)


@dataclass(slots=True)
class Counts:
    """How a flow's records ended: `processed + dead + late + skipped` is what was read (law 5)."""

    processed: int = 0
    dead: int = 0
    late: int = 0
    skipped: int = 0

    def add(self, other: "Counts") -> None:
        """Add another count to this one."""
        self.processed += other.processed
        self.dead += other.dead
        self.late += other.late
        self.skipped += other.skipped


@dataclass(slots=True)
class Epoch:
    """Records to send, by topic, and positions reached; table changes lie in the table parts."""

    outputs: defaultdict[str, list[Outgoing]] = field(default_factory=lambda: defaultdict(list))
    last: defaultdict[str, dict[bytes | None, Outgoing]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    """Records by key, and topic, of topics that keep the last of each; see Topic.keeps_last."""
    positions: dict[TopicPartition, int] = field(default_factory=dict)
    records: int = 0
    """How large it is: input records that it covers, and rows that were fired."""
    output_bytes: int = 0
    """Of the values in `outputs`, and of those that were to be sent and were replaced."""
    counts: defaultdict[tuple[str, str], Counts] = field(
        default_factory=lambda: defaultdict(Counts)
    )
    """How they ended, by topic and flow."""
    written: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Records to send, by topic and flow; those of changelogs and dead letters once it is sealed."""
    oldest_ms: dict[TopicPartition, int] = field(default_factory=dict)
    """Kafka's timestamp of the first record of each input."""
    index: dict[str, IndexChanges] = field(default_factory=dict)
    """What it changes in timed tables' indexes."""
    number: int = 0
    """That of its commit, once that has begun."""

    def emit(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Add records to be sent to a topic."""
        self.outputs[topic] += records
        self.output_bytes += _bytes(records)

    def replace(self, topic: str, records: Sequence[Outgoing]) -> None:
        """Add records to be sent to a topic, each instead of an earlier one of its key."""
        self.last[topic].update(zip(map(_KEY, records), records, strict=True))
        self.output_bytes += _bytes(records)

    def send_last(self, topic: str, flow: str) -> None:
        """Have what is left of the records of `replace`, which one flow derived, sent as it is now."""
        self.outputs[topic] = list(self.last.pop(topic).values())
        self.written[topic, flow] = len(self.outputs[topic])


def _bytes(records: Sequence[Outgoing]) -> int:
    return sum(map(len, filter(None, map(_VALUE, records))))
