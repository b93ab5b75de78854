"""What was sold of a product in hopping windows, told once each window has closed (docs/contract.md)."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from streams.events import amount_of
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Open, Windowed
from streams.sales import OrderLine, ProductRevenue, ProductSalesData, ProductSold
from tables.products import Product
from tables.sales import SALES

Row: TypeAlias = Open[Any]


def take_lines(lines: Iterable[OrderLine], rows: TimedRows[Row]) -> None:
    """Add order lines to their products' windows."""
    SALES.add(lines, rows)


def close(
    product_id: str, row: Row, now_ms: int, products: Mapping[str, Product]
) -> Fired[Row, ProductSold | ProductRevenue]:
    """Return the windows of a product that are open still, and the events of each that has closed."""
    left, closed = SALES.fire(product_id, row, now_ms)
    product = products.get(product_id) if closed else None
    told: list[ProductSold | ProductRevenue] = []
    for window in closed:
        event = sold(window, product)
        told += (event, _earned(event, window.value["cents"]))
    return left, told


def sold(window: Windowed[Any], product: Product | None) -> ProductSold:
    """Return the event of the window of a product, which is None where nobody told of it."""
    product_id, start_ms, end_ms, did = window
    [p95_cents] = did["line_cents"].values
    return ProductSold.of(
        ProductSalesData(
            product_id=product_id,
            product_name=None if product is None else product.name,
            window_start=start_ms,
            window_end=end_ms,
            lines=did["lines"],
            units=did["units"],
            revenue=amount_of(did["cents"]),
            buyers=did["buyers"],
            line_amount_p95=amount_of(p95_cents),
        )
    )


def _earned(event: ProductSold, cents: int) -> ProductRevenue:
    """Return what is ranked of a product's window."""
    data = event.data
    return ProductRevenue(event.event_id, event.timestamp, data.product_id, data.units, cents)
