"""What the group's coordinator keeps of each commit: proof that a task had one owner at a time.

A commit writes beside its offsets a number: one more than that of the commit which its owner's state
was made from. Whoever commits without having seen what was committed last, as a second owner would,
writes a number that is there already.
"""

from collections import defaultdict
from collections.abc import Mapping
from io import BytesIO
from itertools import groupby, pairwise
from typing import Any, Final, NamedTuple

from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, String

from demo.readback import read_topics
from streams.engine.admin import partition_counts
from streams.engine.cluster import Committed
from streams.engine.notes import noted

_OFFSETS = "__consumer_offsets"
# Versions, which tell what a record is of.
_OFFSET_KEYS = {0, 1}
_OFFSET_VALUE_VERSION = 4
_GROUP_KEY = 2
_GROUP_VALUE_VERSION = 3
_TIMEOUT_S = 20.0
_string: Final = String().decode


class Entry(NamedTuple):
    """One input's offset in a commit; those of one commit were written at the same time."""

    topic: str
    partition: int
    offset: int
    number: int
    at_ms: int


async def two_owners(client: Mapping[str, Any], group: str) -> list[str]:
    """Return a line for each commit that did not follow upon the one before it: none is right.

    Raises AssertionError where nothing was committed.
    """
    entries: dict[int, list[Entry]] = defaultdict(list)
    for row in await _kept(client):
        entry = _entry(row, group)
        if entry is not None:
            entries[entry.partition].append(entry)
    assert entries, f"group {group} has committed nothing"
    return [line for of_task in entries.values() for line in breaks(of_task)]


async def generations(client: Mapping[str, Any], group: str) -> list[int]:
    """Return each generation that a group had: one for each rebalance."""
    return sorted(
        {
            generation
            for row in await _kept(client)
            if (generation := _generation(row, group)) is not None
        }
    )


async def _kept(client: Mapping[str, Any]) -> list[Any]:
    """Return all that coordinators have written down, in each one's order."""
    counts = await partition_counts(client, [_OFFSETS], timeout_s=_TIMEOUT_S)
    records = await read_topics(client, [_OFFSETS], counts[_OFFSETS])
    return [row for rows in records.values() for row in rows]


def breaks(entries: list[Entry]) -> list[str]:
    """Return what is wrong in the history of a task: all inputs' partitions of one number."""
    commits = groupby((entry.number, entry.at_ms) for entry in entries)
    numbers = [number for (number, _), _ in commits]
    lines = [
        f"task {entries[0].partition}: commit {after} came after {before}"
        for before, after in pairwise([0, *numbers])
        if after != before + 1
    ]
    for topic in {entry.topic for entry in entries}:
        offsets = [entry.offset for entry in entries if entry.topic == topic]
        lines += [
            f"{topic}-{entries[0].partition}: offset {after} came after {before}"
            for before, after in pairwise(offsets)
            if after < before
        ]
    return lines


def _entry(row: Any, group: str) -> Entry | None:
    """Read a record of Kafka's (OffsetCommitKey, OffsetCommitValue); None for what else is there."""
    read = BytesIO(row.key)
    if Int16.decode(read) not in _OFFSET_KEYS or row.value is None or _string(read) != group:
        return None
    topic, partition = _string(read), Int32.decode(read)
    read = BytesIO(row.value)
    version, offset, _leader_epoch = Int16.decode(read), Int64.decode(read), Int32.decode(read)
    assert version == _OFFSET_VALUE_VERSION, f"Kafka writes offsets otherwise: {version}"
    number = noted([Committed(offset, CompactString().decode(read))]).commit
    return Entry(topic, partition, offset, number, row.timestamp)


def _generation(row: Any, group: str) -> int | None:
    """Read a record of Kafka's (GroupMetadataKey, GroupMetadataValue); None for what else is there."""
    read = BytesIO(row.key)
    if Int16.decode(read) != _GROUP_KEY or row.value is None or _string(read) != group:
        return None
    read = BytesIO(row.value)
    version, _protocol_type = Int16.decode(read), _string(read)
    assert version == _GROUP_VALUE_VERSION, f"Kafka writes groups otherwise: {version}"
    generation: int = Int32.decode(read)
    return generation
