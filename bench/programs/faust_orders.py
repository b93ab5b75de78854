"""The bench's work on stock Faust, in its own environment: `faust -A faust_orders worker`.

One agent does all of it, which is faster here than an agent for each part. Settings are Faust's
defaults but for those that its user guide names for production: RocksDB for tables ("The App":
memory is for development), the Cython extensions, uvloop and orjson (installation: "Bundles").
"""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import faust

HIGH_VALUE_AMOUNT = 1000
VIP_ORDERS = 10

app = faust.App(
    os.environ["BENCH_APP_ID"],
    broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
    store="rocksdb://",
    datadir=os.environ["BENCH_STATE"],
    value_serializer="json",
    topic_allow_declare=True,
    topic_disable_leader=True,  # a topic of its own that the work does not need
    topic_partitions=4,  # of changelogs that are made: as many as the input has
    producer_compression_type="lz4",
    broker_commit_interval=int(os.environ["BENCH_COMMIT_INTERVAL_MS"]) / 1000,
    consumer_auto_offset_reset="earliest",
)
orders = app.topic("orders", key_type=str, key_serializer="raw", value_type=None)
high_value = app.topic("high-value-orders", key_type=str, key_serializer="raw", value_type=None)
vip_upgrades = app.topic("vip-upgrades", key_type=str, key_serializer="raw", value_type=None)

_ROCKSDICT = {"driver": "rocksdict"}
user_orders = app.Table("user_orders", key_type=str, value_type=None, options=_ROCKSDICT)
user_order_minutes = (
    app.Table("user_order_minutes", key_type=str, value_type=None, options=_ROCKSDICT)
    .tumbling(timedelta(minutes=1), expires=timedelta(hours=24))
    .relative_to(lambda event: event.value["timestamp"] / 1000)  # type: ignore[attr-defined]
)


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


@app.agent(orders)
async def work(stream: Any) -> None:
    """Do all three parts for one order after the other."""
    async for event in stream:
        data = event["data"]
        user, cents = data["user_id"], round(data["amount"] * 100)
        if data["amount"] > HIGH_VALUE_AMOUNT:
            told = {**data, "category": "HIGH_VALUE", "alert_sent": True}
            value = derived(event, "order.high_value", data["order_id"], told)
            await high_value.send(key=user, value=value)
        row = user_orders.get(user) or {"orders": 0, "amount_cents": 0, "vip": False}
        count = row["orders"] + 1
        user_orders[user] = {
            "orders": count,
            "amount_cents": row["amount_cents"] + cents,
            "first_order_at": min(
                row.get("first_order_at", event["timestamp"]), event["timestamp"]
            ),
            "last_order_at": max(row.get("last_order_at", 0), event["timestamp"]),
            "vip": row["vip"] or count >= VIP_ORDERS,
        }
        if count == VIP_ORDERS:
            told = {"user_id": user, "order_count": count, "order_id": data["order_id"]}
            await vip_upgrades.send(key=user, value=derived(event, "user.vip_upgraded", user, told))
        try:
            minute = user_order_minutes[user].value()
        except KeyError:
            minute = {"orders": 0, "amount_cents": 0}
        user_order_minutes[user] = {
            "orders": minute["orders"] + 1,
            "amount_cents": minute["amount_cents"] + cents,
        }
