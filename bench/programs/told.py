"""What the flows of operators tell, and what they take of orders and payments."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from bench.operators.kinds import RESULTS
from bench.operators.oracle import ResultJson
from streams.engine.definitions import Topic
from streams.events import OrderCreated, PaymentCompleted


class Result(ResultJson, frozen=True, gc=False):
    """A result as the engine takes an event."""

    @property
    def event_id(self) -> str:
        """Name it in errors."""
        return f"{self.key}@{self.start}"

    @property
    def timestamp(self) -> int:
        """Return its time, ms."""
        return self.end


TOLD: Final = Topic(RESULTS, events=(Result,), key=attrgetter("key"))
# Kafka Streams' cache sends the last of each key and commit, too.
CHANGES: Final = Topic(RESULTS, events=(Result,), key=attrgetter("key"), keeps_last=True)
"""What holds changes of tables."""
WINDOW_CHANGES: Final = Topic(
    RESULTS, events=(Result,), key=lambda told: f"{told.key}@{told.start}", keeps_last=True
)
"""What holds changes of windows, each a key of its own."""


def user_id(order: OrderCreated) -> str:
    """Return who ordered."""
    return order.data.user_id


def cents(event: OrderCreated | PaymentCompleted) -> int:
    """Return the whole cents of an order or payment."""
    return round((event.data.amount or 0) * 100)
