"""What the told stories share: orders as a producer sends them, and a look at what came out."""

import json
from collections.abc import Iterable
from typing import Any

from streams.testing import Sent

NOW_MS = 1_763_715_600_000
KeyValue = tuple[bytes | None, bytes | None]


def order(number: int, *, user: str = "ada", amount: float = 10.0, **data: Any) -> KeyValue:
    """Return an order.created, as key and value."""
    event = {
        "event_id": f"event-{number}",
        "event_type": "order.created",
        "aggregate_id": f"order-{number}",
        "timestamp": NOW_MS + number,
        "data": {"order_id": f"order-{number}", "user_id": user, "amount": amount, **data},
    }
    return user.encode(), json.dumps(event).encode()


def orders(numbers: Iterable[int], *, user: str = "ada", amount: float = 10.0) -> list[KeyValue]:
    """Return a user's orders."""
    return [order(number, user=user, amount=amount) for number in numbers]


def event_of(sent: Sent) -> dict[str, Any]:
    """Return the event that a record holds."""
    event: dict[str, Any] = json.loads(sent.value or b"")
    return event


def order_ids(sent: Iterable[Sent]) -> list[str]:
    """Return the orders that events are about."""
    return [event_of(record)["data"]["order_id"] for record in sent]
