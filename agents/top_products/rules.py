"""The products of a window that earned most, told once nothing more is waited for (docs/contract.md)."""

from collections.abc import Iterable
from typing import Any, TypeAlias

from streams.events import amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from streams.sales import ProductRevenue, RankedProduct, TopProducts, TopProductsData
from tables.sales import RANKED, SALES_ADVANCE_MS, SALES_SIZE_MS

Row: TypeAlias = Open[Any]


def rank(revenues: Iterable[ProductRevenue], rows: TimedRows[Row]) -> None:
    """Rank what products earned in a window."""
    RANKED.add(revenues, rows)


def close(key: str, row: Row, now_ms: int) -> Fired[Row, TopProducts]:
    """Return the windows that are open still, and an event for each that has closed."""
    left, closed = RANKED.fire(key, row, now_ms)
    return left, list(map(_of_window, closed))


def _of_window(minute: Windowed[Any]) -> TopProducts:
    """Return the event of the window that ends with a minute."""
    end_ms = minute.start_ms + SALES_ADVANCE_MS
    products = [
        RankedProduct(number, product_id, name or None, units, amount_of(-less_cents))
        for number, (less_cents, product_id, units, name) in enumerate(minute.value, 1)
    ]
    return TopProducts.of(TopProductsData(end_ms - SALES_SIZE_MS, end_ms, products))
