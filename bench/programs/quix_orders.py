"""The bench's work on Quix Streams, in its own environment.

Settings are Quix's defaults (docs.quix.io, "Configuring Quix Streams Applications"), which names
none for speed; the interval between checkpoints is that of all systems, and lz4 is theirs too.
"""

from __future__ import annotations

import os
from typing import Any

from quixstreams import Application, State

HIGH_VALUE_AMOUNT = 1000
VIP_ORDERS = 10
MINUTE_MS = 60_000
GRACE_MS = 86_400_000


def event_time(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
    """Return an event's own time, ms."""
    return int(value["timestamp"])


def derived(
    event: dict[str, Any], kind: str, aggregate: str, data: dict[str, Any]
) -> dict[str, Any]:
    """Return the event that comes of another."""
    return {
        "event_id": f"{event['event_id']}:{kind}",
        "event_type": kind,
        "aggregate_id": aggregate,
        "timestamp": event["timestamp"],
        "version": 1,
        "correlation_id": event.get("correlation_id", event["event_id"]),
        "causation_id": event["event_id"],
        "data": data,
    }


def high_value(event: dict[str, Any]) -> dict[str, Any]:
    """Return what is told of an order of high value."""
    data = {**event["data"], "category": "HIGH_VALUE", "alert_sent": True}
    return derived(event, "order.high_value", data["order_id"], data)


def count(event: dict[str, Any], state: State) -> dict[str, Any] | None:
    """Count the order in its user's row; return the event of the tenth, else None."""
    data, time_ms = event["data"], event["timestamp"]
    row = state.get("row")
    if row is None:
        row = {"orders": 0, "amount_cents": 0, "vip": False}
        row |= {"first_order_at": time_ms, "last_order_at": time_ms}
    orders = row["orders"] + 1
    state.set(
        "row",
        {
            "orders": orders,
            "amount_cents": row["amount_cents"] + round(data["amount"] * 100),
            "first_order_at": min(row["first_order_at"], time_ms),
            "last_order_at": max(row["last_order_at"], time_ms),
            "vip": row["vip"] or orders >= VIP_ORDERS,
        },
    )
    if orders != VIP_ORDERS:
        return None
    user = data["user_id"]
    told = {"user_id": user, "order_count": orders, "order_id": data["order_id"]}
    return derived(event, "user.vip_upgraded", user, told)


def first_of_minute(event: dict[str, Any]) -> dict[str, int]:
    """Return the row of a minute with one order."""
    return {"orders": 1, "amount_cents": round(event["data"]["amount"] * 100)}


def add_to_minute(row: dict[str, int], event: dict[str, Any]) -> dict[str, int]:
    """Return the row with one order more."""
    cents = row["amount_cents"] + round(event["data"]["amount"] * 100)
    return {"orders": row["orders"] + 1, "amount_cents": cents}


def main() -> None:
    """Run until SIGTERM."""
    guarantee = os.environ["BENCH_GUARANTEE"]
    app = Application(
        os.environ["BENCH_BOOTSTRAP"],
        consumer_group=os.environ["BENCH_APP_ID"],
        state_dir=os.environ["BENCH_STATE"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once" if guarantee == "exactly-once" else "at-least-once",
        commit_interval=int(os.environ["BENCH_COMMIT_INTERVAL_MS"]) / 1000,
        producer_extra_config={"compression.type": "lz4"},
        loglevel="WARNING",
    )
    orders = app.topic(
        "orders", key_deserializer="str", value_deserializer="json", timestamp_extractor=event_time
    )
    high = app.topic("high-value-orders", key_serializer="str", value_serializer="json")
    vips = app.topic("vip-upgrades", key_serializer="str", value_serializer="json")

    events = app.dataframe(orders)
    expensive = events.filter(lambda event: event["data"]["amount"] > HIGH_VALUE_AMOUNT)
    expensive.apply(high_value).to_topic(high)
    upgrades = events.apply(count, stateful=True).filter(lambda told: told is not None)
    upgrades.to_topic(vips)
    minutes = events.tumbling_window(MINUTE_MS, grace_ms=GRACE_MS)
    minutes.reduce(add_to_minute, first_of_minute).current()
    app.run()


if __name__ == "__main__":
    main()
