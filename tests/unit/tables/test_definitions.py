"""Rows go to JSON and come back without loss."""

import json
import sys
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.engine.definitions import Table
from tables.definitions import USER_ORDER_MINUTES, USER_ORDERS, UserMinute, UserOrders

times_ms = st.integers(0, 253_402_300_799_999)
rows = st.builds(
    UserOrders,
    orders=st.integers(1, 2**63 - 1),
    amount_cents=st.integers(0, 10**16) | st.integers(0, 10**27),
    first_order_at=times_ms,
    last_order_at=times_ms,
    vip=st.booleans(),
)
minutes = st.builds(
    UserMinute, rows.map(lambda row: row.orders), rows.map(lambda row: row.amount_cents)
)


@given(row=rows)
@example(row=UserOrders(1, 10**15, 0, 0, vip=False))
@example(row=UserOrders(1, 10**15 + 1, 0, 0, vip=False))
@example(row=UserOrders(1, 2**53 + 1, 0, 0, vip=False))
def test_a_row_comes_back_as_it_was(row: UserOrders) -> None:
    value = USER_ORDERS.encode(row)
    assert USER_ORDERS.decode(value) == row
    assert json.loads(value, parse_float=Decimal) == {
        "orders": row.orders,
        "amount": Decimal(row.amount_cents).scaleb(-2),
        "first_order_at": row.first_order_at,
        "last_order_at": row.last_order_at,
        "vip": row.vip,
    }


@given(row=minutes)
def test_a_minute_comes_back_as_it_was(row: UserMinute) -> None:
    value = USER_ORDER_MINUTES.encode(row)
    assert USER_ORDER_MINUTES.decode(value) == row
    assert json.loads(value, parse_float=Decimal) == {
        "orders": row.orders,
        "amount": Decimal(row.amount_cents).scaleb(-2),
    }


@pytest.mark.parametrize("table", [USER_ORDERS, USER_ORDER_MINUTES], ids=lambda table: table.name)
@given(data=st.data())
def test_rows_by_columns_are_written_as_each_of_them_alone(
    table: Table[Any], data: st.DataObject
) -> None:
    assert table.columns is not None
    drawn = data.draw(st.lists(rows if table is USER_ORDERS else minutes, max_size=9))
    columns = [
        [getattr(row, field) for row in drawn] for field in table.columns.row.__struct_fields__
    ]
    assert table.columns.encode(*columns) == [table.encode(row) for row in drawn]
    assert [table.decode(value) for value in table.columns.encode(*columns)] == drawn


@pytest.mark.parametrize("table", [USER_ORDERS, USER_ORDER_MINUTES])
def test_nothing_is_kept_of_rows_that_were_written(table: Table[Any]) -> None:
    assert table.columns is not None
    columns = [[1, 2, 3] for _ in msgspec.structs.fields(table.columns.row)]
    before = list(map(sys.getrefcount, columns))
    table.columns.encode(*columns)
    assert list(map(sys.getrefcount, columns)) == before


def test_a_row_is_written_as_the_contract_says() -> None:
    value = USER_ORDERS.encode(UserOrders(3, 129_950, 1, 2, vip=True))
    assert value == (
        b'{"orders":3,"amount":1299.5,"first_order_at":1,"last_order_at":2,"vip":true}'
    )
    assert USER_ORDER_MINUTES.encode(UserMinute(2, 10**15 + 1)) == (
        b'{"orders":2,"amount":10000000000000.01}'
    )


@pytest.mark.parametrize("amount", ["1299.5", "1299.50", "1.2995e3"])
def test_any_way_to_write_the_amount_is_read(amount: str) -> None:
    value = f'{{"orders":3,"amount":{amount},"first_order_at":1,"last_order_at":2,"vip":true}}'
    assert USER_ORDERS.decode(value.encode()).amount_cents == 129_950


def test_what_is_no_row_raises() -> None:
    with pytest.raises(msgspec.ValidationError):
        USER_ORDERS.decode(b'{"orders":3}')
