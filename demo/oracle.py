"""What must come of a list of records: docs/contract.md written down a second time, plainly.

It shares no code with the application, and uses the standard library alone: where the two differ,
one of them is wrong.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

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


class DeadLetter(NamedTuple):
    """Where a refused record lay, and why it was refused."""

    partition: int
    offset: int
    reason: str


@dataclass
class Outcome:
    """What the flows made of `orders`; numbers with a fraction are Decimals (`parse` reads so)."""

    user_orders: dict[str, Json] = field(default_factory=dict)
    high_value_orders: dict[int, list[Json]] = field(default_factory=dict)
    """By partition, in their order there; `vip_upgrades` too."""
    vip_upgrades: dict[int, list[Json]] = field(default_factory=dict)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped: int = 0


class Rules(NamedTuple):
    """The settings that change the outcome; amounts in the main unit."""

    high_value_amount: Decimal = Decimal(1000)
    vip_orders: int = 10
    max_ahead_ms: int = 3_600_000


def expect(orders: Mapping[int, Iterable[Source]], rules: Rules | None = None) -> Outcome:
    """Return what must come of the records of `orders`, by partition and there in offset order."""
    rules = rules or Rules()
    outcome = Outcome()
    for partition in sorted(orders):
        for source in orders[partition]:
            verdict = judge(source, rules.max_ahead_ms)
            if verdict is None:
                outcome.skipped += 1
            elif isinstance(verdict, str):
                outcome.dead_letters.append(DeadLetter(partition, source.offset, verdict))
            elif verdict["event_type"] == "order.created":
                _apply(verdict, partition, rules, outcome)
    return outcome


def parse(value: bytes) -> Any:
    """Return JSON as Python objects, numbers with a fraction or an exponent as Decimals."""
    return json.loads(value.decode(), parse_int=_number, parse_float=_number)


def diff(expected: Outcome, actual: Outcome) -> list[str]:
    """Return a line for each difference, none where the two agree."""
    lines = _diff_rows(expected.user_orders, actual.user_orders)
    for topic in ("high_value_orders", "vip_upgrades"):
        wanted, found = getattr(expected, topic), getattr(actual, topic)
        for partition in sorted({*wanted, *found}):
            where = f"{topic.replace('_', '-')}[{partition}]"
            lines += _diff_events(where, wanted.get(partition, []), found.get(partition, []))
    missing = set(expected.dead_letters) - set(actual.dead_letters)
    surplus = set(actual.dead_letters) - set(expected.dead_letters)
    lines += [f"dead-letters: missing {tuple(letter)}" for letter in sorted(missing)]
    lines += [f"dead-letters: not expected {tuple(letter)}" for letter in sorted(surplus)]
    count = len(actual.dead_letters) - len(set(actual.dead_letters))
    if count:
        lines.append(f"dead-letters: {count} are there more than once")
    if expected.skipped != actual.skipped:
        lines.append(f"skipped: expected {expected.skipped}, got {actual.skipped}")
    return lines


# --- the flows ------------------------------------------------------------------------------------


def _apply(event: Json, partition: int, rules: Rules, outcome: Outcome) -> None:
    data, time_ms = event["data"], event["timestamp"]
    if data["amount"] > rules.high_value_amount:
        details = {name: data[name] for name in ("order_id", "user_id", "amount", "currency")}
        if data["items"] is not None:
            details["items"] = data["items"]
        details |= {"category": "HIGH_VALUE", "alert_sent": True}
        derived = _derived(event, "order.high_value", data["order_id"], details)
        outcome.high_value_orders.setdefault(partition, []).append(derived)

    row = outcome.user_orders.setdefault(
        data["user_id"],
        {
            "orders": 0,
            "amount": Decimal(0),
            "first_order_at": time_ms,
            "last_order_at": time_ms,
            "vip": False,
        },
    )
    row["orders"] += 1
    row["amount"] += data["amount"]
    row["first_order_at"] = min(row["first_order_at"], time_ms)
    row["last_order_at"] = max(row["last_order_at"], time_ms)
    if row["orders"] == rules.vip_orders:
        row["vip"] = True
        details = {
            "user_id": data["user_id"],
            "order_count": row["orders"],
            "order_id": data["order_id"],
        }
        derived = _derived(event, "user.vip_upgraded", data["user_id"], details)
        outcome.vip_upgrades.setdefault(partition, []).append(derived)


def _derived(source: Json, event_type: str, aggregate_id: str, data: Json) -> Json:
    return {
        "event_id": f"{source['event_id']}:{event_type}",
        "event_type": event_type,
        "aggregate_id": aggregate_id,
        "timestamp": source["timestamp"],
        "version": 1,
        "correlation_id": source["correlation_id"],
        "causation_id": source["event_id"],
        "data": data,
    }


# --- one record -----------------------------------------------------------------------------------


class _Invalid(Exception):  # noqa: N818 - a verdict, not an error
    """A listed field is missing, of the wrong type, or out of range."""


class _Number(NamedTuple):
    """A number as it was written."""

    text: str


def judge(source: Source, max_ahead_ms: int) -> Json | str | None:
    """Return a record's event (listed fields, defaults filled in), the reason, None if skipped."""
    event = _event(source.value)
    if event is None or isinstance(event, str):
        return event
    if source.key != event["data"]["user_id"].encode():
        return "key-mismatch"
    if source.kafka_time_ms >= 0 and event["timestamp"] - source.kafka_time_ms > max_ahead_ms:
        return "timestamp-ahead"
    return event


