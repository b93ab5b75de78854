"""Life-like orders: users with habits, baskets, what follows an order, and some poison."""

import heapq
import zlib
from collections.abc import Callable, Iterator
from itertools import accumulate
from random import Random
from typing import NamedTuple

from demo.poison import POISONS, KeyValue, Subject

_BLOCK = 4_096  # Random numbers are drawn by the block: one by one they cost as much as the rest.
_BASKETS_PER_LEVEL = 512
_MAX_UNIT_CENTS = (2_500, 15_000, 60_000, 250_000)  # by spending level
_LEVEL_SHARES = (60, 28, 10, 2)
_CURRENCIES = (b"USD", b"EUR", b"GBP", b"JPY", b"BRL")
_CURRENCY_SHARES = (50, 30, 12, 5, 3)
_LATE_SHARE = 0.03
_MEAN_LATE_MS = 120_000
_MAX_LATE_MS = 900_000
_MAX_JITTER_MS = 2_000
_CANCELLED_SHARE = 0.08
_MAX_STEP_RECORDS = 400  # how many records later the next event of an order may come

# order id, order id, time, order id, order id, user id, amount, currency, items
_CREATED = (
    b'{"event_id":"%b-created","event_type":"order.created","aggregate_id":"%b","timestamp":%d,'
    b'"version":1,"correlation_id":"%b-created","causation_id":null,"data":{"order_id":"%b",'
    b'"user_id":"%b","amount":%b,"currency":"%b","items":%b}}'
)
# order id, name, name, order id, time, order id, order id, cause, order id, user id, more data
_FOLLOW_UP = (
    b'{"event_id":"%b-%b","event_type":"order.%b","aggregate_id":"%b","timestamp":%d,"version":1,'
    b'"correlation_id":"%b-created","causation_id":"%b-%b","data":{"order_id":"%b","user_id":"%b"%b}}'
)
_LIFE = (b"created", b"updated", b"confirmed", b"paid", b"shipped", b"completed")
_STEP_SHARES = {b"updated": 0.15, b"confirmed": 0.95, b"paid": 0.97, b"shipped": 0.98}
_MORE_DATA = {
    b"paid": b',"payment_id":"pay-%b"',
    b"shipped": b',"tracking_no":"trk-%b"',
    b"cancelled": b',"reason":"changed my mind (%b)"',
}


class User(NamedTuple):
    """A user's habits."""

    id: bytes
    currency: bytes
    baskets: list[tuple[bytes, bytes]]
    """Amount (main unit) and items, as JSON."""


class _Step(NamedTuple):
    """An event that is still to come, once `due` records have gone out."""

    due: int
    order_id: bytes
    user: User
    name: bytes
    cause: bytes


