"""What there is to buy: records of `products`, of names, stock, prices and views, beside the orders."""

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from random import Random

from demo.habits import COUNTS, Basket, Line, money
from streams import topics

PRODUCTS = topics.PRODUCTS.name

_MATERIALS = (
    b"oak",
    b"steel",
    b"wool",
    b"glass",
    b"linen",
    b"copper",
    b"cork",
    b"clay",
    b"paper",
    b"silk",
)
_THINGS = (
    *(b"bowl", b"lamp", b"chair", b"rug", b"clock", b"mug", b"tray", b"shelf", b"box", b"vase"),
    *(b"bench", b"pan"),
)
_CENTS = (199, 150_000)
_CHEAPEST = 3  # of so many at the least, everybody can buy something
_STOCK = (60, 400)
_RESTOCK_AT = 4
_RESTOCK_SHARE = 0.1  # of the sales of a product of which nearly nothing is left
_TOLD_SHARE = 0.25  # of sales; of a product of which few are left, all
_FEW = 15
_VIEWS_SHARE = 0.5
_PRICE_SHARE = 0.005
_MAX_JITTER_MS = 2_000

# seed, number, what, name, product id, time, product id, more data
_EVENT = (
    b'{"event_id":"shop-%d-%d-%b","event_type":"product.%b","aggregate_id":"%b","timestamp":%d,'
    b'"version":1,"data":{"product_id":"%b"%b}}'
)


@dataclass(slots=True)
class Good:
    """A product, and how it stands."""

    id: bytes
    name: bytes
    cents: int
    stock: int


class Shop:
    """Products of which a few are sold often and most rarely (Zipf). Random numbers are its own."""

    def __init__(self, seed: int) -> None:
        random = self._random = Random(f"shop-{seed}")  # noqa: S311 - it must be repeatable
        self._seed = seed
        self._made = 0
        self._told: deque[tuple[Good, bytes, bytes, bytes]] = deque()
        """What is to be told of goods: in ids, in types, and in the data."""
        names = [b"%b %b" % both for both in product(_MATERIALS, _THINGS)]
        random.shuffle(names)
        low, high = map(math.log, _CENTS)
        cents = [int(math.exp(random.uniform(low, high))) for _ in names]
        cents[:_CHEAPEST] = [_CENTS[0]] * _CHEAPEST
        self.goods = [
            Good(b"prod-%d" % number, name, price, random.randrange(*_STOCK))
            for number, (name, price) in enumerate(zip(names, cents, strict=True), 1)
        ]
        ranks = list(range(1, len(names) + 1))
        random.shuffle(ranks)
        self._ranks = ranks
        by_price = sorted(range(len(names)), key=lambda at: cents[at])
        self._by_price = by_price
        self._prices = [cents[at] for at in by_price]
        self._up_to = list(accumulate(1 / ranks[at] for at in by_price))

    def line(self, random: Random, most_cents: int) -> Line:
        """Return a line of a basket, of whose product a piece costs that much at most."""
        affordable = bisect_right(self._prices, most_cents)
        drawn = random.random() * self._up_to[affordable - 1]
        at = self._by_price[min(bisect_right(self._up_to, drawn), affordable - 1)]
        return Line(at + 1, random.choice(COUNTS), self.goods[at].cents)

    def created(self, clock: Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of the events with which all products come."""
        for good in self.goods:
            data = b',"name":"%b","price":%b,"stock":%d' % (
                good.name,
                money(good.cents),
                good.stock,
            )
            yield good.id, self._event(good, b"created", b"created", data, clock())

    def sold(self, basket: Basket, *, spoilt_share: float) -> Basket:
        """Take note of a basket that is ordered; return it, a few with items that are none."""
        random = self._random
        if random.random() < spoilt_share:
            items = basket.items.replace(b'"quantity":', b'"quantity":-', 1)
            return basket._replace(items=items)
        for number, count, _ in basket.lines:
            good = self.goods[number - 1]
            if random.random() < _VIEWS_SHARE:
                self._told.append((good, b"view", b"viewed", b""))
            self._take(good, count, self._ranks[number - 1])
        if random.random() < _PRICE_SHARE:
            good = random.choice(self.goods)
            price = money(max(1, int(good.cents * random.uniform(0.8, 1.1))))
            self._told.append((good, b"price", b"price.updated", b',"price":%b' % price))
        return basket

    def due(self, clock: Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of what was not told yet."""
        while self._told:
            good, what, name, data = self._told.popleft()
            time_ms = clock() - int(self._random.random() * _MAX_JITTER_MS)
            yield good.id, self._event(good, what, name, data, time_ms)

    def _take(self, good: Good, count: int, rank: int) -> None:
        """Take so many from the stock; what nearly nothing is left of is restocked before long."""
        random = self._random
        good.stock = max(0, good.stock - count)
        if good.stock <= _RESTOCK_AT and random.random() < _RESTOCK_SHARE:
            good.stock += random.randrange(*_STOCK) + 4_000 // rank
        elif good.stock >= _FEW and random.random() > _TOLD_SHARE:
            return
        self._told.append((good, b"stock", b"stock.updated", b',"stock":%d' % good.stock))

    def _event(self, good: Good, what: bytes, name: bytes, data: bytes, time_ms: int) -> bytes:
        self._made += 1
        return _EVENT % (self._seed, self._made, what, name, good.id, time_ms, good.id, data)
