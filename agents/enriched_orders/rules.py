"""What an order is told with of its user."""

from collections.abc import Iterable, Iterator, Mapping

from streams.events import EnrichedUser, OrderCreated, OrderEnriched
from tables.definitions import User


def enrich(orders: Iterable[OrderCreated], users: Mapping[str, User]) -> Iterator[OrderEnriched]:
    """Yield each order with its user, as the table has them at the order's turn."""
    for order in orders:
        row = users.get(order.data.user_id)
        user = None if row is None else EnrichedUser(row.email, row.country, row.status)
        yield OrderEnriched.caused_by(order, user=user)
