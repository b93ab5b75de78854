"""What travels between Kafka and the tasks: runs of records in, records out, and why one was refused."""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias, cast

from aiokafka.structs import TopicPartition

__all__ = [
    "NO_HEADERS",
    "Decoded",
    "EncodedRow",
    "Outgoing",
    "Reason",
    "Record",
    "Reject",
    "Run",
    "TopicPartition",
]


EncodedRow: TypeAlias = tuple[bytes, bytes | None]
"""A row's key and value as changelog and disk have them; None deletes."""


class Run(NamedTuple):
    """Records of one topic-partition in offset order, as columns of equal length.

    `next_offset` is where the next run begins: at least one behind the last record, further where
    compaction, control records or aborted transactions left a gap. A run may hold no record at all.
    """

    next_offset: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def rows(self) -> Iterable[tuple[bytes, bytes | None]]:
        """Return a changelog's records as rows; None deletes. What has no key is no row."""
        pairs = zip(self.keys, self.values, strict=True)
        if None in self.keys:
            return [(key, value) for key, value in pairs if key is not None]
        return cast("Iterable[tuple[bytes, bytes | None]]", pairs)


NO_HEADERS: list[tuple[str, bytes]] = []  # aiokafka's record builder takes a list and no other
Outgoing: TypeAlias = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers of a record to be sent: a Record, or as much of one as thousands need."""


class Record(NamedTuple):
    """A record to be sent; its partition is that of the task that sends it."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = NO_HEADERS


class Reason(StrEnum):
    """Why a record is a dead letter; where several apply, the first in this order."""

    UNDECODABLE = "undecodable"
    INVALID_FIELD = "invalid-field"
    KEY_MISMATCH = "key-mismatch"
    TIMESTAMP_AHEAD = "timestamp-ahead"
    RULE_FAILED = "rule-failed"
    TOO_LARGE = "too-large"


class Reject(NamedTuple):
    """A record that is no valid event: its place in the run, the reason, and one line for people."""

    at: int
    reason: Reason
    message: str


class Decoded(NamedTuple):
    """A decoded run: `events[i]` came from the record at `indexes[i]` of the run, in offset order.

    `len(events) + skipped + len(rejects)` is the number of records of the run (law 5).
    """

    indexes: Sequence[int]
    events: Sequence[Any]
    skipped: int
    rejects: Sequence[Reject]
