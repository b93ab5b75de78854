"""Tables of products (docs/contract.md)."""

from typing import Final

import msgspec

from streams.engine.definitions import Columnar, Table, WindowedTable
from streams.operators.windows import TumblingWindows
from tables.definitions import lines, one_by_one


class Product(msgspec.Struct, frozen=True, gc=False):
    """What is known of a product; `price` in the main unit, None what nobody has told."""

    name: str | None = None
    price: float | None = None
    stock: int | None = None
    is_low: bool = False


PRODUCTS: Final[Table[Product]] = Table(
    "products", msgspec.json.Encoder().encode, msgspec.json.Decoder(Product).decode
)


class ProductHour(msgspec.Struct, frozen=True, gc=False):
    """How often a product was looked at within an hour of event time."""

    views: int = 0


def _encode_hours(views: list[int]) -> list[bytes]:
    return lines(map(ProductHour, views))


PRODUCT_VIEWS: Final[WindowedTable[ProductHour]] = WindowedTable(
    "product_views",
    one_by_one(_encode_hours),
    msgspec.json.Decoder(ProductHour).decode,
    TumblingWindows(size_ms=3_600_000, grace_ms=86_400_000),
    columns=Columnar(ProductHour, _encode_hours),
)
