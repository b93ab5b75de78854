"""Tables of the group `sales`, each with the operator whose rows it keeps (docs/contract.md)."""

from operator import attrgetter
from typing import Any, Final

from streams.engine.definitions import TimedTable
from streams.operators.aggregates import count, several, total
from streams.operators.sketches import distinct, quantiles
from streams.operators.windowing import HoppingWindows, WindowAggregation, open_codec
from streams.sales import OrderLine

_MINUTE_MS: Final = 60_000
_cents: Final = attrgetter("cents")

# A row is a product's open windows: sketches of 2 % and 1 % are a few kB each at the most.
_of_lines: Final = several(
    lines=count(),
    units=total(attrgetter("quantity")),
    cents=total(_cents),
    buyers=distinct(attrgetter("user_id")),
    line_cents=quantiles(_cents, at=(0.95,)),
)
# Lines come from all partitions of orders, which are not at the same event time: five minutes of grace.
SALES: Final = WindowAggregation[OrderLine, Any, Any](
    HoppingWindows(size_ms=5 * _MINUTE_MS, advance_ms=_MINUTE_MS, grace_ms=5 * _MINUTE_MS),
    _of_lines,
    key=attrgetter("product_id"),
)
PRODUCT_SALES: Final = TimedTable("product_sales", *open_codec(_of_lines))
