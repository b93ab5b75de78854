"""Every table: its name, its row, and how a row is written (docs/contract.md)."""

from decimal import Decimal
from typing import Any

import msgspec

from streams.engine.definitions import Table


class UserOrders(msgspec.Struct, frozen=True, gc=False):
    """What a user has ordered: how often, for how much, and from when to when (event time, ms)."""

    orders: int
    amount_cents: int
    first_order_at: int
    last_order_at: int
    vip: bool


class _UserOrdersJson(msgspec.Struct, frozen=True, gc=False):
    """The same as JSON; `amount` in the main unit."""

    orders: int
    amount: float
    first_order_at: int
    last_order_at: int
    vip: bool


class _AmountAsWritten(msgspec.Struct, frozen=True, gc=False):
    amount: Decimal


# Up to here a double holds each number of two decimals, and times 100 it is off by less than half.
_MAX_DOUBLE_CENTS = 10**15
_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder(_UserOrdersJson).decode
_decode_amount = msgspec.json.Decoder(_AmountAsWritten).decode


def _encode_user_orders(row: UserOrders) -> bytes:
    amount: Any = row.amount_cents / 100
    if row.amount_cents > _MAX_DOUBLE_CENTS:
        amount = msgspec.Raw(b"%d.%02d" % divmod(row.amount_cents, 100))
    return _encode_json(
        _UserOrdersJson(row.orders, amount, row.first_order_at, row.last_order_at, row.vip)
    )


def _decode_user_orders(value: bytes) -> UserOrders:
    row = _decode_json(value)
    cents = round(row.amount * 100)
    if cents > _MAX_DOUBLE_CENTS:
        cents = int(_decode_amount(value).amount.scaleb(2))
    return UserOrders(row.orders, cents, row.first_order_at, row.last_order_at, row.vip)


USER_ORDERS = Table("user_orders", _encode_user_orders, _decode_user_orders)
