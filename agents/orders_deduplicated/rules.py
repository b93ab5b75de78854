"""Which events of orders are passed on: the first of each id within an hour (docs/contract.md)."""

from collections.abc import Iterable
from typing import Any

from streams.operators.deduplication import Passed
from streams.operators.timed import Fired, TimedRows
from tables.timed import FIRST_OF_ORDERS


def pass_on(events: Iterable[Any], rows: TimedRows[Passed]) -> list[Any]:
    """Return the events that repeat none, as they were given."""
    return FIRST_OF_ORDERS.first(events, rows)


def forget(id_: str, row: Passed, now_ms: int) -> Fired[Passed, Any]:
    """Return what may still be repeated of an id's row. Nothing is told of it."""
    return FIRST_OF_ORDERS.fire(id_, row, now_ms)
