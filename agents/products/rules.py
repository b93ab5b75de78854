"""What is known of a product after each event, and when there are few of it."""

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TypeAlias

from msgspec.structs import replace

from streams.products import (
    ProductCreated,
    ProductPriceUpdated,
    ProductStockLow,
    ProductStockUpdated,
    ProductUpdated,
    ProductViewed,
    StockAlertData,
)
from tables.products import Product

ProductEvent: TypeAlias = (
    ProductCreated | ProductUpdated | ProductStockUpdated | ProductPriceUpdated | ProductViewed
)
_UNKNOWN = Product()


def keep_products(
    events: Iterable[ProductEvent], products: MutableMapping[str, Product], *, below: int
) -> Iterator[ProductStockLow]:
    """Apply each event to its product's row, in their order; yield an alert where few are left.

    Once, until there are `below` or more again, whatever `below` becomes meanwhile.
    """
    for event in events:
        product_id = event.data.product_id
        before = products.get(product_id, _UNKNOWN)
        row = _after(event, before)
        if row.stock is not None and row.stock != before.stock:
            row = replace(row, is_low=row.stock < below)
        if row is not before:
            products[product_id] = row
        if row.is_low and not before.is_low:
            assert row.stock is not None  # noqa: S101 - or it were not low
            data = StockAlertData(product_id, row.name, row.stock)
            yield ProductStockLow.caused_by(event, data)


def _after(event: ProductEvent, row: Product) -> Product:
    """Return the row with what an event tells; what it does not tell stays."""
    match event:
        case ProductCreated():
            data = event.data
            return replace(
                row,
                name=row.name if data.name is None else data.name,
                price=row.price if data.price is None else data.price,
                stock=row.stock if data.stock is None else data.stock,
            )
        case ProductUpdated():
            return row if event.data.name is None else replace(row, name=event.data.name)
        case ProductStockUpdated():
            return replace(row, stock=event.data.stock)
        case ProductPriceUpdated():
            return replace(row, price=event.data.price)
    return row
