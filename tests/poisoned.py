"""Traffic with one of each kind of poison in it: what the driver and a real Kafka are both given."""

from collections.abc import Iterator
from itertools import islice

from demo.generator import OrderGenerator, TopicKeyValue
from demo.oracle import ORDERS, USERS, Rules
from demo.poison import ODDITIES, OVERSIZED, POISONS, Oddity, Poison, Subject, event
from tests.laws.world import BRITTLE

RULES = Rules(fails=lambda event: event["event_id"].startswith(BRITTLE))
"""Of the laws' topology, WORLD."""

KINDS: tuple[Poison | Oddity, ...] = (*POISONS, *ODDITIES, *OVERSIZED)
_BETWEEN = 20


def traffic(now_ms: int) -> Iterator[TopicKeyValue]:
    """Yield topic, key and value: every poison, oddity and brittle event, with life between them."""
    life = OrderGenerator(seed=11, users=60).records(now_ms)
    for number, kind in enumerate(KINDS):
        yield from islice(life, _BETWEEN)
        subject = Subject(b"odd-%d" % number, b"user-%d" % (number % 60), now_ms)
        yield kind.topic, *kind.make(subject)
        brittle = {"event_id": b'"%b-%d"' % (BRITTLE.encode(), number)}
        if number % 10 == 0:
            yield ORDERS, subject.user_id, event(subject, "order.created", brittle, {})
        if number % 10 == 5:
            yield USERS, subject.user_id, event(subject, "user.deleted", brittle, {})
    yield from islice(life, _BETWEEN)