class OrderGenerator:
    """A source of orders: the same seed, users and clock give the same records, byte by byte.

    A few users order a lot and most of them rarely (Zipf); about 3 % of the orders are of high
    value, about 3 % come up to 15 minutes late, and all event times jitter by some seconds.
    """

    def __init__(self, seed: int, users: int = 10_000, poison_share: float = 0.0) -> None:
        """Raise ValueError if there is no user, or the share is not within 0 and 1."""
        if users < 1:
            raise ValueError(f"users must be at least 1, not {users}")
        if not 0 <= poison_share <= 1:
            raise ValueError(f"poison_share must be within 0 and 1, not {poison_share}")
        self._random = Random(seed)  # noqa: S311 - it must be repeatable
        self._seed = seed
        self._poison_share = poison_share
        self._orders_made = 0
        self._users = _users(self._random, users)
        self._cumulative_activity = _cumulative_activity(self._random, users)

    def orders(self, now_ms: int | Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of order.created without end, and nothing else: fast."""
        for order_id, user, time_ms in self._drawn(_clock(now_ms)):
            yield user.id, self._created(order_id, user, time_ms)

    def records(self, now_ms: int | Callable[[], int]) -> Iterator[KeyValue]:
        """Yield key and value of records without end: orders, what follows them, and poison.

        `now_ms` is the time that orders are made at, or a clock, which is asked for each order.
        An order's later events come hundreds of records after it, in their order.
        """
        clock = _clock(now_ms)
        steps: list[_Step] = []
        sent = 0
        for order_id, user, time_ms in self._drawn(clock):
            while steps and steps[0].due <= sent:
                step = heapq.heappop(steps)
                yield step.user.id, _follow_up(step, clock())
                self._plan(steps, step.order_id, step.user, step.name, sent)
                sent += 1
            if self._poison_share and self._random.random() < self._poison_share:
                poison = self._random.choice(POISONS)
                yield poison.make(Subject(order_id, user.id, clock()))
            else:
                yield user.id, self._created(order_id, user, time_ms)
                self._plan(steps, order_id, user, b"created", sent)
            sent += 1

    def _drawn(self, clock: Callable[[], int]) -> Iterator[tuple[bytes, User, int]]:
        """Yield order id, user and event time of one order after the other."""
        random = self._random
        while True:
            users = random.choices(self._users, cum_weights=self._cumulative_activity, k=_BLOCK)
            jitters = random.choices(range(_MAX_JITTER_MS), k=_BLOCK)
            for user, jitter_ms in zip(users, jitters, strict=True):
                self._orders_made += 1
                late_ms = jitter_ms
                if random.random() < _LATE_SHARE:
                    late_ms += min(int(random.expovariate(1 / _MEAN_LATE_MS)), _MAX_LATE_MS)
                yield b"ord-%d-%d" % (self._seed, self._orders_made), user, clock() - late_ms

    def _created(self, order_id: bytes, user: User, time_ms: int) -> bytes:
        baskets = user.baskets
        amount, items = baskets[int(self._random.random() * len(baskets))]
        return _CREATED % (
            order_id,
            order_id,
            time_ms,
            order_id,
            order_id,
            user.id,
            amount,
            user.currency,
            items,
        )

    def _plan(
        self, steps: list[_Step], order_id: bytes, user: User, last: bytes, sent: int
    ) -> None:
        """Put the order's next event, if there is to be one, among the steps to come."""
        random = self._random
        if last in (b"completed", b"cancelled"):
            return
        due = sent + random.randrange(1, _MAX_STEP_RECORDS)
        name = b"cancelled"
        if random.random() >= _CANCELLED_SHARE:
            rest = _LIFE[_LIFE.index(last) + 1 :]
            name = next(n for n in rest if random.random() < _STEP_SHARES.get(n, 1.0))
        heapq.heappush(steps, _Step(due, order_id, user, name, last))


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition of a key: its CRC-32 modulo their number; 0 where there is no key."""
    return zlib.crc32(key or b"") % partitions


def _clock(now_ms: int | Callable[[], int]) -> Callable[[], int]:
    return now_ms if callable(now_ms) else lambda: now_ms


def _users(random: Random, count: int) -> list[User]:
    baskets = [_baskets(random, max_unit_cents) for max_unit_cents in _MAX_UNIT_CENTS]
    levels = random.choices(baskets, weights=_LEVEL_SHARES, k=count)
    currencies = random.choices(_CURRENCIES, weights=_CURRENCY_SHARES, k=count)
    return [
        User(b"user-%d" % number, currency, level)
        for number, (currency, level) in enumerate(zip(currencies, levels, strict=True), 1)
    ]


def _cumulative_activity(random: Random, count: int) -> list[float]:
    """Return running totals of the users' shares of all orders: Zipf's law, in random order."""
    activity = [1 / rank for rank in range(1, count + 1)]
    random.shuffle(activity)
    return list(accumulate(activity))


def _baskets(random: Random, max_unit_cents: int) -> list[tuple[bytes, bytes]]:
    return [_basket(random, max_unit_cents) for _ in range(_BASKETS_PER_LEVEL)]


def _basket(random: Random, max_unit_cents: int) -> tuple[bytes, bytes]:
    """Return the amount and the items of a basket, as JSON: the amount is the sum of the items."""
    lines = [
        (
            random.randrange(1, 500),
            random.choice((1, 1, 1, 2, 3)),
            random.randint(99, max_unit_cents),
        )
        for _ in range(random.choice((1, 1, 2, 2, 3)))
    ]
    items = b",".join(
        b'{"product_id":"prod-%d","quantity":%d,"unit_price":%b}' % (product, count, _money(cents))
        for product, count, cents in lines
    )
    return _money(sum(count * cents for _, count, cents in lines)), b"[" + items + b"]"


def _money(cents: int) -> bytes:
    return b"%d.%02d" % divmod(cents, 100)


def _follow_up(step: _Step, time_ms: int) -> bytes:
    more = _MORE_DATA.get(step.name, b"")
    return _FOLLOW_UP % (
        step.order_id,
        step.name,
        step.name,
        step.order_id,
        time_ms,
        step.order_id,
        step.order_id,
        step.cause,
        step.order_id,
        step.user.id,
        more % step.order_id if more else b"",
    )
