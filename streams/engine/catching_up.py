"""Whether a store on disk can be caught up with its task's changelogs (decision 0018).

Whoever opens one asks the same questions, in this order: the task's owner, for whom some of the
answers are final, and a standby, which begins anew. Nothing here changes anything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from streams.engine.cluster import Bounds, are_different
from streams.engine.config import EngineConfig
from streams.engine.records import TopicPartition
from streams.engine.store import Position

FOREVER_MS: Final = 2**63


@dataclass(frozen=True, slots=True)
class Changelogs:
    """One task's changelogs, as the brokers tell of them.

    Its questions are answered with what is wrong, in words that go on from the store's path; with
    nothing where all is well. What a store of an earlier release does not tell counts as right.
    """

    task_id: str
    partitions: int
    """How many the task's topics have."""
    topics: Mapping[str, TopicPartition]
    """By table."""
    ids: Mapping[str, str]
    """By table; empty where the brokers tell none."""
    bounds: Mapping[TopicPartition, Bounds]

    @property
    def ends(self) -> dict[str, int]:
        """Return where each ends, by table."""
        return {table: self.bounds[tp].end for table, tp in self.topics.items()}

    def foreign(self, position: Position) -> str:
        """Are its rows not of this task, or not of these very changelogs? Then it is made anew."""
        if position.task not in {"", self.task_id}:
            return f"it is of {position.task}"
        for table, tp in self.topics.items():
            is_other = are_different(position.topics.get(table, ""), self.ids[table])
            if is_other or position.changelogs.get(table, 0) > self.bounds[tp].end:
                return f"it does not belong to changelog {tp.topic} any more"
        return ""

    def repartitioned(self, position: Position) -> str:
        """Do its keys lie elsewhere by now? What was counted in other partitions is of no use here."""
        if position.partitions != self.partitions:
            return (
                f"it was built from topics with {position.partitions} partitions, they have "
                f"{self.partitions} now"
            )
        return ""

    def has_all_of(self, position: Position) -> bool:
        """Tell whether a store is of a commit and stands at their ends: it missed nothing, however old."""
        return bool(position.sources) and all(
            position.changelogs.get(table, 0) == end for table, end in self.ends.items()
        )

    def lost(self, position: Position) -> str:
        """Did one lose what the store does not have? Then the rows are gone, whatever is made anew.

        Compaction moves no beginning; what was deleted by age or by hand may have been a key's only row.
        """
        for table, tp in self.topics.items():
            stands_at, begin = position.changelogs.get(table, 0), self.bounds[tp].begin
            if stands_at < begin:
                return (
                    f"changelog {tp.topic}-{tp.partition} begins at offset {begin}, and local state ends "
                    f"at {stands_at}: rows are gone"
                )
        return ""


def outdated(age_ms: int, lifetime_ms: int) -> str:
    """May its changelogs have forgotten rows that were removed since? Then it is made anew."""
    return f"it was last level {age_ms / 3_600_000:.1f} h ago" if age_ms > lifetime_ms else ""


def store_lifetime_ms(config: EngineConfig, tombstones_kept_ms: Iterable[int | None]) -> int:
    """Return how old a store may be whose changelogs tell of removed rows for so long; None: not told.

    Of what was removed before that, they may tell nothing any more.
    """
    told = (kept_ms for kept_ms in tombstones_kept_ms if kept_ms is not None)
    return min([config.state_lifetime_ms, *told])
