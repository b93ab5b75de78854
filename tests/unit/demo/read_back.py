"""Records as the demo's check reads them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from aiokafka import TopicPartition

from demo.oracle import DeadLetter

NOW_MS = 1_763_715_600_000


class Record(NamedTuple):
    """What the check reads of aiokafka's ConsumerRecord."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


Topics = dict[TopicPartition, list[Record]]


def as_json(document: Any) -> bytes:
    return json.dumps(
        document, default=lambda d: float(d) if isinstance(d, Decimal) else d
    ).encode()


def letter(found: DeadLetter, source: Record) -> Record:
    topic, partition, offset, reason = found
    headers = {
        "__streams.errors.topic": topic,
        "__streams.errors.partition": str(partition),
        "__streams.errors.offset": str(offset),
        "headrace.reason": reason,
    }
    encoded = [(name, text.encode()) for name, text in headers.items()]
    return Record(0, NOW_MS, source.key, source.value, encoded)
