"""Records that are no valid events, of each kind that a topic may meet, and valid ones that are odd."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from streams import topics

KeyValue: TypeAlias = tuple[bytes | None, bytes | None]
Literals: TypeAlias = Mapping[str, bytes | None]
"""Fields as they are written in JSON; None: absent."""

USERS = topics.USERS.name
ORDERS = topics.ORDERS.name
PRODUCTS = topics.PRODUCTS.name
LARGEST_SOURCE_BYTES = 1_048_400
"""Of key and value: a broker takes a record of this size, and little above it."""

_AHEAD_MS = 7_200_000
_DEEP = b"[" * 600 + b"]" * 600


class Subject(NamedTuple):
    """The order and the user that the poison is made of."""

    order_id: bytes
    user_id: bytes
    time_ms: int


class Poison(NamedTuple):
    """A kind of poison: its name, its topic, the reason it is refused for (None: skipped), its maker."""

    name: str
    topic: str
    reason: str | None
    make: Callable[[Subject], KeyValue]


class Oddity(NamedTuple):
    """A valid event that looks like poison."""

    name: str
    topic: str
    make: Callable[[Subject], KeyValue]


def event(subject: Subject, event_type: str, envelope: Literals, data: Literals) -> bytes:
    """Return an event of the subject, valid but for the fields that are given."""
    order_id, user_id, time_ms = subject
    about = _text(order_id if event_type.startswith("order.") else user_id)
    own: Literals = {"order_id": about} if event_type.startswith("order.") else {}
    whole: Literals = {
        "event_id": _text(order_id + b"-poison"),
        "event_type": _text(event_type.encode()),
        "aggregate_id": about,
        "timestamp": b"%d" % time_ms,
        "data": _object({**own, "user_id": _text(user_id), **_DATA.get(event_type, {}), **data}),
    }
    return _object({**whole, **envelope})


_DATA: dict[str, Literals] = {
    "order.created": {"amount": b"19.99", "currency": b'"USD"'},
    "user.registered": {"username": b'"ada"', "email": b'"ada@example.org"', "country": b'"GB"'},
    "user.updated": {"changes": b'{"country":"FR"}'},
    "user.status_changed": {"status": b'"suspended"'},
}
_USUAL = {ORDERS: "order.created", USERS: "user.registered"}


def _object(fields: Literals) -> bytes:
    written = (
        b'"%b":%b' % (name.encode(), value) for name, value in fields.items() if value is not None
    )
    return b"{" + b",".join(written) + b"}"


def _text(text: bytes) -> bytes:
    return b'"' + text + b'"'


def _spoilt(
    topic: str,
    name: str,
    *,
    of: str | None = None,
    verdict: str | None = "invalid-field",
    envelope: Literals | None = None,
    **data: bytes | None,
) -> Poison:
    """Return an event some of whose fields are as given."""
    event_type = of or _USUAL[topic]
    return _raw(topic, name, verdict, lambda s: event(s, event_type, envelope or {}, data))


def _raw(
    topic: str, name: str, reason: str | None, make: Callable[[Subject], bytes | None]
) -> Poison:
    return Poison(name, topic, reason, lambda subject: (subject.user_id, make(subject)))


def _keyed(topic: str, name: str, key: Callable[[Subject], bytes | None]) -> Poison:
    return Poison(name, topic, "key-mismatch", lambda s: (key(s), event(s, _USUAL[topic], {}, {})))


def _plain(subject: Subject) -> bytes:
    return event(subject, "order.created", {}, {})


def _ahead(topic: str) -> Poison:
    def make(subject: Subject) -> bytes:
        time = b"%d" % (subject.time_ms + _AHEAD_MS)
        return event(subject, _USUAL[topic], {"timestamp": time}, {})

    return _raw(topic, "ahead", "timestamp-ahead", make)


_UNDECODABLE = (
    _raw(ORDERS, "empty", "undecodable", lambda _: b""),
    _raw(ORDERS, "not JSON", "undecodable", lambda s: b"order " + s.order_id),
    _raw(ORDERS, "cut off", "undecodable", lambda s: _plain(s)[:-7]),
    _raw(ORDERS, "an object and a half", "undecodable", lambda s: _plain(s) + b"{"),
    _raw(ORDERS, "quoted like Python", "undecodable", lambda s: _plain(s).replace(b'"', b"'")),
    _raw(ORDERS, "an array", "undecodable", lambda s: b"[" + _plain(s) + b"]"),
    _raw(ORDERS, "a text", "undecodable", lambda s: _text(s.order_id)),
    _raw(ORDERS, "null as JSON", "undecodable", lambda _: b"null"),
    _raw(ORDERS, "NaN alone", "undecodable", lambda _: b"NaN"),
    _raw(ORDERS, "byte order mark", "undecodable", lambda s: b"\xef\xbb\xbf" + _plain(s)),
    _raw(ORDERS, "UTF-16", "undecodable", lambda s: _plain(s).decode().encode("utf-16")),
    _spoilt(ORDERS, "not UTF-8", verdict="undecodable", currency=b'"\xff\xfe"'),
    _spoilt(ORDERS, "not UTF-8 where nobody looks", verdict="undecodable", note=b'"\xc3"'),
    _spoilt(ORDERS, "half a pair", verdict="undecodable", currency=rb'"\ud83d"'),
    _spoilt(ORDERS, "half a pair where nobody looks", verdict="undecodable", note=rb'"\udc00"'),
    _spoilt(ORDERS, "a raw line end in a text", verdict="undecodable", note=b'"a\nb"'),
    _spoilt(ORDERS, "too deep", verdict="undecodable", items=_DEEP),
    _spoilt(ORDERS, "too deep where nobody looks", verdict="undecodable", note=_DEEP),
    _spoilt(ORDERS, "a number that begins with 0", verdict="undecodable", amount=b"019.99"),
    _spoilt(ORDERS, "unknown type, broken", of="order.dreamt_of", verdict="undecodable", note=b"]"),
    _raw(USERS, "users: not JSON", "undecodable", lambda s: b"user " + s.user_id),
    _raw(USERS, "users: empty", "undecodable", lambda _: b""),
    _spoilt(USERS, "users: not UTF-8", verdict="undecodable", username=b'"\xff"'),
    _spoilt(USERS, "users: half a pair", verdict="undecodable", email=rb'"\ud800@example.org"'),
    _spoilt(USERS, "users: too deep", verdict="undecodable", note=_DEEP),
)

_ENVELOPES = (
    _spoilt(ORDERS, "no event id", envelope={"event_id": None}),
    _spoilt(ORDERS, "event id null", envelope={"event_id": b"null"}),
    _spoilt(ORDERS, "event id a number", envelope={"event_id": b"17"}),
    _spoilt(ORDERS, "no event type", envelope={"event_type": None}),
    _spoilt(ORDERS, "event type null", envelope={"event_type": b"null"}),
    _spoilt(ORDERS, "event type a number", envelope={"event_type": b"1"}),
    _spoilt(ORDERS, "no aggregate id", envelope={"aggregate_id": None}),
    _spoilt(ORDERS, "aggregate id an array", envelope={"aggregate_id": b'["o-1"]'}),
    _spoilt(ORDERS, "no time", envelope={"timestamp": None}),
    _spoilt(ORDERS, "time null", envelope={"timestamp": b"null"}),
    _spoilt(ORDERS, "time true", envelope={"timestamp": b"true"}),
    _spoilt(ORDERS, "time with a fraction", envelope={"timestamp": b"1763715600000.5"}),
    _spoilt(ORDERS, "time before 1970", envelope={"timestamp": b"-1"}),
    _spoilt(ORDERS, "time after 9999", envelope={"timestamp": b"253402300800000"}),
    _spoilt(ORDERS, "time in words", envelope={"timestamp": b'"yesterday"'}),
    _spoilt(ORDERS, "time without a zone", envelope={"timestamp": b'"2025-11-21T09:00:00"'}),
    _spoilt(ORDERS, "30 February", envelope={"timestamp": b'"2025-02-30T09:00:00Z"'}),
    _spoilt(ORDERS, "a leap second", envelope={"timestamp": b'"2016-12-31T23:59:60Z"'}),
    _spoilt(ORDERS, "no data", envelope={"data": None}),
    _spoilt(ORDERS, "data null", envelope={"data": b"null"}),
    _spoilt(ORDERS, "data a text", envelope={"data": b'"{}"'}),
    _spoilt(ORDERS, "version below 0", envelope={"version": b"-1"}),
    _spoilt(ORDERS, "version 1.0", envelope={"version": b"1.0"}),
    _spoilt(ORDERS, "version too large", envelope={"version": b"9223372036854775808"}),
    _spoilt(ORDERS, "sequence true", envelope={"sequence": b"true"}),
    _spoilt(ORDERS, "correlation id a number", envelope={"correlation_id": b"1"}),
    _spoilt(ORDERS, "causation id an object", envelope={"causation_id": b"{}"}),
    _spoilt(ORDERS, "aggregate type a number", envelope={"aggregate_type": b"0"}),
    _spoilt(ORDERS, "source an array", envelope={"source": b"[]"}),
    _spoilt(ORDERS, "metadata an array", envelope={"metadata": b"[]"}),
    _spoilt(ORDERS, "NaN where nobody looks", envelope={"note": b"NaN"}),
)

_ORDER_DATA = (
    _spoilt(ORDERS, "no order id", order_id=None),
    _spoilt(ORDERS, "order id a number", order_id=b"4"),
    _spoilt(ORDERS, "no user id", user_id=None),
    _spoilt(ORDERS, "user id null", user_id=b"null"),
    _spoilt(ORDERS, "no amount", amount=None),
    _spoilt(ORDERS, "amount null", amount=b"null"),
    _spoilt(ORDERS, "amount in words", amount=b'"19.99"'),
    _spoilt(ORDERS, "amount true", amount=b"true"),
    _spoilt(ORDERS, "amount below 0", amount=b"-19.99"),
    _spoilt(ORDERS, "three decimals", amount=b"19.999"),
    _spoilt(ORDERS, "amount too large", amount=b"10000000000000.01"),
    _spoilt(ORDERS, "amount NaN", amount=b"NaN"),
    _spoilt(ORDERS, "amount infinite", amount=b"Infinity"),
    _spoilt(ORDERS, "amount below all", amount=b"-Infinity"),
    _spoilt(ORDERS, "amount above all doubles", amount=b"1e999"),
    _spoilt(ORDERS, "amount of 400 digits", amount=b"9" * 400),
    _spoilt(ORDERS, "amount twice, the last is wrong", amount=b'1,"amount":"2"'),
    _spoilt(ORDERS, "currency a number", currency=b"840"),
    _spoilt(ORDERS, "NaN among the items", items=b'[{"unit_price":NaN}]'),
    _spoilt(ORDERS, "payment id a number", of="order.paid", payment_id=b"1"),
    _spoilt(ORDERS, "tracking number an object", of="order.shipped", tracking_no=b"{}"),
    _spoilt(ORDERS, "cancelled for an array", of="order.cancelled", reason=b"[]"),
    _spoilt(ORDERS, "confirmed without an order", of="order.confirmed", order_id=None),
)

_USER_DATA = (
    _spoilt(USERS, "users: no user id", user_id=None),
    _spoilt(USERS, "users: user id a number", user_id=b"7"),
    _spoilt(USERS, "users: username a number", username=b"1"),
    _spoilt(USERS, "users: e-mail an object", email=b"{}"),
    _spoilt(USERS, "users: country an array", country=b'["GB"]'),
    _spoilt(USERS, "no changes", of="user.updated", changes=None),
    _spoilt(USERS, "changes null", of="user.updated", changes=b"null"),
    _spoilt(USERS, "changes a text", of="user.updated", changes=b'"country"'),
    _spoilt(USERS, "a changed e-mail that is true", of="user.updated", changes=b'{"email":true}'),
    _spoilt(USERS, "ip a number", of="user.logged_in", ip=b"2130706433"),
    _spoilt(USERS, "device false", of="user.logged_in", device=b"false"),
    _spoilt(USERS, "no status", of="user.status_changed", status=None),
    _spoilt(USERS, "status null", of="user.status_changed", status=b"null"),
    _spoilt(USERS, "status a number", of="user.status_changed", status=b"1"),
    _spoilt(USERS, "whose password?", of="user.password_changed", user_id=None),
    _spoilt(USERS, "deleted: null", of="user.deleted", user_id=b"null"),
    _spoilt(USERS, "users: no time", envelope={"timestamp": None}),
    _spoilt(USERS, "users: time without a zone", envelope={"timestamp": b'"2025-11-21 09:00:00"'}),
    _spoilt(USERS, "users: NaN where nobody looks", note=b"[NaN]"),
)

_OTHERS = (
    _keyed(ORDERS, "no key", lambda _: None),
    _keyed(ORDERS, "another's key", lambda s: s.user_id + b"x"),
    _keyed(ORDERS, "the order's key", lambda s: s.order_id),
    _keyed(ORDERS, "an empty key", lambda _: b""),
    _keyed(USERS, "users: no key", lambda _: None),
    _keyed(USERS, "users: another's key", lambda s: s.user_id + b" "),
    _keyed(USERS, "users: a key that is no UTF-8", lambda s: s.user_id + b"\xff"),
    _ahead(ORDERS),
    _ahead(USERS)._replace(name="users: ahead"),
    _spoilt(ORDERS, "unknown type", of="order.dreamt_of", verdict=None),
    _spoilt(ORDERS, "unknown type, all else wrong", of="x", verdict=None, envelope={"data": b"1"}),
    _spoilt(ORDERS, "a user's event among orders", of="user.registered", verdict=None),
    _raw(ORDERS, "tombstone", None, lambda _: None),
    Poison("tombstone without a key", ORDERS, None, lambda _: (None, None)),
    _spoilt(USERS, "users: unknown type", of="user.dreamt_of", verdict=None),
    _spoilt(USERS, "an order among users", of="order.created", verdict=None),
    _raw(USERS, "users: tombstone", None, lambda _: None),
)

POISONS: tuple[Poison, ...] = (
    *_UNDECODABLE,
    *_ENVELOPES,
    *_ORDER_DATA,
    *_USER_DATA,
    *_OTHERS,
)
"""All but what is too large: small enough for a generator to strew in."""


def _product(label: str, verdict: str | None, event_type: str, /, **data: bytes | None) -> Poison:
    """Return an event of a product, which has the user's id, some of whose data are as given."""

    def make(subject: Subject) -> bytes:
        about = _text(subject.user_id)
        ahead_ms = _AHEAD_MS if verdict == "timestamp-ahead" else 0
        literals: Literals = {
            "event_id": _text(subject.order_id + b"-poison"),
            "event_type": _text(event_type.encode()),
            "aggregate_id": about,
            "timestamp": b"%d" % (subject.time_ms + ahead_ms),
            "data": _object({"product_id": about, **data}),
        }
        return _object(literals)

    return _raw(PRODUCTS, f"products: {label}", verdict, make)


