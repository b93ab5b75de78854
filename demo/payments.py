"""What users pay: records of `payments`, some time after their orders, and for some orders never."""

import heapq
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from streams import topics

PAYMENTS = topics.PAYMENTS.name

_UNPAID_SHARE = 0.08
_FAILED_SHARE = 0.10  # of orders that are paid: the first try is refused
_STRAY_SHARE = 0.01
_SLOW_SHARE = 0.25
_MEAN_QUICK_MS = 180_000
_MEAN_SLOW_MS = 1_200_000  # some are beyond the half hour in which an order waits for its payment
_MAX_JITTER_MS = 2_000
_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

# event id, name, payment id, time, order id, order id, user id, payment id, amount, more data
_EVENT = (
    b'{"event_id":"%b","event_type":"payment.%b","aggregate_id":"%b","timestamp":%d,"version":1,'
    b'"correlation_id":"%b-created","data":{"order_id":"%b","user_id":"%b","payment_id":"%b",'
    b'"amount":%b%b}}'
)


class _Planned(NamedTuple):
    """A payment that is still to come, once the clock is at `due_ms`."""

    due_ms: int
    order_id: bytes
    user_id: bytes
    amount: bytes
    fails: bool
    time_ms: int | None
    """Its event time; None: when it comes."""


class Payments:
    """The payments of a stream of orders. Random numbers are its own: it changes no order."""

    def __init__(self, seed: int) -> None:
        self._random = Random(f"payments-{seed}")  # noqa: S311 - it must be repeatable
        self._planned: list[_Planned] = []
        self._strays_made = 0
        self._stray_prefix = b"gone-%d" % seed
        self._in_time: set[bytes] = set()
        """Users who have paid in time."""

    def plan(
        self, order_id: bytes, user_id: bytes, amount: bytes, time_ms: int, now_ms: int
    ) -> None:
        """Have an order of that event time, which comes now, paid: mostly, and mostly soon.

        Who ordered while offline for days has paid then, too, if they have ever paid in time: so such
        a payment is late whatever is read first of several topics.
        """
        random = self._random
        if random.random() < _UNPAID_SHARE:
            return
        mean_ms = _MEAN_SLOW_MS if random.random() < _SLOW_SHARE else _MEAN_QUICK_MS
        waits_ms = int(random.expovariate(1 / mean_ms))
        was_offline = now_ms - time_ms >= _DAY_MS and user_id in self._in_time
        paid_ms = time_ms + min(waits_ms, _HOUR_MS) if was_offline else None
        paid = _Planned(now_ms + waits_ms, order_id, user_id, amount, fails=False, time_ms=paid_ms)
        heapq.heappush(self._planned, paid)
        if random.random() < _FAILED_SHARE:
            refused = paid._replace(due_ms=now_ms + waits_ms // 2, fails=True)
            heapq.heappush(self._planned, refused)
        if random.random() < _STRAY_SHARE:
            self._strays_made += 1
            stray_id = b"%b-%d" % (self._stray_prefix, self._strays_made)
            heapq.heappush(self._planned, paid._replace(order_id=stray_id, time_ms=None))

    def due(self, clock: Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of the payments whose time has come, ms since 1970 UTC."""
        while self._planned and self._planned[0].due_ms <= clock():
            planned = heapq.heappop(self._planned)
            time_ms = planned.time_ms
            if time_ms is None:
                time_ms = clock() - int(self._random.random() * _MAX_JITTER_MS)
                self._in_time.add(planned.user_id)
            yield planned.user_id, _value(planned, time_ms)


def _value(planned: _Planned, time_ms: int) -> bytes:
    order_id, fails = planned.order_id, planned.fails
    payment_id = b"pay-%b" % order_id
    return _EVENT % (
        b"%b-payment%b" % (order_id, b"-failed" if fails else b""),
        b"failed" if fails else b"completed",
        payment_id,
        time_ms,
        order_id,
        order_id,
        planned.user_id,
        payment_id,
        planned.amount,
        b',"reason":"card declined"' if fails else b"",
    )
