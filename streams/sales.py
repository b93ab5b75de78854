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
    product_name: str | None
    """As the worker knew it when the window was told."""
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


class ProductRevenue(
    msgspec.Struct, frozen=True, gc=False, tag="product.revenue", tag_field="event_type"
):
    """What a product earned in a window, on its way to where those of all products meet."""

    event_id: str
    timestamp: EventTime
    product_id: str
    units: int
    cents: int


class RankedProduct(msgspec.Struct, frozen=True, gc=False):
    """A product of a window by what it earned: rank 1 is the most."""

    rank: int
    product_id: str
    product_name: str | None
    units: int
    revenue: float | Decimal


class TopProductsData(msgspec.Struct, frozen=True, gc=False):
    """The products that earned most in [window_start, window_end), a hundred at the most."""

    window_start: int
    window_end: int
    products: list[RankedProduct]


class TopProducts(OfWindow, frozen=True, gc=False, kw_only=True, tag="products.top"):
    """Which products earned most in a window that has closed."""

    data: TopProductsData

    @classmethod
    def of(cls, data: TopProductsData) -> Self:
        """Return the event of a window; the same for the same window, id included."""
        window = f"{data.window_start}-{data.window_end}"
        event_id = f"top_products:{window}"
        return cls(
            event_id=event_id,
            aggregate_id=window,
            timestamp=data.window_end - 1,
            correlation_id=event_id,
            data=data,
        )


class KeptOrder(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an order until its user's country as of its time is known."""

    event_id: str
    timestamp: int
    cents: int


class OrderValue(msgspec.Struct, frozen=True, gc=False, tag="order.value", tag_field="event_type"):
    """An order on its way to its country, "" where nobody knows that."""

    event_id: str
    timestamp: EventTime
    country: str
    cents: int


class OrderValueQuantilesData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What orders of a country were worth on a day [window_start, window_end) of UTC.

    `country` is that of the users as of their orders. The quantiles are estimates: see
    streams/operators/sketches.py.
    """

    country: str | None
    window_start: int
    window_end: int
    orders: int
    amount: float | Decimal
    p50: float | Decimal
    p90: float | Decimal
    p99: float | Decimal


class OrderValueQuantiles(
    OfWindow, frozen=True, gc=False, kw_only=True, tag="country.order_value_quantiles"
):
    """What orders of a country were worth on a day that has ended."""

    data: OrderValueQuantilesData

    @classmethod
    def of(cls, data: OrderValueQuantilesData) -> Self:
        """Return the event of a day; the same for the same day and country, id included."""
        country = data.country or ""
        event_id = f"order_value_quantiles:{country}:{data.window_start}-{data.window_end}"
        return cls(
            event_id=event_id,
            aggregate_id=country,
            timestamp=data.window_end - 1,
            correlation_id=event_id,
            data=data,
        )
