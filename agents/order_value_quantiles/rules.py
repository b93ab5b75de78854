"""What a country's orders were worth on a day, told once it has ended (docs/contract.md)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from streams.events import amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from streams.sales import OrderValue, OrderValueQuantiles, OrderValueQuantilesData
from tables.sales import VALUES

Row: TypeAlias = Open[Any]


def take_values(values: Iterable[OrderValue], rows: TimedRows[Row]) -> None:
    """Add orders' values to their countries' days."""
    VALUES.add(values, rows)


def close(country: str, row: Row, now_ms: int) -> Fired[Row, OrderValueQuantiles]:
    """Return the days of a country that are open still, and an event for each that has ended."""
    left, closed = VALUES.fire(country, row, now_ms)
    return left, list(map(_of_day, closed))


def _of_day(window: Windowed[Any]) -> OrderValueQuantiles:
    country, start_ms, end_ms, did = window
    p50, p90, p99 = map(amount_of, did["worth"].values)
    return OrderValueQuantiles.of(
        OrderValueQuantilesData(
            country=country or None,
            window_start=start_ms,
            window_end=end_ms,
            orders=did["orders"],
            amount=amount_of(did["cents"]),
            p50=p50,
            p90=p90,
            p99=p99,
        )
    )
