"""Users and their habits: when they come, what they like, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import NamedTuple, Protocol

HOUR_MS = 3_600_000
_BASKETS_PER_LEVEL = 512
_FAVOURITE_BASKETS = 24
_MAX_UNIT_CENTS = (2_500, 15_000, 60_000, 250_000)  # by spending level
_LEVEL_SHARES = (60, 28, 10, 2)
_HOMES = ((b"US", b"USD"), (b"DE", b"EUR"), (b"GB", b"GBP"), (b"JP", b"JPY"), (b"BR", b"BRL"))
_HOME_SHARES = (50, 30, 12, 5, 3)
_GUEST_SHARE = 0.03
COUNTS = (1, 1, 1, 2, 3)
"""How many pieces people take."""
_BUSY_HOURS = 6
_BUSY_FACTOR = 4


class Line(NamedTuple):
    """So many pieces of a product, and what each costs."""

    product: int
    pieces: int
    cents: int


class Basket(NamedTuple):
    """What is ordered at once, as JSON."""

    amount: bytes
    """In the main unit: the sum of the items."""
    items: bytes
    lines: Sequence[Line]


class Shelf(Protocol):
    """Where baskets are filled."""

    def line(self, random: Random, most_cents: int) -> Line:
        """Return a line of a basket, of whose product a piece costs that much at most."""


@dataclass(slots=True)
class User:
    """A user's habits, and how they stand at the moment."""

    id: bytes
    country: bytes
    currency: bytes
    level: Sequence[Basket]
    """What users who spend as much order."""
    first_favourite: int
    """From here on in `level` lie the baskets that this user likes."""
    is_guest: bool
    """Whether they order without ever registering."""
    is_registered: bool = False
    was_deleted: bool = False
    orders_left: int = 0
    """How many orders are still to come before they log in again."""
    unsettled_until_ms: int = 0
    """Event time before which they do not order: see Lateness.settles_ms."""

    def basket(self, random: Random) -> Basket:
        """Return one of the favourite baskets."""
        return self.level[self.first_favourite + int(random.random() * _FAVOURITE_BASKETS)]


TESTER = User(b"tester", b"US", b"USD", (), 0, is_guest=True)
"""Who is none of the crowd."""


class Crowd:
    """All users. A few of them come often and most rarely (Zipf), each in some hours of the day most."""

    def __init__(self, random: Random, count: int, shelf: Shelf | None = None) -> None:
        """Baskets have products of the shelf; without one, any, at any price."""
        shelf = shelf or _AnyPrice()
        levels = random.choices(
            [_baskets(random, most, shelf) for most in _MAX_UNIT_CENTS],
            weights=_LEVEL_SHARES,
            k=count,
        )
        homes = random.choices(_HOMES, weights=_HOME_SHARES, k=count)
        self.users = [
            User(
                id=b"user-%d" % number,
                country=country,
                currency=currency,
                level=level,
                first_favourite=int(random.random() * _BASKETS_PER_LEVEL),
                is_guest=random.random() < _GUEST_SHARE,
            )
            for number, (level, (country, currency)) in enumerate(
                zip(levels, homes, strict=True), 1
            )
        ]
        self._activity = [1 / rank for rank in range(1, count + 1)]
        random.shuffle(self._activity)
        self._busy_from = [int(random.random() * 24) for _ in range(count)]
        self._by_hour: dict[int, list[float]] = {}

    def draw(self, random: Random, time_ms: int, count: int) -> list[User]:
        """Return those who come at a time, the same user perhaps again and again."""
        hour = time_ms // HOUR_MS % 24
        weights = self._by_hour.get(hour)
        if weights is None:
            weights = self._by_hour[hour] = self._cumulative_activity(hour)
        return random.choices(self.users, cum_weights=weights, k=count)

    def _cumulative_activity(self, hour: int) -> list[float]:
        """Return running totals of the users' shares of all orders in an hour of the day."""
        return list(
            accumulate(
                share * (_BUSY_FACTOR if (hour - busy_from) % 24 < _BUSY_HOURS else 1)
                for share, busy_from in zip(self._activity, self._busy_from, strict=True)
            )
        )


class _AnyPrice:
    """A shelf on which whatever there is costs something else each time."""

    def line(self, random: Random, most_cents: int) -> Line:
        product = random.randrange(1, 500)
        return Line(product, random.choice(COUNTS), random.randint(99, most_cents))


def _baskets(random: Random, max_unit_cents: int, shelf: Shelf) -> list[Basket]:
    baskets = [_basket(random, max_unit_cents, shelf) for _ in range(_BASKETS_PER_LEVEL)]
    return baskets + baskets[:_FAVOURITE_BASKETS]  # favourites may begin at the last


def _basket(random: Random, max_unit_cents: int, shelf: Shelf) -> Basket:
    lines = [shelf.line(random, max_unit_cents) for _ in range(random.choice((1, 1, 2, 2, 3)))]
    items = b",".join(
        b'{"product_id":"prod-%d","quantity":%d,"unit_price":%b}' % (product, count, money(cents))
        for product, count, cents in lines
    )
    amount = sum(count * cents for _, count, cents in lines)
    return Basket(money(amount), b"[" + items + b"]", lines)


def money(cents: int) -> bytes:
    """Return an amount as JSON."""
    return b"%d.%02d" % divmod(cents, 100)
