"""What an order has of each product (docs/contract.md)."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from streams.events import OrderCreated
from streams.sales import Item, OrderLine

_decode_items: Final = msgspec.json.Decoder(list[Item] | None).decode


def by_product(orders: Iterable[OrderCreated]) -> Iterator[OrderLine]:
    """Yield the lines of orders. Raises msgspec.ValidationError for an order with items that are none."""
    for order in orders:
        data = order.data
        items = _decode_items(data.items)
        for number, item in enumerate(items or (), 1):
            yield OrderLine(
                f"{order.event_id}:line:{number}",
                order.timestamp,
                item.product_id,
                data.user_id,
                item.quantity,
                item.quantity * round(item.unit_price * 100),
            )
