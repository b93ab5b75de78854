"""Events of the group `sales`: what an order has of each product, and what was sold of a product."""

from decimal import Decimal
from typing import Self

import msgspec

from streams.event_time import EventTime
from streams.events import Amount, Count, OfWindow


class Item(msgspec.Struct, frozen=True, gc=False):
    """A line of an order; `unit_price` in the currency's main unit."""

    product_id: str
    quantity: Count
    unit_price: Amount


class OrderLine(msgspec.Struct, frozen=True, gc=False, tag="order.line", tag_field="event_type"):
    """A line of an order on its way to its product; `cents` are those of all its pieces."""

    event_id: str
    timestamp: EventTime
    product_id: str
    user_id: str
    quantity: int
    cents: int


class ProductSalesData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What was sold of a product in [window_start, window_end).

    `buyers` and `line_amount_p95` are estimates: see streams/operators/sketches.py.
    """

    product_id: str
    window_start: int
    window_end: int
    lines: int
    units: int
    revenue: float | Decimal
    buyers: int
    line_amount_p95: float | Decimal


class ProductSold(OfWindow, frozen=True, gc=False, kw_only=True, tag="product.sales"):
    """What was sold of a product in a window that has closed."""

    data: ProductSalesData

    @classmethod
    def of(cls, data: ProductSalesData) -> Self:
        """Return the event of a window; the same for the same window, id included."""
        event_id = f"product_sales:{data.product_id}:{data.window_start}-{data.window_end}"
        return cls(
            event_id=event_id,
            aggregate_id=data.product_id,
            timestamp=data.window_end - 1,
            correlation_id=event_id,
            data=data,
        )