def _of_another(subject: Subject) -> KeyValue:
    """Return an event of a product under another's key."""
    poison = _product("another's key", None, "product.viewed")
    return subject.user_id + b"x", poison.make(subject)[1]


PRODUCT_POISONS: tuple[Poison, ...] = (
    _raw(PRODUCTS, "products: not JSON", "undecodable", lambda s: b"product " + s.user_id),
    _product("stock below 0", "invalid-field", "product.stock.updated", stock=b"-1"),
    _product("no stock", "invalid-field", "product.stock.updated"),
    _product("stock with a fraction", "invalid-field", "product.created", stock=b"1.5"),
    _product("three decimals", "invalid-field", "product.price.updated", price=b"1.999"),
    _product("name a number", "invalid-field", "product.updated", name=b"1"),
    _product("no product", "invalid-field", "product.viewed", product_id=None),
    _product("ahead", "timestamp-ahead", "product.viewed"),
    Poison("products: another's key", PRODUCTS, "key-mismatch", _of_another),
    _product("unknown type", None, "product.dreamt_of"),
    _raw(PRODUCTS, "products: tombstone", None, lambda _: None),
)


def padded_order(subject: Subject, source_bytes: int, amount: bytes = b"19.99") -> KeyValue:
    """Return a valid order whose items make key and value so long together."""
    items = b'[{"product_id":"%b"}]'
    bare = event(subject, "order.created", {}, {"amount": amount, "items": items % b""})
    padding = b"p" * (source_bytes - len(subject.user_id) - len(bare))
    literals: Literals = {"amount": amount, "items": items % padding}
    return subject.user_id, event(subject, "order.created", {}, literals)


