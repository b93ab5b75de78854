"""What operators are given: the bench's orders, and for joins their payments, or users, beside them."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from random import Random
from typing import Final

import msgspec

from bench.operators.kinds import PAYMENTS, USERS, Kind
from bench.operators.oracle import Placed
from bench.operators.users import with_users
from bench.orders import Orders
from bench.work import ORDERS

_SEED: Final = 7
_EVENT_BYTES: Final = 400
# Orders are up to 2 s out of order. A payment that is read before its order, and is behind stream time by a
# millisecond, is unmatched to Kafka Streams at once, without waiting for the grace, and matched later as
# well (KStreamKStreamJoin 4.3.1: `timeTo < streamTime`): such an input has no right results there.
_WAITS_MS: Final = range(2_000, 10_000)
_UNMATCHED_EACH: Final = 20
"""One in so many orders is never paid, and one in so many payments has no order."""
_LEAST_MS: Final = 1_200_000

_PAYMENT = (
    b'{"event_id":"%b-paid","event_type":"payment.completed","aggregate_id":"%b","timestamp":%d,'
    b'"version":1,"correlation_id":"%b-created","causation_id":null,"data":{"payment_id":"p-%b",'
    b'"order_id":"%b","user_id":"user-%d","amount":%b,"currency":"USD","method":"card"}}'
)


def records(kind: Kind, events: int, end_ms: int) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield topic, key and value, in the order in which they are written, up to the event time end_ms.

    There are so many events, of which payments are nearly half. A thousand come a second of event time,
    fewer where there are so few that no window would close; with users, 500.
    """
    tick_ms = 2 if kind.has_users else 1
    orders = Orders(seed=_SEED, users=kind.users, event_bytes=_EVENT_BYTES, jitter_step_ms=tick_ms)
    step_ms = max(1, _LEAST_MS // events) * tick_ms
    end_ms -= end_ms % tick_ms
    times_ms = range(end_ms - events * step_ms, end_ms, step_ms)
    if kind.has_users:
        yield from with_users(kind, orders, times_ms, Random(_SEED))  # noqa: S311 - as below
        return
    if not kind.is_join:
        for at_ms in times_ms:
            yield ORDERS, *orders.at(at_ms, b"")
        return
    random = Random(_SEED)  # noqa: S311 - it must be repeatable
    unpaid: list[tuple[int, bytes, bytes]] = []
    for number, at_ms in enumerate(times_ms[::2], 1):
        _, order = orders.at(at_ms, b"")
        yield ORDERS, b"o-%d" % number, order
        if number % _UNMATCHED_EACH:
            order_id = b"x-%d" % number if number % _UNMATCHED_EACH == 1 else b"o-%d" % number
            time_ms = _decode(order).timestamp + random.choice(_WAITS_MS)
            heappush(unpaid, (time_ms, order_id, _payment(order_id, time_ms, random)))
        while unpaid and unpaid[0][0] <= at_ms:
            _, order_id, payment = heappop(unpaid)
            yield PAYMENTS, order_id, payment


def _payment(order_id: bytes, time_ms: int, random: Random) -> bytes:
    amount = b"%d.%02d" % divmod(random.randrange(100, 100_000), 100)
    ids = (order_id, order_id, time_ms, order_id, order_id, order_id)
    return _PAYMENT % (*ids, random.randrange(1, 10_000), amount)


class _Item(msgspec.Struct, gc=False):
    product_id: str


class _Data(msgspec.Struct, gc=False):
    user_id: str
    order_id: str = ""
    amount: float = 0.0
    items: tuple[_Item, ...] = ()


class _Event(msgspec.Struct, gc=False):
    event_type: str
    timestamp: int
    data: _Data
    sequence: int | None = None


_decode = msgspec.json.Decoder(_Event).decode


def placed(kind: Kind, topic: str, value: bytes) -> Placed:
    """Return an event as the oracle takes it."""
    event = _decode(value)
    data = event.data
    if topic == USERS:
        sequence = None if event.event_type == "user.deleted" else event.sequence
        return Placed(data.user_id, event.timestamp, sequence)
    key = data.user_id
    if kind.is_join:
        key = data.order_id
    elif kind.operator == "repartition":
        key = data.items[0].product_id
    return Placed(key, event.timestamp, round(data.amount * 100), data.order_id)