def _event(value: bytes | None) -> Json | str | None:
    if value is None:
        return None
    constants: list[str] = []
    try:
        document = _read(value, constants)
    except (ValueError, RecursionError):
        return "undecodable"
    event_type = document.get("event_type")
    if isinstance(event_type, str) and event_type not in _DATA:
        return None
    if constants:
        return "invalid-field"
    try:
        event = _fields(document, _ENVELOPE)
        event["data"] = _fields(event["data"], _DATA[event["event_type"]])
    except _Invalid:
        return "invalid-field"
    if event["correlation_id"] is None:
        event["correlation_id"] = event["event_id"]
    return event


def _read(value: bytes, constants: list[str]) -> Json:
    """Return the object. Raise ValueError or RecursionError if it is none, or none can be read."""
    text = value.decode("utf-8", errors="strict")
    if _depth(text) > MAX_DEPTH:
        raise RecursionError
    document = json.loads(
        text, parse_int=_Number, parse_float=_Number, parse_constant=constants.append
    )
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


def _as_it_is(value: Any) -> Any:
    """Return the value as `parse` would have."""
    if isinstance(value, dict):
        return {name: _as_it_is(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_as_it_is(part) for part in value]
    if isinstance(value, _Number):
        return _number(value.text)
    return value


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
_OF_AN_ORDER: _Fields = {"order_id": _REQUIRED_TEXT, "user_id": _REQUIRED_TEXT}
_DATA: dict[str, _Fields] = {
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


def _fields(document: Json, listed: _Fields) -> Json:
    """Return the listed fields. Raise _Invalid if one is at fault; null is as good as absent."""
    found = {}
    for name, (read, required, default) in listed.items():
        value = document.get(name)
        if value is None and required:
            raise _Invalid
        found[name] = default if value is None else read(value)
    return found


# --- differences ----------------------------------------------------------------------------------


def _diff_rows(expected: dict[str, Json], actual: dict[str, Json]) -> list[str]:
    return [
        f"user_orders[{key}]: expected {_shown(expected.get(key))}, got {_shown(actual.get(key))}"
        for key in sorted({*expected, *actual})
        if expected.get(key) != actual.get(key)
    ]


def _diff_events(where: str, expected: list[Json], actual: list[Json]) -> list[str]:
    lines = [
        f"{where} #{number}: expected {_shown(wanted)}, got {_shown(found)}"
        for number, (wanted, found) in enumerate(zip(expected, actual, strict=False))
        if wanted != found
    ]
    if len(expected) != len(actual):
        lines.append(f"{where}: expected {len(expected)} events, got {len(actual)}")
    return lines


def _shown(document: Json | None) -> str:
    return "nothing" if document is None else json.dumps(document, default=str, ensure_ascii=False)
