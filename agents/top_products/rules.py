"""The products of a window that earned most, told once nothing more is waited for (docs/contract.md)."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from streams.events import amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from streams.sales import ProductRevenue, RankedProduct, TopProducts, TopProductsData
from tables.products import Product
from tables.sales import RANKED, SALES_ADVANCE_MS, SALES_SIZE_MS

Row: TypeAlias = Open[Any]
_UNKNOWN: Final = Product()


def rank(revenues: Iterable[ProductRevenue], rows: TimedRows[Row]) -> None:
    """Rank what products earned in a window."""
    RANKED.add(revenues, rows)


def close(
    key: str, row: Row, now_ms: int, products: Mapping[str, Product]
) -> Fired[Row, TopProducts]:
    """Return the windows that are open still, and an event for each that has closed."""
    left, closed = RANKED.fire(key, row, now_ms)
    return left, [_of_window(minute, products) for minute in closed]


def _of_window(minute: Windowed[Any], products: Mapping[str, Product]) -> TopProducts:
    """Return the event of the window that ends with a minute."""
    end_ms = minute.start_ms + SALES_ADVANCE_MS
    ranked = [
        RankedProduct(
            number,
            product_id,
            products.get(product_id, _UNKNOWN).name,
            units,
            amount_of(-less_cents),
        )
        for number, (less_cents, product_id, units) in enumerate(minute.value, 1)
    ]
    return TopProducts.of(TopProductsData(end_ms - SALES_SIZE_MS, end_ms, ranked))
