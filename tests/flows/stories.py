"""What the told stories share: orders as a producer sends them, and a look at what came out."""

import json
from collections.abc import Iterable
from typing import Any

from streams.engine.epoch import Counts
from streams.engine.records import TopicPartition
from streams.testing import Driver, Sent

NOW_MS = 1_763_715_600_000
KeyValue = tuple[bytes | None, bytes | None]


def order(
    number: int,
    *,
    user: str = "ada",
    amount: float = 10.0,
    at_ms: int | None = None,
    **data: Any,
) -> KeyValue:
    """Return an order.created, as key and value; placed `at_ms` after NOW_MS, or `number` ms."""
    event = {
        "event_id": f"event-{number}",
        "event_type": "order.created",
        "aggregate_id": f"order-{number}",
        "timestamp": NOW_MS + (number if at_ms is None else at_ms),
        "data": {"order_id": f"order-{number}", "user_id": user, "amount": amount, **data},
    }
    return user.encode(), json.dumps(event).encode()


def orders(numbers: Iterable[int], *, user: str = "ada", amount: float = 10.0) -> list[KeyValue]:
    """Return a user's orders."""
    return [order(number, user=user, amount=amount) for number in numbers]


def user_event(kind: str, at_ms: int = 0, *, user: str = "ada", **data: Any) -> KeyValue:
    """Return a user event, as key and value, of `at_ms` after NOW_MS."""
    event = {
        "event_id": f"{user}-{kind}-{at_ms}",
        "event_type": f"user.{kind}",
        "aggregate_id": user,
        "timestamp": NOW_MS + at_ms,
        "data": {"user_id": user, **data},
    }
    return user.encode(), json.dumps(event).encode()


def event_of(sent: Sent) -> dict[str, Any]:
    """Return the event that a record holds."""
    event: dict[str, Any] = json.loads(sent.value or b"")
    return event


def order_ids(sent: Iterable[Sent]) -> list[str]:
    """Return the orders that events are about."""
    return [event_of(record)["data"]["order_id"] for record in sent]


def counts(driver: Driver) -> dict[str, Counts]:
    """Return how the records of each flow ended; law 5 holds: none of those that were read is missing."""
    found = {flow.name: Counts() for flow in driver.topology.flows}
    for task in driver.tasks().values():
        for name, of_task in task.counts.items():
            found[name].add(of_task)
    for flow in driver.topology.flows:
        ended = found[flow.name]
        read = sum(
            len(driver.kafka.logs[TopicPartition(topic.name, partition)])
            for topic in flow.reads
            for partition in range(driver.partitions)
        )
        assert ended.processed + ended.dead + ended.late + ended.skipped == read, flow.name
    return found
