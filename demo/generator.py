"""Life-like traffic: visits, baskets, what follows an order, payments if asked for, and some poison."""

import heapq
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from random import Random
from typing import NamedTuple, TypeAlias

from demo.habits import TESTER, Basket, Crowd, User, money
from demo.payments import PAYMENTS, Payments
from demo.poison import ORDERS, POISONS, PRODUCT_POISONS, USERS, Poison, Subject
from demo.shop import PRODUCTS, Shop
from demo.visits import BEFORE_ORDER_MS, Visits

TopicKeyValue: TypeAlias = tuple[str, bytes | None, bytes | None]

_BLOCK = 4_096  # Random numbers are drawn by the block: one by one they cost as much as the rest.
_LATE_SHARE = 0.03
_OFFLINE_SHARE = 0.03  # of those that are late
_MIN_OFFLINE_MS = 86_400_000
_MAX_OFFLINE_MS = 3 * 86_400_000
_MAX_JITTER_MS = 2_000
_CANCELLED_SHARE = 0.08
_MOST_KNOWN = 2_000
_SPOILT_SHARE = 0.2  # of the poison's, of orders: items that are none
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


class Lateness(NamedTuple):
    """How far behind the clock event times are."""

    mean_ms: int
    """Of the few orders that come late."""
    most_ms: int
    """The same, but for those who were offline for a day or more."""
    before_order_ms: tuple[int, int]
    """How long before its order a visit begins: at least, and less than."""
    is_certain: bool
    """Whether who was offline has come in time before, and then with what was done before the first record.

    So it is late whatever is read first of several topics. Visits are in time but for theirs.
    """
    is_offline: bool = True
    """Whether anybody is offline for a day or more."""
    settles_ms: int = 0
    """For how long nobody orders after they told in which country they are, or that they leave."""


LIFE_LIKE = Lateness(120_000, 900_000, BEFORE_ORDER_MS, is_certain=False)


class _Step(NamedTuple):
    """An order's event that is still to come, once `due` records have gone out."""

    due: int
    order_id: bytes
    user: User
    name: bytes
    cause: bytes
    late_ms: int


