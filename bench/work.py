"""The work that every system is given; docs/performance.md tells it to people.

1. Each order above 1,000 goes on to `high-value-orders`.
2. Orders and their amounts are counted by user, in a table; the tenth is told on `vip-upgrades`.
3. Orders and their amounts are counted by user and minute of event time, in a table.

The programs in bench/programs run without this package and repeat its names and numbers.
"""

from typing import Final, Literal, NamedTuple, TypeAlias

ORDERS: Final = "orders"
HIGH_VALUE: Final = "high-value-orders"
VIPS: Final = "vip-upgrades"
OUTPUTS: Final = (HIGH_VALUE, VIPS)

HIGH_VALUE_CENTS: Final = 100_000
VIP_ORDERS: Final = 10
MINUTE_MS: Final = 60_000

TableName: TypeAlias = Literal["user_orders", "user_order_minutes"]
TABLES: Final[tuple[TableName, ...]] = ("user_orders", "user_order_minutes")


class Row(NamedTuple):
    """A row of either table."""

    orders: int
    amount_cents: int


def minute_key(user: str, start_ms: int) -> str:
    """Return the key of a user's minute, as this project's own changelog has it."""
    return f"{user}@{start_ms}"
