"""What a group's demo sends: records without end, and what is special about them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from demo.generator import TopicKeyValue
from demo.poison import Poison

Clock: TypeAlias = Callable[[], int]
"""Tells ms since 1970 UTC."""


Bell: TypeAlias = Callable[[int, int], Iterable[TopicKeyValue]]
"""Of an event time and the number of partitions."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Made-up records for the inputs of a group."""

    records: Callable[[Clock, Clock], Iterator[TopicKeyValue]]
    """Of event time and of Kafka's timestamps."""
    poisons: Sequence[Poison]
    """The kinds of which one each is sent when somebody asks for it."""
    answered: str
    """How ids of events end of which something comes at once: latency is from these."""
    opening: int = 0
    """How many of the first records are to be committed before any other is sent."""
    opens: Bell | None = None
    closes: Bell | None = None
    """What is sent at the begin and at the end of a part of a day; see demo/event_clock.py."""
    restarts_each_s: float | None = None
    """How often the producer restarts, and sends its last records again."""