class OrderGenerator:
    """Life-like traffic: the same seed, users and clock give the same records, byte by byte.

        generator = OrderGenerator(seed=1, users=10_000, poison_share=0.01)
        for topic, key, value in generator.records(now_ms):
            send(topic, key, value, partition=partition_of(key, partitions))

    It never ends: take as many as you want. `records` is all topics, `orders` the new orders alone,
    as fast as they come. Event times are those of `now_ms`, a time or a clock (ms since 1970 UTC):
    send with a Kafka timestamp that is no earlier. All topics must have the same partition for a
    key, which `partition_of` sees to. With `payments` there is a third topic, whose records come between
    the others and change none of them. With `products` orders are of products that `products` tells of: of
    their creation in the first records, which are `opening` in number, then of stock, prices and views. Their
    names never change.

    Users have habits (home, currency, favourite baskets and hours of the day); a few come often and
    most rarely. They register and log in before they order, change profile and status now and
    then, and some leave and come back. Some order as guests. A few in a hundred orders are of high
    value; about 3 % come up to 15 minutes late, and one in a thousand by a day or more; all event
    times jitter by some seconds. An order is confirmed, paid, shipped and completed, or cancelled,
    hundreds of records later.
    """

    def __init__(
        self,
        seed: int,
        users: int = 10_000,
        poison_share: float = 0.0,
        *,
        payments: bool = False,
        products: bool = False,
        lateness: Lateness = LIFE_LIKE,
    ) -> None:
        """`poison_share` is that of all records but the first.

        Raise ValueError if there is no user, or the share is not within 0 and 1.
        """
        if users < 1:
            raise ValueError(f"users must be at least 1, not {users}")
        if not 0 <= poison_share <= 1:
            raise ValueError(f"poison_share must be within 0 and 1, not {poison_share}")
        self._random = Random(seed)  # noqa: S311 - it must be repeatable
        self._seed = seed
        self._poison_share = poison_share
        self._orders_made = 0
        self._poison_made = 0
        self._shop = Shop(seed) if products else None
        self._crowd = Crowd(self._random, users, self._shop)
        self.poisons: Sequence[Poison] = (*POISONS, *PRODUCT_POISONS) if products else POISONS
        """The kinds that the records may have."""
        self._visits = Visits(self._random, seed, lateness.before_order_ms)
        self._payments = Payments(seed) if payments else None
        self._lateness = lateness
        self._began_ms = 0
        """The clock at the first record, where lateness is certain."""
        self._in_time: set[bytes] = set()
        """Users who have ordered in time, where lateness is certain."""

    @property
    def opening(self) -> int:
        """Return how many records there are before the first order and visit."""
        if self._shop is None:
            return 0
        return len(self._shop.goods) + len(self._known_from_the_start())

    def orders(self, now_ms: int | Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of order.created without end, and nothing else: fast."""
        clock = _clock(now_ms)
        for order_id, user, late_ms in self._drawn(clock):
            time_ms = clock() - late_ms
            yield user.id, _created(order_id, user, time_ms, user.basket(self._random))

    def records(
        self, now_ms: int | Callable[[], int], sent_ms: int | Callable[[], int] | None = None
    ) -> Iterator[TopicKeyValue]:
        """Yield topic, key and value of records without end: visits, orders, what follows, poison.

        `sent_ms` is the clock of the records' Kafka timestamps, where event times are by another one.
        """
        clock = _clock(now_ms)
        if self._lateness.is_certain:
            self._began_ms = clock()
        events = self._events(clock)
        if self._poison_share:
            events = self._poisoned(events, clock if sent_ms is None else _clock(sent_ms))
        return events if self._shop is None else chain(self._opened(self._shop, clock), events)

    def _opened(self, shop: Shop, clock: Callable[[], int]) -> Iterator[TopicKeyValue]:
        """Yield what there is before anybody comes: products, and users whose country is to be settled."""
        for key, value in shop.created(clock):
            yield PRODUCTS, key, value
        for user in self._known_from_the_start():
            yield USERS, user.id, self._visits.registration(user, clock())

    def bell(self, now_ms: int, partitions: int) -> Iterator[TopicKeyValue]:
        """Yield an event for each partition of `users`, of people who never order, at a time."""
        for partition in range(partitions):
            clerk = _key_in(partition, partitions, b"clerk-%d")
            yield USERS, clerk, self._visits.login(clerk, now_ms)

    def test_order(self, now_ms: int, partitions: int) -> Iterator[TopicKeyValue]:
        """Yield an order, at a time, of a product for each partition that lines of products may be in."""
        self._orders_made += 1
        products = [_key_in(partition, partitions, b"test-%d") for partition in range(partitions)]
        item = b'{"product_id":"%b","quantity":1,"unit_price":0.01}'
        items = b",".join(item % product for product in products)
        basket = Basket(money(partitions), b"[%b]" % items, ())
        order_id = b"ord-%d-%d" % (self._seed, self._orders_made)
        yield ORDERS, TESTER.id, _created(order_id, TESTER, now_ms, basket)

    def _known_from_the_start(self) -> list[User]:
        if not self._lateness.settles_ms:
            return []
        return [user for user in self._crowd.users[:_MOST_KNOWN] if not user.is_guest]

    def _events(self, clock: Callable[[], int]) -> Iterator[TopicKeyValue]:
        steps: list[_Step] = []
        sent = 0
        for order_id, user, late_ms in self._drawn(clock):
            yield from self._beside(clock)
            while steps and steps[0].due <= sent:
                step = heapq.heappop(steps)
                if self._gives_up(step, clock):
                    continue
                yield ORDERS, step.user.id, self._step(step, clock())
                self._plan(steps, step, sent)
                sent += 1
            visit = self._visits.before_order(user, self._visit_time_ms(clock(), late_ms))
            for value in visit.events:
                yield USERS, user.id, value
                sent += 1
            if visit.tells_country and self._lateness.settles_ms:
                user.unsettled_until_ms = clock() + self._lateness.settles_ms
            order = _Step(sent, order_id, user, b"created", b"", late_ms)
            if visit.events and visit.orders:  # it takes them a while to fill the basket
                due = sent + self._random.randrange(1, _MAX_STEP_RECORDS)
                heapq.heappush(steps, order._replace(due=due))
            elif visit.orders and not self._gives_up(order, clock):
                yield ORDERS, user.id, self._step(order, clock())
                self._plan(steps, order, sent)
                sent += 1

    def _beside(self, clock: Callable[[], int]) -> Iterator[TopicKeyValue]:
        """Yield what has come of orders beside their own events."""
        if self._payments is not None:
            for payer, payment in self._payments.due(clock):
                yield PAYMENTS, payer, payment
        if self._shop is not None:
            for product, value in self._shop.due(clock):
                yield PRODUCTS, product, value

    def _poisoned(
        self, events: Iterator[TopicKeyValue], clock: Callable[[], int]
    ) -> Iterator[TopicKeyValue]:
        random = self._random
        for event in events:
            while random.random() < self._poison_share:
                self._poison_made += 1
                poison = random.choice(self.poisons)
                order_id = b"ord-%d-x%d" % (self._seed, self._poison_made)
                user = random.choice(self._crowd.users)
                yield poison.topic, *poison.make(Subject(order_id, user.id, clock()))
            yield event

    def _drawn(self, clock: Callable[[], int]) -> Iterator[tuple[bytes, User, int]]:
        """Yield id, user and lateness (ms) of one order after the other."""
        random = self._random
        mean_ms, most_ms = self._lateness.mean_ms, self._lateness.most_ms
        while True:
            users = self._crowd.draw(random, clock(), _BLOCK)
            jitters = random.choices(range(_MAX_JITTER_MS), k=_BLOCK)
            for user, jitter_ms in zip(users, jitters, strict=True):
                self._orders_made += 1
                late_ms = jitter_ms
                if random.random() < _LATE_SHARE:
                    late_ms += min(int(random.expovariate(1 / mean_ms)), most_ms)
                    if random.random() < _OFFLINE_SHARE and self._may_be_offline(user):
                        late_ms += random.randrange(_MIN_OFFLINE_MS, _MAX_OFFLINE_MS)
                yield b"ord-%d-%d" % (self._seed, self._orders_made), user, late_ms

    def _gives_up(self, step: _Step, clock: Callable[[], int]) -> bool:
        """Tell whether an order is not placed after all: see Lateness.settles_ms."""
        until_ms = step.user.unsettled_until_ms
        return step.name == b"created" and until_ms > 0 and clock() < until_ms

    def _may_be_offline(self, user: User) -> bool:
        if not self._lateness.is_offline:
            return False
        return not self._lateness.is_certain or user.id in self._in_time

    def _order_time_ms(self, now_ms: int, late_ms: int) -> int:
        if self._lateness.is_certain and late_ms >= _MIN_OFFLINE_MS:
            return self._began_ms - late_ms
        return now_ms - late_ms

    def _visit_time_ms(self, now_ms: int, late_ms: int) -> int:
        """Return when the order comes that a visit is for, as the visit has it."""
        if self._lateness.is_certain and late_ms < _MIN_OFFLINE_MS:
            return now_ms
        return self._order_time_ms(now_ms, late_ms)

    def _step(self, step: _Step, now_ms: int) -> bytes:
        if step.name != b"created":
            return _follow_up(step, now_ms)
        order_id, user, late_ms = step.order_id, step.user, step.late_ms
        time_ms, basket = self._order_time_ms(now_ms, late_ms), user.basket(self._random)
        if self._payments is not None:
            self._payments.plan(order_id, user.id, basket.amount, time_ms, now_ms)
        if self._shop is not None:
            basket = self._shop.sold(basket, spoilt_share=self._poison_share * _SPOILT_SHARE)
        if self._lateness.is_certain and late_ms < _MIN_OFFLINE_MS:
            self._in_time.add(user.id)
        return _created(order_id, user, time_ms, basket)

    def _plan(self, steps: list[_Step], last: _Step, sent: int) -> None:
        """Put the order's next event, if there is to be one, among the steps to come."""
        random = self._random
        if last.name in (b"completed", b"cancelled"):
            return
        due = sent + random.randrange(1, _MAX_STEP_RECORDS)
        name = b"cancelled"
        if random.random() >= _CANCELLED_SHARE:
            rest = _LIFE[_LIFE.index(last.name) + 1 :]
            name = next(n for n in rest if random.random() < _STEP_SHARES.get(n, 1.0))
        heapq.heappush(steps, _Step(due, last.order_id, last.user, name, last.name, 0))


def _key_in(partition: int, partitions: int, pattern: bytes) -> bytes:
    """Return the first key of a pattern, with a number in it, that is in a partition."""
    keys = (pattern % number for number in count())
    return next(key for key in keys if partition_of(key, partitions) == partition)


def partition_of(key: bytes | None, partitions: int) -> int:
    """Return the partition of a key: its CRC-32 modulo their number; 0 where there is no key."""
    return zlib.crc32(key or b"") % partitions


def _clock(now_ms: int | Callable[[], int]) -> Callable[[], int]:
    return now_ms if callable(now_ms) else lambda: now_ms


def _created(order_id: bytes, user: User, time_ms: int, basket: Basket) -> bytes:
    return _CREATED % (
        order_id,
        order_id,
        time_ms,
        order_id,
        order_id,
        user.id,
        basket.amount,
        user.currency,
        basket.items,
    )


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
