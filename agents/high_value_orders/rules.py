"""Which orders are of high value."""

from collections.abc import Iterable, Iterator

from streams.events import OrderCreated, OrderHighValue


def high_value(orders: Iterable[OrderCreated], *, above_cents: int) -> Iterator[OrderHighValue]:
    """Yield an event for each order of strictly more than `above_cents`, in their order."""
    for order in orders:
        if order.data.amount_cents > above_cents:
            yield OrderHighValue.caused_by(order)
