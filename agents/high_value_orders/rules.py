"""Which orders are of high value."""

from collections.abc import Iterable, Iterator

from streams.events import OrderCreated, OrderHighValue


def high_value(orders: Iterable[OrderCreated], *, above_cents: int) -> Iterator[OrderHighValue]:
    """Yield an event for each order of strictly more than `above_cents`, in their order."""
    # Both are the doubles nearest to whole cents, so they compare as the cents do: exactly.
    above = above_cents / 100
    for order in orders:
        if order.data.amount > above:
            yield OrderHighValue.caused_by(order)
