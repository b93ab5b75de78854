"""Single records: which are events, and why the others are not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

USERS = "users"
ORDERS = "orders"
PAYMENTS = "payments"
PRODUCTS = "products"

MAX_AMOUNT = Decimal(10**13)
MAX_TIME_MS = 253_402_300_799_999  # the end of the year 9999
MAX_COUNT = 2**63 - 1
MAX_DEPTH = 500


class Source(NamedTuple):
    """A record as it lies in its partition."""

    offset: int
    kafka_time_ms: int
    key: bytes | None
    value: bytes | None


def parse(value: bytes) -> Any:
    """Return JSON as Python objects, numbers with a fraction or an exponent as Decimals."""
    return json.loads(value.decode(), parse_int=_number, parse_float=_number)


def written_bytes(value: bytes, *path: str) -> int:
    """Return how many bytes are between the first and the last of the field at `path`."""
    text, begin, end = value.decode(), 0, 0
    for name in path:
        begin, end = _member(text, begin, name)
    return len(text[begin:end].encode())


def _member(text: str, at: int, wanted: str) -> tuple[int, int]:
    """Return where the value of a name begins and ends in the object at `at`: the last, if it comes twice."""
    decoder = json.JSONDecoder(parse_int=str, parse_float=str)
    found = (at, at)
    at = _behind_space(text, at) + 1
    while text[at := _behind_space(text, at)] != "}":
        name, at = decoder.raw_decode(text, at)
        begin = _behind_space(text, _behind_space(text, at) + 1)
        _, end = decoder.raw_decode(text, begin)
        if name == wanted:
            found = (begin, end)
        at = _behind_space(text, end)
        at += text[at] == ","
    return found


def _behind_space(text: str, at: int) -> int:
    while text[at] in " \t\n\r":
        at += 1
    return at


# --- one record -----------------------------------------------------------------------------------


class _Invalid(Exception):  # noqa: N818 - a verdict, not an error
    """A listed field is missing, of the wrong type, or out of range."""


class _Number(NamedTuple):
    """A number as it was written."""

    text: str


def judge(topic: str, source: Source, max_ahead_ms: int) -> Json | str | None:
    """Return a record's event (listed fields, defaults filled in), the reason, None if skipped."""
    event = _event(source.value, _DATA[topic])
    if event is None or isinstance(event, str):
        return event
    if source.key != event["data"][_KEYS[topic]].encode():
        return "key-mismatch"
    if source.kafka_time_ms >= 0 and event["timestamp"] - source.kafka_time_ms > max_ahead_ms:
        return "timestamp-ahead"
    return event


def _event(value: bytes | None, types: Mapping[str, _Fields]) -> Json | str | None:
    if value is None:
        return None
    constants: list[str] = []
    try:
        document = _read(value, constants)
    except (ValueError, RecursionError):
        return "undecodable"
    event_type = document.get("event_type")
    if isinstance(event_type, str) and event_type not in types:
        return None
    if constants:
        return "invalid-field"
    try:
        event = _fields(document, _ENVELOPE)
        event["data"] = _fields(event["data"], types[event["event_type"]])
    except _Invalid:
        return "invalid-field"
    if event["correlation_id"] is None:
        event["correlation_id"] = event["event_id"]
    return event


def _read(value: bytes, constants: list[str]) -> Json:
    """Return the object. Raise ValueError or RecursionError if it is none, or none can be read."""
    text = value.decode("utf-8", errors="strict")
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(text) > MAX_DEPTH:
        raise RecursionError
    document = json.loads(
        text, parse_int=_Number, parse_float=_Number, parse_constant=constants.append
    )
    if "\\u" in text:  # nothing else makes half a pair of valid UTF-8
        _refuse_half_pairs(document)
    if not isinstance(document, dict):
        raise ValueError  # noqa: TRY004 - like all else that is no event
    return document


def _depth(text: str) -> int:
    outside_strings = re.sub(r'"(?:[^"\\]|\\.)*+"', "", text, flags=re.DOTALL)
    depth = deepest = 0
    for character in outside_strings:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _refuse_half_pairs(document: Any) -> None:
    """Raise ValueError if a text holds half of a surrogate pair, which UTF-8 cannot write."""
    if isinstance(document, str):
        document.encode()
    elif isinstance(document, dict):
        for name, value in document.items():
            _refuse_half_pairs(name)
            _refuse_half_pairs(value)
    elif isinstance(document, list):
        for value in document:
            _refuse_half_pairs(value)


# --- fields ---------------------------------------------------------------------------------------


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Invalid
    return value


def _whole(value: Any, limit: int) -> int:
    if not isinstance(value, _Number) or not re.fullmatch(r"-?[0-9]{1,19}", value.text):
        raise _Invalid
    number = int(value.text)
    if not 0 <= number <= limit:
        raise _Invalid
    return number


def _count(value: Any) -> int:
    return _whole(value, MAX_COUNT)


def _amount(value: Any) -> Decimal:
    """Return the amount; it is a double, of which two decimals at most may show."""
    if not isinstance(value, _Number):
        raise _Invalid
    double = float(value.text)
    if not 0 <= double <= MAX_AMOUNT:
        raise _Invalid
    amount = Decimal(repr(double))
    if amount != round(amount, 2):
        raise _Invalid
    return abs(round(amount, 2))


