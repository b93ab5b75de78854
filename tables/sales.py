"""Tables of the group `sales`, each with the operator whose rows it keeps (docs/contract.md)."""

from operator import attrgetter
from typing import Any, Final

from streams.engine.definitions import TimedTable
from streams.events import OrderCreated, UserRegistered, UserUpdated
from streams.operators.aggregates import count, several, total
from streams.operators.sketches import distinct, quantiles
from streams.operators.versioned import VersionedJoin, versioned_join_codec
from streams.operators.windowing import HoppingWindows, WindowAggregation, open_codec
from streams.operators.windows import TumblingWindows
from streams.sales import KeptOrder, OrderLine, OrderValue

_MINUTE_MS: Final = 60_000
_cents: Final = attrgetter("cents")

# --- product_sales --------------------------------------------------------------------------------

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

# --- order_countries ------------------------------------------------------------------------------

_HOUR_MS: Final = 60 * _MINUTE_MS


def _country(event: Any) -> str | None:
    match event:
        case UserRegistered():
            return event.data.country
        case UserUpdated():
            return event.data.changes.country
    return None


def _kept_order(order: OrderCreated) -> KeptOrder:
    return KeptOrder(order.event_id, order.timestamp, round(order.data.amount * 100))


COUNTRY_OF_ORDER: Final = VersionedJoin[KeptOrder, str](
    kind="left",
    history_ms=24 * _HOUR_MS,
    grace_ms=_MINUTE_MS,
    left_key=attrgetter("data.user_id"),
    right_key=attrgetter("data.user_id"),
    right_value=_country,
    keep_left=_kept_order,
)
ORDER_COUNTRIES: Final = TimedTable(
    "order_countries",
    *versioned_join_codec(KeptOrder, str),
    in_order_ms=COUNTRY_OF_ORDER.in_order_ms,
)

# --- order_value_quantiles ------------------------------------------------------------------------

_of_values: Final = several(
    orders=count(), cents=total(_cents), worth=quantiles(_cents, at=(0.5, 0.9, 0.99))
)
VALUES: Final = WindowAggregation[OrderValue, Any, Any](
    TumblingWindows(size_ms=24 * _HOUR_MS, grace_ms=_HOUR_MS),
    _of_values,
    key=attrgetter("country"),
)
ORDER_VALUE_QUANTILES: Final = TimedTable("order_value_quantiles", *open_codec(_of_values))
