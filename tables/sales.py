"""Tables of the group `sales`, each with the operator whose rows it keeps (docs/contract.md)."""

from operator import attrgetter
from typing import Any, Final, TypeAlias

from streams.engine.definitions import TimedTable
from streams.events import OrderCreated, UserRegistered, UserUpdated
from streams.operators.aggregates import count, ranked, several, total
from streams.operators.sketches import distinct, quantiles
from streams.operators.versioned import VersionedJoin, versioned_join_codec
from streams.operators.windowing import HoppingWindows, WindowAggregation, open_codec
from streams.operators.windows import TumblingWindows
from streams.sales import KeptOrder, OrderLine, OrderValue, ProductRevenue

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
SALES_SIZE_MS: Final = 5 * _MINUTE_MS
SALES_ADVANCE_MS: Final = _MINUTE_MS
# Lines come from all partitions of orders, which are not at the same event time: five minutes of grace.
SALES: Final = WindowAggregation[OrderLine, Any, Any](
    HoppingWindows(SALES_SIZE_MS, SALES_ADVANCE_MS, grace_ms=5 * _MINUTE_MS),
    _of_lines,
    key=attrgetter("product_id"),
)
PRODUCT_SALES: Final = TimedTable("product_sales", *open_codec(_of_lines))

# --- top_products ---------------------------------------------------------------------------------

TOP: Final = 100
_Ranked: TypeAlias = tuple[int, str, int]
"""What orders products: the cents that they earned, negative, then their ids; and units."""


def _ranked(sold: ProductRevenue) -> _Ranked:
    return -sold.cents, sold.product_id, sold.units


_of_products: Final = ranked(_ranked, TOP, _Ranked)
# Of hopping windows one ends with each minute, and what is told of it has the time of its last millisecond.
# The tasks of `product_sales` tell of it when their own stream time is there. Where that leaps, as after a
# night without orders, one tells ten minutes of windows at once, and another the same a moment later: so
# these may be ten minutes out of order, and as much as tasks are apart.
RANKED: Final = WindowAggregation[ProductRevenue, Any, Any](
    TumblingWindows(SALES_ADVANCE_MS, grace_ms=15 * _MINUTE_MS), _of_products, key=lambda _: "all"
)
TOP_PRODUCTS: Final = TimedTable("top_products", *open_codec(_of_products))

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
