"""Every table: its name, its row, and how a row is written (docs/contract.md)."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from streams.engine.definitions import Columnar, Table, WindowedTable
from streams.operators.windows import TumblingWindows

_encode_json = msgspec.json.Encoder().encode
_encode_lines = msgspec.json.Encoder().encode_lines
_AFTER_ALL_MS = 2**63 - 1


def lines(rows: Iterable[Any]) -> list[bytes]:
    """Return rows as JSON, each: in one call for all of them. JSON so written has no line break in it."""
    # As a list: of any other iterable msgspec 0.22 keeps a reference for ever, and what is behind it.
    return _encode_lines(list(rows)).split(b"\n")[:-1]


def one_by_one(encode: Callable[..., list[bytes]]) -> Callable[[Any], bytes]:
    """Return what writes one row as `encode` writes many that are given by columns."""

    def encode_one(row: msgspec.Struct) -> bytes:
        [value] = encode(*([field] for field in msgspec.structs.astuple(row)))
        return value

    return encode_one


# --- money ----------------------------------------------------------------------------------------

# Up to here a double holds each number of two decimals, and times 100 it is off by less than half.
_MAX_DOUBLE_CENTS = 10**15


class _AmountAsWritten(msgspec.Struct, frozen=True, gc=False):
    amount: Decimal


_decode_amount = msgspec.json.Decoder(_AmountAsWritten).decode


def _amount(cents: int) -> Any:
    """Return cents as a number of the main unit that msgspec writes in full."""
    if cents > _MAX_DOUBLE_CENTS:
        return msgspec.Raw(b"%d.%02d" % divmod(cents, 100))
    return cents / 100


def _amounts(cents: list[int]) -> list[Any]:
    if max(cents, default=0) > _MAX_DOUBLE_CENTS:
        return list(map(_amount, cents))
    return [of_row / 100 for of_row in cents]


def _cents(amount: float, value: bytes) -> int:
    """Return the cents that a row's amount stands for; its text counts where a double is too coarse."""
    cents = round(amount * 100)
    if cents > _MAX_DOUBLE_CENTS:
        cents = int(_decode_amount(value).amount.scaleb(2))
    return cents


# --- users ----------------------------------------------------------------------------------------


class User(msgspec.Struct, frozen=True, gc=False):
    """What is known of a user; times in ms. `status` is None before the registration."""

    username: str | None = None
    email: str | None = None
    country: str | None = None
    status: str | None = None
    registered_at: int | None = None
    last_login_at: int | None = None


USERS: Final[Table[User]] = Table("users", _encode_json, msgspec.json.Decoder(User).decode)


# --- user_orders ----------------------------------------------------------------------------------


class UserOrders(msgspec.Struct, frozen=True, gc=False):
    """What a user has ordered: how often, for how much, and from when to when (event time, ms)."""

    orders: int = 0
    amount_cents: int = 0
    first_order_at: int = _AFTER_ALL_MS
    last_order_at: int = 0
    vip: bool = False


class _UserOrdersJson(msgspec.Struct, frozen=True, gc=False):
    """The same as JSON; `amount` in the main unit."""

    orders: int
    amount: float
    first_order_at: int
    last_order_at: int
    vip: bool


_decode_user_orders_json = msgspec.json.Decoder(_UserOrdersJson).decode


def _encode_user_orders(
    orders: list[int], cents: list[int], first: list[int], last: list[int], vip: list[bool]
) -> list[bytes]:
    return lines(map(_UserOrdersJson, orders, _amounts(cents), first, last, vip))


def _decode_user_orders(value: bytes) -> UserOrders:
    row = _decode_user_orders_json(value)
    cents = _cents(row.amount, value)
    return UserOrders(row.orders, cents, row.first_order_at, row.last_order_at, row.vip)


USER_ORDERS: Final[Table[UserOrders]] = Table(
    "user_orders",
    one_by_one(_encode_user_orders),
    _decode_user_orders,
    columns=Columnar(UserOrders, _encode_user_orders),
)


# --- user_order_minutes ---------------------------------------------------------------------------


class UserMinute(msgspec.Struct, frozen=True, gc=False):
    """What a user ordered within one minute of event time: how often, and for how much."""

    orders: int = 0
    amount_cents: int = 0


class _UserMinuteJson(msgspec.Struct, frozen=True, gc=False):
    orders: int
    amount: float


_decode_user_minute_json = msgspec.json.Decoder(_UserMinuteJson).decode


def _encode_user_minutes(orders: list[int], cents: list[int]) -> list[bytes]:
    return lines(map(_UserMinuteJson, orders, _amounts(cents)))


def _decode_user_minute(value: bytes) -> UserMinute:
    row = _decode_user_minute_json(value)
    return UserMinute(row.orders, _cents(row.amount, value))


USER_ORDER_MINUTES = WindowedTable(
    "user_order_minutes",
    one_by_one(_encode_user_minutes),
    _decode_user_minute,
    TumblingWindows(size_ms=60_000, grace_ms=86_400_000),
    columns=Columnar(UserMinute, _encode_user_minutes),
)