_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def _time(value: Any) -> int:
    if not isinstance(value, str):
        return _whole(value, MAX_TIME_MS)
    match = _RFC_3339.fullmatch(value)
    if match is None:
        raise _Invalid
    *date_and_time, fraction, sign, hours, minutes = match.groups()
    offset_minutes = int(hours or 0) * 60 + int(minutes or 0)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:  # noqa: PLR2004 - a clock's
        raise _Invalid
    try:
        local = datetime(*map(int, date_and_time), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        raise _Invalid from None
    since_1970 = local - datetime(1970, 1, 1, tzinfo=UTC)
    since_1970 -= timedelta(minutes=-offset_minutes if sign == "-" else offset_minutes)
    time_ms = since_1970 // timedelta(seconds=1) * 1000 + int((fraction or "")[:3].ljust(3, "0"))
    if not 0 <= time_ms <= MAX_TIME_MS:
        raise _Invalid
    return time_ms


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise _Invalid
    return value


def _profile(value: Any) -> Json:
    return _fields(_object(value), _PROFILE)


def _as_it_is(value: Any) -> Any:
    """Return the value as `parse` would have; without recursion, as it may be as deep as Python can go."""
    whole = [value]
    waiting: list[Any] = [whole]
    while waiting:
        parts = waiting.pop()
        for place, part in list(parts.items() if isinstance(parts, dict) else enumerate(parts)):
            if isinstance(part, _Number):
                parts[place] = _number(part.text)
            elif isinstance(part, dict | list):
                waiting.append(part)
    return whole[0]


def _number(text: str) -> int | Decimal | str:
    """Return the exact number; its text where Python has none, as for 1e99999999999999999999."""
    try:
        return int(text) if re.fullmatch(r"-?[0-9]{1,4000}", text) else Decimal(text)
    except InvalidOperation:
        return text


class _Field(NamedTuple):
    read: Callable[[Any], Any]
    required: bool = False
    default: Any = None


_Fields: TypeAlias = dict[str, _Field]
_REQUIRED_TEXT = _Field(_text, required=True)
_ENVELOPE: _Fields = {
    "event_id": _REQUIRED_TEXT,
    "event_type": _REQUIRED_TEXT,
    "aggregate_id": _REQUIRED_TEXT,
    "timestamp": _Field(_time, required=True),
    "data": _Field(_object, required=True),
    "version": _Field(_count, default=1),
    "correlation_id": _Field(_text),
    "causation_id": _Field(_text),
    "aggregate_type": _Field(_text),
    "sequence": _Field(_count),
    "source": _Field(_text),
    "metadata": _Field(_object),
}
_PROFILE: _Fields = {"username": _Field(_text), "email": _Field(_text), "country": _Field(_text)}
_OF_A_USER: _Fields = {"user_id": _REQUIRED_TEXT}
_OF_USERS: dict[str, _Fields] = {
    "user.registered": {**_OF_A_USER, **_PROFILE},
    "user.updated": {**_OF_A_USER, "changes": _Field(_profile, required=True)},
    "user.logged_in": {**_OF_A_USER, "ip": _Field(_text), "device": _Field(_text)},
    "user.password_changed": _OF_A_USER,
    "user.deleted": _OF_A_USER,
    "user.status_changed": {**_OF_A_USER, "status": _REQUIRED_TEXT},
}
_OF_AN_ORDER: _Fields = {"order_id": _REQUIRED_TEXT, "user_id": _REQUIRED_TEXT}
_OF_ORDERS: dict[str, _Fields] = {
    "order.created": {
        **_OF_AN_ORDER,
        "amount": _Field(_amount, required=True),
        "currency": _Field(_text, default="USD"),
        "items": _Field(_as_it_is),
    },
    "order.updated": _OF_AN_ORDER,
    "order.confirmed": _OF_AN_ORDER,
    "order.paid": {**_OF_AN_ORDER, "payment_id": _Field(_text)},
    "order.shipped": {**_OF_AN_ORDER, "tracking_no": _Field(_text)},
    "order.completed": _OF_AN_ORDER,
    "order.cancelled": {**_OF_AN_ORDER, "reason": _Field(_text)},
}
_OF_A_PAYMENT: _Fields = {**_OF_AN_ORDER, "payment_id": _Field(_text), "amount": _Field(_amount)}
_OF_PAYMENTS: dict[str, _Fields] = {
    "payment.completed": _OF_A_PAYMENT,
    "payment.failed": {**_OF_A_PAYMENT, "reason": _Field(_text)},
}
_OF_A_PRODUCT: _Fields = {"product_id": _REQUIRED_TEXT}
_OF_PRODUCTS: dict[str, _Fields] = {
    "product.created": {
        **_OF_A_PRODUCT,
        "name": _Field(_text),
        "price": _Field(_amount),
        "stock": _Field(_count),
    },
    "product.updated": {**_OF_A_PRODUCT, "name": _Field(_text)},
    "product.stock.updated": {**_OF_A_PRODUCT, "stock": _Field(_count, required=True)},
    "product.price.updated": {**_OF_A_PRODUCT, "price": _Field(_amount, required=True)},
    "product.viewed": _OF_A_PRODUCT,
}
_DATA: dict[str, dict[str, _Fields]] = {
    USERS: _OF_USERS,
    ORDERS: _OF_ORDERS,
    PAYMENTS: _OF_PAYMENTS,
    PRODUCTS: _OF_PRODUCTS,
}
_KEYS = {USERS: "user_id", ORDERS: "user_id", PAYMENTS: "user_id", PRODUCTS: "product_id"}
"""The field that a record's key must be."""


def _fields(document: Json, listed: _Fields) -> Json:
    """Return the listed fields. Raise _Invalid if one is at fault; null is as good as absent."""
    found = {}
    for name, (read, required, default) in listed.items():
        value = document.get(name)
        if value is None and required:
            raise _Invalid
        found[name] = default if value is None else read(value)
    return found