def _long_event_id(subject: Subject) -> KeyValue:
    """Return an order whose event id comes thrice in what is derived from it."""
    long_id = _text(b"e" * (LARGEST_SOURCE_BYTES // 2))
    return subject.user_id, event(subject, "order.created", {"event_id": long_id}, {})


OVERSIZED: tuple[Poison, ...] = (
    Poison(
        "too large once it is enriched", ORDERS, "too-large",
        lambda s: padded_order(s, LARGEST_SOURCE_BYTES),
    ),
    Poison(
        "of high value, and too large", ORDERS, "too-large",
        lambda s: padded_order(s, LARGEST_SOURCE_BYTES, b"5000"),
    ),
    Poison("an event id of half a megabyte", ORDERS, "too-large", _long_event_id),
)  # fmt: skip
"""Valid events of which nothing can be sent: a megabyte each, or half of it."""


def _odd(topic: str, name: str, of: str | None = None, **fields: bytes | None) -> Oddity:
    return Oddity(name, topic, lambda s: (s.user_id, event(s, of or _USUAL[topic], {}, fields)))


def _odd_order(name: str, **envelope: bytes | None) -> Oddity:
    return Oddity(name, ORDERS, lambda s: (s.user_id, event(s, "order.created", envelope, {})))


ODDITIES: tuple[Oddity, ...] = (
    _odd(ORDERS, "free of charge", amount=b"0"),
    _odd(ORDERS, "amount with an exponent", amount=b"1.25E+1"),
    _odd(ORDERS, "the largest amount", amount=b"10000000000000"),
    _odd(ORDERS, "just not of high value", amount=b"1000.00"),
    _odd(ORDERS, "amount twice, the last counts", amount=b'"x","amount":12.5'),
    _odd(ORDERS, "currency null", currency=b"null"),
    _odd(ORDERS, "items null", items=b"null"),
    _odd(ORDERS, "items of any kind", amount=b"2000", items=b'{"a" : [1e999, "\xc3\xa9"]}'),
    _odd(ORDERS, "deep, but not too deep", items=b"[" * 498 + b"]" * 498),
    _odd(ORDERS, "a pair of escapes", currency=rb'"\ud83d\ude00"'),
    _odd(ORDERS, "fields that are not listed", note=b'{"x":1e999}'),
    _odd_order("time in words", timestamp=b'"2025-11-21T09:00:00.123999+01:00"'),
    _odd_order("an empty event id", event_id=b'""'),
    _odd_order("a story of others", correlation_id=b'"c-1"', causation_id=b"null"),
    _odd(USERS, "nothing is known of them", username=None, email=b"null", country=b'""'),
    _odd(USERS, "nothing changes", of="user.updated", changes=b"{}"),
    _odd(USERS, "a status of no letters", of="user.status_changed", status=b'""'),
    _odd(USERS, "a log-in from nowhere", of="user.logged_in"),
)
