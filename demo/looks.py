"""What is counted at one moment, and what two or more such moments tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from aiokafka import TopicPartition

from demo.following import Standing
from demo.snapshot import FlowRow
from streams.engine.definitions import Flow


class Look(NamedTuple):
    """What was counted at one moment; counts since the start."""

    at_s: float
    sent: int
    seen: Counter[str]
    """By topic, as a reader downstream sees it."""
    changes: Counter[str]
    """By table."""
    standings: Mapping[TopicPartition, Standing]

    def committed(self, topics: Sequence[str]) -> int:
        """Return how many records of these inputs the workers are done with."""
        return sum(at.committed for tp, at in self.standings.items() if tp.topic in topics)

    def per_s(self, before: Look, count_before: int, count: int) -> float:
        """Return by how many a second something has grown since a look before this one."""
        passed_s = self.at_s - before.at_s
        return max(0, count - count_before) / passed_s if passed_s > 0 else 0.0


def flow_rows(
    flow: Flow, before: Look, now: Look, plain: Callable[[str], str] = str
) -> list[FlowRow]:
    """Return a flow and what went through it between two looks. Topics are called by `plain` names."""
    reads = tuple(topic.name for topic in flow.reads)
    keeps = flow.keeps.name if flow.keeps else None
    outputs = [topic.name for topic in flow.outputs]
    # What flows hand on among themselves nobody downstream reads.
    read = [output for output in outputs if plain(output) == output]
    first = FlowRow(
        name=flow.name,
        reads=tuple(map(plain, reads)),
        joins=tuple(table.name for table in flow.joins),
        keeps=keeps,
        emits=None,
        in_per_s=now.per_s(before, before.committed(reads), now.committed(reads)),
        changes_per_s=now.per_s(before, before.changes[keeps], now.changes[keeps])
        if keeps
        else None,
        out_per_s=None,
        out=None,
    )
    further = FlowRow("", (), (), None, None, None, None, None, None)
    return [
        (first if number == 0 else further)._replace(
            emits=plain(output),
            out_per_s=now.per_s(before, before.seen[output], now.seen[output])
            if output in read
            else None,
            out=now.seen[output] if output in read else None,
        )
        for number, output in enumerate(outputs)
    ] or [first]


def waited_s(looks: Sequence[Look]) -> float:
    """Return for how long the oldest record has waited that is not committed at the last look.

    When it was sent is told by the looks between which its partition grew beyond it, as if it grew
    steadily; 0.0 where nothing waits.
    """
    last = looks[-1]
    waiting = {tp: at.committed for tp, at in last.standings.items() if at.end > at.committed}
    longest = 0.0
    for tp, offset in waiting.items():
        later = last
        for look in reversed(looks):
            at = look.standings.get(tp)
            if at is None:
                break
            if at.end <= offset:
                share = (offset - at.end) / (later.standings[tp].end - at.end)
                longest = max(longest, last.at_s - look.at_s - share * (later.at_s - look.at_s))
                break
            later = look
        else:
            longest = max(longest, last.at_s - later.at_s)
    return longest
