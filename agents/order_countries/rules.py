"""In which country a user was when they ordered (docs/contract.md)."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from streams.events import OrderCreated, UserDeleted, UserRegistered, UserUpdated
from streams.operators.joins import Joined
from streams.operators.timed import Fired, TimedRows
from streams.operators.versioned import VersionsAndWaiting
from streams.sales import KeptOrder, OrderValue
from tables.sales import COUNTRY_OF_ORDER

Row: TypeAlias = VersionsAndWaiting[KeptOrder, str]


def tells_country(event: Any) -> bool:
    """Tell whether a user's event says in which country they are, or that there is no such user."""
    match event:
        case UserRegistered():
            return event.data.country is not None
        case UserUpdated():
            return event.data.changes.country is not None
    return isinstance(event, UserDeleted)


def take_countries(events: Iterable[Any], rows: TimedRows[Row]) -> None:
    """Take note of users' countries, from the events' times on."""
    COUNTRY_OF_ORDER.add_right(events, rows)


def take_orders(orders: Iterable[OrderCreated], rows: TimedRows[Row]) -> Iterator[OrderValue]:
    """Have orders wait for what is told of their users, and yield those for which it is too late."""
    return map(_valued, COUNTRY_OF_ORDER.add_left(orders, rows))


def settle(user_id: str, row: Row, now_ms: int) -> Fired[Row, OrderValue]:
    """Return what is left of a user's row, and the orders that have waited long enough."""
    left, joined = COUNTRY_OF_ORDER.fire(user_id, row, now_ms)
    return left, list(map(_valued, joined))


def _valued(joined: Joined[KeptOrder, str]) -> OrderValue:
    order = joined.left
    assert order is not None  # noqa: S101 - the left side is the stream's
    return OrderValue(f"{order.event_id}:value", order.timestamp, joined.right or "", order.cents)
