"""The derived events of the group `windows`, field by field."""

from collections.abc import Sequence
from decimal import Decimal

from demo.oracle.records import Json


def matched(order: Json, payment: Json) -> Json:
    """Return what is told of an order and its payment."""
    of_order, of_payment = order["data"], payment["data"]
    return {
        "event_id": f"{order['event_id']}:order.payment_matched:{payment['event_id']}",
        "event_type": "order.payment_matched",
        "aggregate_id": of_order["order_id"],
        "timestamp": payment["timestamp"],
        "version": 1,
        "correlation_id": order["correlation_id"],
        "causation_id": payment["event_id"],
        "data": {
            **_order_shown(of_order),
            "payment_id": of_payment["payment_id"],
            "paid_amount": of_payment["amount"],
            "waited_ms": payment["timestamp"] - order["timestamp"],
        },
    }


def unpaid(order: Json) -> Json:
    """Return what is told of an order without a payment."""
    return {
        "event_id": f"{order['event_id']}:order.unpaid",
        "event_type": "order.unpaid",
        "aggregate_id": order["data"]["order_id"],
        "timestamp": order["timestamp"],
        "version": 1,
        "correlation_id": order["correlation_id"],
        "causation_id": order["event_id"],
        "data": _order_shown(order["data"]),
    }


def session_closed(events: Sequence[Json]) -> Json:
    """Return what is told of a session of these events."""
    user_id = events[0]["data"]["user_id"]
    times = [event["timestamp"] for event in events]
    amounts = _amounts(events)
    started_at, ended_at = min(times), max(times)
    data = {
        "user_id": user_id,
        "started_at": started_at,
        "ended_at": ended_at,
        "duration_ms": ended_at - started_at,
        "events": len(events),
        "orders": len(amounts),
        "amount": sum(amounts, Decimal(0)),
    }
    window = f"user_sessions:{user_id}:{started_at}-{ended_at}"
    return _of_window("user.session_closed", window, ended_at, data)


def window_stats(orders: Sequence[Json], start_ms: int, end_ms: int) -> Json:
    """Return what is told of a window, its end exclusive, with these orders."""
    amounts = _amounts(orders)
    whole = sum(amounts, Decimal(0))
    cents = int(whole * 100)
    user_id = orders[0]["data"]["user_id"]
    data = {
        "user_id": user_id,
        "window_start": start_ms,
        "window_end": end_ms,
        "orders": len(amounts),
        "amount": whole,
        "highest": max(amounts),
        # Half a cent up: the whole part of cents / orders + 1/2.
        "mean": Decimal((2 * cents + len(amounts)) // (2 * len(amounts))) / 100,
    }
    return _of_window(
        "user.order_stats", f"order_stats:{user_id}:{start_ms}-{end_ms}", end_ms - 1, data
    )


def spending_spike(user_id: str, start_ms: int, end_ms: int, orders: int, amount: Decimal) -> Json:
    """Return what is told of an hour, its end inclusive."""
    data = {
        "user_id": user_id,
        "started_at": start_ms,
        "ended_at": end_ms,
        "orders": orders,
        "amount": amount,
    }
    window = f"spending_spikes:{user_id}:{start_ms}-{end_ms}"
    return _of_window("user.spending_spike", window, end_ms, data)


def _of_window(event_type: str, event_id: str, last_ms: int, data: Json) -> Json:
    return {
        "event_id": event_id,
        "event_type": event_type,
        "aggregate_id": data["user_id"],
        "timestamp": last_ms,
        "version": 1,
        "correlation_id": event_id,
        "causation_id": None,
        "data": data,
    }


def _order_shown(data: Json) -> Json:
    return {name: data[name] for name in ("order_id", "user_id", "amount", "currency")}


def _amounts(events: Sequence[Json]) -> list[Decimal]:
    return [e["data"]["amount"] for e in events if e["event_type"] == "order.created"]
