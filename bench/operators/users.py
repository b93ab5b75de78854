"""What becomes of users, beside their orders: the input of joins with a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Final

from bench.operators.kinds import USERS, Kind
from bench.orders import Orders
from bench.work import ORDERS

_USERS_EACH: Final = 10
"""One in so many events is a user's."""
_DELETED_EACH: Final = 20
"""One in so many of those deletes the user; the others tell of one anew."""
_MAX_JITTER_MS: Final = 2_000

_REGISTERED: Final = (
    b'{"event_id":"u-%d","event_type":"user.registered","aggregate_id":"user-%d","timestamp":%d,'
    b'"version":1,"correlation_id":"u-%d","causation_id":null,"sequence":%d,"data":{"user_id":"user-%d",'
    b'"username":"name-%d","email":"user-%d@example.org","country":"GB"}}'
)
_DELETED: Final = (
    b'{"event_id":"u-%d","event_type":"user.deleted","aggregate_id":"user-%d","timestamp":%d,'
    b'"version":1,"correlation_id":"u-%d","causation_id":null,"sequence":%d,"data":{"user_id":"user-%d"}}'
)


def with_users(
    kind: Kind, orders: Orders, times_ms: Sequence[int], random: Random
) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield topic, key and value of an event for each of these times, all of them even.

    Users' events are at odd times: which of two events of the same time comes first, of two topics, is
    anybody's choice, and a result may hang on it. No user is deleted that a foreign key may name: Kafka
    Streams 4.3.1 joins with what its cache has, and does not tell of a row that came and went in it, so that
    orders which met such a user stay joined.
    """
    has_deletions = kind.operator != "foreign-key"
    for number, at_ms in enumerate(times_ms, 1):
        if number % _USERS_EACH:
            key, order = orders.at(at_ms, b"")
            order_id = b"o-%d" % (number - number // _USERS_EACH)
            yield ORDERS, order_id if kind.is_by_order else key, order
        else:
            user = random.randrange(1, kind.users + 1)
            time_ms = at_ms + 1 - random.randrange(0, _MAX_JITTER_MS, 2)
            told = (number, user, time_ms, number, number, user)
            is_deleted = has_deletions and number // _USERS_EACH % _DELETED_EACH == 0
            value = _DELETED % told if is_deleted else _REGISTERED % (*told, user, user)
            yield USERS, b"user-%d" % user, value
