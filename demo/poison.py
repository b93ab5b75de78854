"""Records that are no valid events, of each kind that a topic may meet."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

KeyValue: TypeAlias = tuple[bytes | None, bytes | None]

_AHEAD_MS = 7_200_000


class Subject(NamedTuple):
    """The order that the poison is made of."""

    order_id: bytes
    user_id: bytes
    time_ms: int


class Poison(NamedTuple):
    """A kind of poison: its name, the reason it is refused for (None: skipped), and its maker."""

    name: str
    reason: str | None
    make: Callable[[Subject], KeyValue]


def _order(
    subject: Subject,
    *,
    amount: bytes = b"19.99",
    time: bytes | None = None,
    event_type: bytes = b"order.created",
    currency: bytes = b'"USD"',
) -> bytes:
    order_id, user_id, time_ms = subject
    return (
        b'{"event_id":"%b-created","event_type":"%b","aggregate_id":"%b","timestamp":%b,'
        b'"data":{"order_id":"%b","user_id":"%b","amount":%b,"currency":%b}}'
        % (
            order_id,
            event_type,
            order_id,
            b"%d" % time_ms if time is None else time,
            order_id,
            user_id,
            amount,
            currency,
        )
    )


def _value(name: str, reason: str | None, make: Callable[[Subject], bytes | None]) -> Poison:
    return Poison(name, reason, lambda subject: (subject.user_id, make(subject)))


def _amount(name: str, amount: bytes) -> Poison:
    return _value(name, "invalid-field", lambda subject: _order(subject, amount=amount))


def _time(name: str, time: bytes) -> Poison:
    return _value(name, "invalid-field", lambda subject: _order(subject, time=time))


POISONS: tuple[Poison, ...] = (
    _value("not UTF-8", "undecodable", lambda s: _order(s, currency=b'"\xff\xfe"')),
    _value("not JSON", "undecodable", lambda s: b"order " + s.order_id),
    _value("cut off", "undecodable", lambda s: _order(s)[:-7]),
    _value("empty", "undecodable", lambda _: b""),
    _value("no object", "undecodable", lambda s: b"[" + _order(s) + b"]"),
    _value("too deep", "undecodable", lambda s: _order(s, amount=b"[" * 2_000 + b"]" * 2_000)),
    _value("no amount", "invalid-field", lambda s: _order(s).replace(b"amount", b"sum")),
    _value("no event type", "invalid-field", lambda s: _order(s).replace(b"event_type", b"type")),
    _amount("text for a number", b'"19.99"'),
    _amount("negative", b"-19.99"),
    _amount("three decimals", b"19.999"),
    _amount("too much", b"10000000000001"),
    _amount("not a number", b"NaN"),
    _amount("infinite", b"1e999"),
    _amount("null", b"null"),
    _time("no offset", b'"2025-11-21T09:00:00"'),
    _time("a time of text", b'"yesterday"'),
    _value("number for a text", "invalid-field", lambda s: _order(s, currency=b"840")),
    Poison("no key", "key-mismatch", lambda s: (None, _order(s))),
    Poison("another's key", "key-mismatch", lambda s: (s.user_id + b"x", _order(s))),
    _value("ahead", "timestamp-ahead", lambda s: _order(s, time=b"%d" % (s.time_ms + _AHEAD_MS))),
    _value("unknown type", None, lambda s: _order(s, event_type=b"order.dreamt_of")),
    _value("tombstone", None, lambda _: None),
)
