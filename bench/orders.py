"""Made-up orders: the same seed makes the same ones, of the size that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

SIZES: Final = (200, 400, 1000)
"""Bytes of an event, on average and roughly: bare, as the contract has it, with many items."""

_BASKETS = 4_096
_BLOCK = 8_192
_MAX_JITTER_MS = 2_000  # events of a topic are a little out of order
_MEDIAN_LOG_CENTS = 8.7  # exp: 60.00
_SPREAD_LOG_CENTS = 1.6  # of so spread amounts 4 in 100 lie above 1,000.00
_ITEMS = {200: 0, 400: 2, 1000: 12}
_BARE_SIZE = SIZES[0]

_BARE = (
    b'{"event_id":"%b-created","event_type":"order.created","aggregate_id":"%b","timestamp":%d,'
    b'"data":{"order_id":"%b","user_id":"user-%d","amount":%b}}'
)
_FULL = (
    b'{"event_id":"%b-created","event_type":"order.created","aggregate_id":"%b","timestamp":%d,'
    b'"version":1,"correlation_id":"%b-created","causation_id":null,"data":{"order_id":"%b",'
    b'"user_id":"user-%d","amount":%b,"currency":"USD","items":%b}}'
)


class Basket(NamedTuple):
    """What is ordered at once, as JSON; `items` is empty in the smallest events."""

    amount: bytes
    items: bytes


class Orders:
    """Orders of `users` users, each as likely as any other, without end."""

    def __init__(self, *, seed: int, users: int, event_bytes: int, jitter_step_ms: int = 1) -> None:
        """Raise ValueError for a size that is not in SIZES.

        Event times are behind by a multiple of `jitter_step_ms`.
        """
        if event_bytes not in SIZES:
            raise ValueError(f"events have {SIZES} bytes, not {event_bytes}")
        self._random = Random(seed)  # noqa: S311 - it must be repeatable
        self._users = users
        self._is_bare = event_bytes == _BARE_SIZE
        self._jitters_ms = range(0, _MAX_JITTER_MS, jitter_step_ms)
        self._baskets = [_basket(self._random, _ITEMS[event_bytes]) for _ in range(_BASKETS)]
        self._draws = self._drawn()
        self._made = 0

    def history(self, count: int, end_ms: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of the next `count`: a thousand a second of event time, up to end_ms."""
        start_ms = end_ms - count
        for number in range(count):
            yield self.at(start_ms + number, b"")

    def at(self, time_ms: int, mark: bytes) -> tuple[bytes, bytes]:
        """Return key and value of the next; event time is up to 2 s before time_ms.

        `mark` ends the order id, which every system hands on.
        """
        user, basket, jitter_ms = next(self._draws)
        self._made += 1
        order_id = b"o-%d%b" % (self._made, mark)
        time_ms -= jitter_ms
        key = b"user-%d" % user
        if self._is_bare:
            return key, _BARE % (order_id, order_id, time_ms, order_id, user, basket.amount)
        return key, _FULL % (
            order_id,
            order_id,
            time_ms,
            order_id,
            order_id,
            user,
            basket.amount,
            basket.items,
        )

    def _drawn(self) -> Iterator[tuple[int, Basket, int]]:
        """Yield user, basket and jitter; drawn by the block, one by one would take twice as long."""
        random = self._random
        while True:
            users = random.choices(range(1, self._users + 1), k=_BLOCK)
            baskets = random.choices(self._baskets, k=_BLOCK)
            jitters = random.choices(self._jitters_ms, k=_BLOCK)
            yield from zip(users, baskets, jitters, strict=True)


def _basket(random: Random, count: int) -> Basket:
    cents = 1 + round(random.lognormvariate(_MEDIAN_LOG_CENTS, _SPREAD_LOG_CENTS))
    prices = [cents // max(1, count)] * count
    if prices:
        prices[0] += cents - sum(prices)
    items = b",".join(
        b'{"product_id":"prod-%d","quantity":1,"unit_price":%b}'
        % (random.randrange(1, 500), _money(price))
        for price in prices
    )
    return Basket(_money(cents), b"[" + items + b"]")


def _money(cents: int) -> bytes:
    return b"%d.%02d" % divmod(cents, 100)
