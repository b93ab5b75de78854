"""Orders as they come from Kafka, each field of which a test may set or leave out."""

import json
from typing import Any

from streams.engine.codec import Codec
from streams.engine.records import Decoded, Run
from streams.topics import ORDERS

NOW_MS = 1_763_715_600_000
HOUR_MS = 3_600_000
ABSENT = object()
USER = b"ada"

ORDERS_CODEC = Codec(ORDERS, max_ahead_ms=HOUR_MS)


def order(**changes: Any) -> bytes:
    """Return an order.created of ada's; a change of ABSENT takes the field out."""
    data = {"order_id": "o-1", "user_id": "ada", "amount": 19.99}
    data_changes = changes.pop("data", {})
    if isinstance(data_changes, dict):
        data_changes = _changed(data, data_changes)
    event = {
        "event_id": "e-1",
        "event_type": "order.created",
        "aggregate_id": "o-1",
        "timestamp": NOW_MS,
        "data": data_changes,
    }
    return json.dumps(_changed(event, changes)).encode()


def order_with(name: str, literal: str, *, place: str = "data") -> bytes:
    """Return an order with one field, in its data or envelope, written just as given."""
    changes: dict[str, Any] = {name: "@"}
    value = order(**({"data": changes} if place == "data" else changes))
    return value.replace(b'"@"', literal.encode())


def run_of(
    *values: bytes | None, key: bytes | None = USER, kafka_time_ms: int = NOW_MS, offset: int = 0
) -> Run:
    """Return the values as a run of one partition."""
    count = len(values)
    return Run(
        next_offset=offset + count,
        offsets=range(offset, offset + count),
        timestamps_ms=[kafka_time_ms] * count,
        keys=[key] * count,
        values=values,
    )


def decoded(*values: bytes | None, **of_the_run: Any) -> Decoded:
    """Return what the codec of `orders` makes of the values."""
    return ORDERS_CODEC.decode(run_of(*values, **of_the_run))


def _changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: v for name, v in (document | changes).items() if v is not ABSENT}
