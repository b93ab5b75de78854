"""Events of `products`, and what is told of them (docs/contract.md)."""

from typing import Self

import msgspec

from streams.events import Amount, Count, Derived, Envelope, amount_fault


class ProductData(msgspec.Struct, frozen=True, gc=False):
    """The product that something happened to."""

    product_id: str


class ProductCreatedData(ProductData, frozen=True, gc=False):
    """A new product; `price` in the main unit."""

    name: str | None = None
    price: Amount | None = None
    stock: Count | None = None


class ProductUpdatedData(ProductData, frozen=True, gc=False):
    """A product's new name."""

    name: str | None = None


class StockData(ProductData, frozen=True, gc=False):
    """How many there are of a product now."""

    stock: Count


class PriceData(ProductData, frozen=True, gc=False):
    """A product's new price, in the main unit."""

    price: Amount


class ProductCreated(Envelope, frozen=True, gc=False, kw_only=True, tag="product.created"):
    """There is a new product."""

    data: ProductCreatedData

    def check(self) -> str | None:
        """Return what is wrong with the price, None if it has at most two decimals."""
        return amount_fault(self.data.price, "price")


class ProductUpdated(Envelope, frozen=True, gc=False, kw_only=True, tag="product.updated"):
    """A product has another name."""

    data: ProductUpdatedData


class ProductStockUpdated(
    Envelope, frozen=True, gc=False, kw_only=True, tag="product.stock.updated"
):
    """There are more, or fewer, of a product."""

    data: StockData


class ProductPriceUpdated(
    Envelope, frozen=True, gc=False, kw_only=True, tag="product.price.updated"
):
    """A product has another price."""

    data: PriceData

    def check(self) -> str | None:
        """Return what is wrong with the price, None if it has at most two decimals."""
        return amount_fault(self.data.price, "price")


class ProductViewed(Envelope, frozen=True, gc=False, kw_only=True, tag="product.viewed"):
    """Somebody looked at a product."""

    data: ProductData


class StockAlertData(msgspec.Struct, frozen=True, gc=False):
    """Of which product there are few, and how many."""

    product_id: str
    name: str | None
    stock: int


class ProductStockLow(Derived, frozen=True, gc=False, kw_only=True, tag="product.stock_low"):
    """There are fewer of a product than there should be."""

    data: StockAlertData

    @classmethod
    def caused_by(cls, event: Envelope, data: StockAlertData) -> Self:
        """Return the alert that an event gives; the same for the same event, id included."""
        return cls(
            event_id=f"{event.event_id}:product.stock_low",
            aggregate_id=data.product_id,
            timestamp=event.timestamp,
            correlation_id=event.correlation,
            causation_id=event.event_id,
            data=data,
        )
