"""What the demo says of a record that came out: its kind, a word in capitals, and a few words."""

from collections.abc import Callable, Mapping
from typing import Any

_ENGLISH_TEENS = (11, 12, 13)
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000


def event_text(event: Any) -> str:
    """Say what a derived event tells."""
    told = _TEXTS.get(event["event_type"])
    if told is not None:
        return told(event["data"])
    return f"PASSED {event['event_id']} of {event['data']['user_id']}"


def dead_letter_text(headers: Mapping[str, str]) -> str:
    """Say which record was refused, and why."""
    topic, partition, offset = (
        headers[f"__streams.errors.{part}"] for part in ("topic", "partition", "offset")
    )
    return f"DEAD  {topic}-{partition}@{offset}  {headers['headrace.reason']}"


def late_text(headers: Mapping[str, str]) -> str:
    """Say which record was late, and for what."""
    topic, partition, offset = (
        headers[f"headrace.{part}"] for part in ("topic", "partition", "offset")
    )
    late_by = _duration(int(headers["headrace.lateness-ms"]))
    return f"LATE  {topic}-{partition}@{offset} for {headers['headrace.flow']} by {late_by}"


def _vip(data: Any) -> str:
    nth = _ordinal(data["order_count"])
    return f"VIP   {data['user_id']} at the {nth} order {data['order_id']}"


def _enriched(data: Any) -> str:
    return f"ORDER {data['order_id']} of {_user_text(data)}"


def _high(data: Any) -> str:
    return f"HIGH  {data['user_id']} {data['amount']:,.2f} {data['currency']} {data['order_id']}"


def _paid(data: Any) -> str:
    return f"PAID  {data['order_id']} of {data['user_id']} after {_duration(data['waited_ms'])}"


def _unpaid(data: Any) -> str:
    return (
        f"UNPAID {data['order_id']} of {data['user_id']} {data['amount']:,.2f} {data['currency']}"
    )


def _session(data: Any) -> str:
    did = f"{_counted(data['events'], 'event')}, {_counted(data['orders'], 'order')}"
    return f"SESSION {data['user_id']} {_duration(data['duration_ms'])}: {did}"


def _spike(data: Any) -> str:
    orders = _counted(data["orders"], "order")
    return f"SPIKE {data['user_id']} {data['amount']:,.2f} in an hour, by {orders}"


def _stats(data: Any) -> str:
    orders = _counted(data["orders"], "order")
    return f"STATS {data['user_id']} {orders} in 5 min: {data['amount']:,.2f}"


def _sold(data: Any) -> str:
    units, buyers = _counted(data["units"], "piece"), _counted(data["buyers"], "buyer")
    name = data.get("product_name") or data["product_id"]
    return f"SOLD  {name}: {units} to {buyers} in 5 min: {data['revenue']:,.2f}"


def _top(data: Any) -> str:
    best = data["products"][0]
    name = best["product_name"] or best["product_id"]
    return f"TOP   {name} earned most in 5 min: {best['revenue']:,.2f}"


def _stock_low(data: Any) -> str:
    return f"LOW   {data['name'] or data['product_id']}: {data['stock']} left"


def _worth(data: Any) -> str:
    country = data["country"] or "unknown country"
    orders = _counted(data["orders"], "order")
    return f"WORTH {country}: half of {orders} of a day {data['p50']:,.2f} or less"


_TEXTS: Mapping[str, Callable[[Any], str]] = {
    "order.high_value": _high,
    "user.vip_upgraded": _vip,
    "order.enriched": _enriched,
    "order.payment_matched": _paid,
    "order.unpaid": _unpaid,
    "user.session_closed": _session,
    "user.spending_spike": _spike,
    "user.order_stats": _stats,
    "product.sales": _sold,
    "products.top": _top,
    "product.stock_low": _stock_low,
    "country.order_value_quantiles": _worth,
}


def _user_text(data: Any) -> str:
    user = data["user"]
    if user is None:
        return "an unknown user"
    name = user["email"] or data["user_id"]
    return f"{name} in {user['country']}" if user["country"] else str(name)


def _ordinal(number: int) -> str:
    if number % 100 in _ENGLISH_TEENS:
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _duration(duration_ms: int) -> str:
    """Return a time in seconds, minutes or days: what is about its size."""
    if duration_ms < _MINUTE_MS:
        return f"{duration_ms / 1_000:.1f} s"
    if duration_ms < _DAY_MS:
        return f"{duration_ms / _MINUTE_MS:.1f} min"
    return f"{duration_ms / _DAY_MS:.1f} days"
