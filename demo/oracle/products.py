"""What the flows of the group `sales` make of products, one partition after the other."""

from collections.abc import Iterable

from demo.oracle.outcome import Derived, Outcome
from demo.oracle.records import Json

LOW_STOCK = 10
HOUR_MS = 3_600_000
GRACE_MS = 24 * HOUR_MS
_TOLD = ("name", "price", "stock")


def keep_products(partition: int, events: Iterable[Json], outcome: Outcome) -> None:
    """Put the rows of `products` and `product_views`, and the alerts, into the outcome."""
    rows = outcome.tables["products"]
    hours: dict[tuple[str, int], int] = {}
    stream_time_ms = 0
    for event in events:
        product_id = event["data"]["product_id"]
        if event["event_type"] == "product.viewed":
            time_ms = event["timestamp"]
            stream_time_ms = max(stream_time_ms, time_ms)
            start_ms = time_ms - time_ms % HOUR_MS
            if _is_gone(start_ms, stream_time_ms):
                outcome.late += 1
            else:
                hours[product_id, start_ms] = hours.get((product_id, start_ms), 0) + 1
            continue
        told = {name: value for name in _TOLD if (value := event["data"].get(name)) is not None}
        if not told:
            continue
        before = rows.get(product_id) or {**dict.fromkeys(_TOLD), "is_low": False}
        row = rows[product_id] = {**before, **told}
        row["is_low"] = row["stock"] is not None and row["stock"] < LOW_STOCK
        if row["is_low"] and not before["is_low"]:
            alerts = outcome.derived["stock-alerts"].setdefault(partition, [])
            alerts.append(Derived(product_id.encode(), _stock_low(event, row)))
    outcome.tables["product_views"] |= {
        f"{product_id}@{start_ms}": {"views": views}
        for (product_id, start_ms), views in hours.items()
        if not _is_gone(start_ms, stream_time_ms)
    }


def _is_gone(start_ms: int, stream_time_ms: int) -> bool:
    return start_ms + HOUR_MS + GRACE_MS <= stream_time_ms


def _stock_low(event: Json, row: Json) -> Json:
    product_id = event["data"]["product_id"]
    return {
        "event_id": f"{event['event_id']}:product.stock_low",
        "event_type": "product.stock_low",
        "aggregate_id": product_id,
        "timestamp": event["timestamp"],
        "version": 1,
        "correlation_id": event["correlation_id"],
        "causation_id": event["event_id"],
        "data": {"product_id": product_id, "name": row["name"], "stock": row["stock"]},
    }
