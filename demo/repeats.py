"""Events of `orders` that come again: soon, after more than an hour, with another time, and too late."""

import heapq
import re
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import NamedTuple

from demo.generator import TopicKeyValue
from demo.poison import ORDERS

SHARE = 0.05
"""Of the events of orders."""
_MINUTE_MS = 60_000
_TIME = re.compile(rb'"timestamp":(\d+)')


class _Kind(NamedTuple):
    """How an event comes again: after so long, from and to, and whether as of then or as it was."""

    weight: int
    minutes: tuple[int, int]
    is_new: bool


_KINDS = (
    _Kind(55, (0, 50), is_new=False),  # tried again by who had no answer
    _Kind(20, (1, 50), is_new=True),  # by a source that is replayed, and writes times anew
    _Kind(20, (62, 150), is_new=True),  # an id that is used again: passed on
    _Kind(5, (70, 90), is_new=False),  # whether it repeats anything cannot be told any more: late
)
_WEIGHTS = [kind.weight for kind in _KINDS]


class _Again(NamedTuple):
    due_ms: int
    number: int
    key: bytes | None
    value: bytes


def repeated(
    records: Iterable[TopicKeyValue], clock: Callable[[], int], seed: int
) -> Iterator[TopicKeyValue]:
    """Yield the records, and some of those of `orders` once more, when event time has come to it."""
    random = Random(f"repeats-{seed}")  # noqa: S311 - it must be repeatable
    waiting: list[_Again] = []
    for number, (topic, key, value) in enumerate(records):
        while waiting and waiting[0].due_ms <= clock():
            again = heapq.heappop(waiting)
            yield ORDERS, again.key, again.value
        yield topic, key, value
        if topic != ORDERS or value is None or random.random() >= SHARE:
            continue
        if (time := _TIME.search(value)) is None:
            continue
        [kind] = random.choices(_KINDS, weights=_WEIGHTS)
        first, last = kind.minutes
        after_ms = random.randrange(first * _MINUTE_MS, last * _MINUTE_MS)
        if kind.is_new:
            value = _TIME.sub(b'"timestamp":%d' % (int(time[1]) + after_ms), value, count=1)  # noqa: PLW2901
        heapq.heappush(waiting, _Again(clock() + after_ms, number, key, value))
