"""Flows of one operator each: joins with tables of users, and orders that meet by another key."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from operator import attrgetter
from typing import Any, Final

import msgspec

from bench.operators.kinds import USERS, Kind
from bench.programs.told import CHANGES, TOLD, WINDOW_CHANGES, Result, cents, user_id
from streams.declared import stream
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, RepartitionTopic, Table, TimedTable, Topic
from streams.events import OrderCreated, UserDeleted, UserRegistered
from streams.operators.aggregates import count, total
from streams.operators.foreign_key import ForeignKeyJoin, foreign_key_codec
from streams.operators.joins import Joined
from streams.operators.stream_table import StreamTableJoin
from streams.operators.table_table import Change, TableTableJoin, cells_codec
from streams.operators.timed import Fired
from streams.operators.versioned import VersionedJoin, VersionsAndWaiting, versioned_join_codec
from streams.operators.windowing import Windowed
from streams.operators.windows import TumblingWindows
from streams.topics import ORDERS

_user: Final = attrgetter("data.user_id")
_USERS: Final = Topic(USERS, events=(UserRegistered, UserDeleted), key=_user)
_Rule = Callable[..., Iterable[Result] | None]


def _number(event: UserRegistered | UserDeleted) -> int | None:
    """Return what the table has of a user from this event on: which one it was."""
    return None if isinstance(event, UserDeleted) else event.sequence


def flows(kind: Kind) -> tuple[Flow, ...]:
    """Return the flows of a kind."""
    match kind.operator:
        case "stream-table":
            return _stream_table()
        case "repartition":
            return _repartition(kind)
        case "table-table":
            return (_table_table(),)
        case "foreign-key":
            return _foreign_key()
    return (_versioned(kind),)


def _agents(
    name: str, rules: dict[Topic, _Rule], *tables: Table[Any]
) -> Callable[[App[Any]], None]:
    """Return what hangs on the application an agent for each topic, which gives its rule all events."""

    def register(app: App[Any]) -> None:
        for topic, rule in rules.items():
            app.agent(topic)(_agent(name, rule, tables))

    return register


def _agent(name: str, rule: _Rule, tables: tuple[Table[Any], ...]) -> Callable[..., Any]:
    async def agent(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rule, batch.all(), *tables)

    agent.__name__ = name
    return agent


# --- a stream and a table -------------------------------------------------------------------------


def _stream_table() -> tuple[Flow, ...]:
    users: Table[int] = Table("users", msgspec.json.encode, msgspec.json.Decoder(int).decode)
    join = StreamTableJoin[OrderCreated, int](kind="left", key=user_id)

    def keep(events: Iterable[Any], rows: Any) -> None:
        for event in events:
            number = _number(event)
            if number is None:
                rows.pop(event.data.user_id, None)
            else:
                rows[event.data.user_id] = number

    def tell(orders: Iterable[OrderCreated], rows: Any) -> Iterator[Result]:
        for order, number in join.join(orders, rows):
            yield Result(order.data.order_id, 0, 0, cents(order), number)

    return (
        Flow(_agents("users", {_USERS: keep}, users), "users", reads=(_USERS,), keeps=users),
        Flow(
            _agents("joined", {ORDERS: tell}, users),
            "joined",
            reads=(ORDERS,),
            joins=(users,),
            emits=TOLD,
        ),
    )


class _Kept(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What is kept of an order."""

    order_id: str
    cents: int


def _versioned(kind: Kind) -> Flow:
    join = VersionedJoin[_Kept, int](
        kind="left",
        history_ms=kind.size_ms,
        grace_ms=kind.grace_ms,
        left_key=user_id,
        right_key=_user,
        right_value=_number,
        keep_left=lambda order: _Kept(order.data.order_id, cents(order)),
    )
    codec = versioned_join_codec(_Kept, int)
    table = TimedTable("joined", *codec, in_order_ms=join.in_order_ms)

    def take_orders(orders: Iterable[OrderCreated], rows: Any) -> Iterable[Result]:
        return map(told, join.add_left(orders, rows))

    def close(
        key: str, row: VersionsAndWaiting[_Kept, int], now_ms: int
    ) -> Fired[VersionsAndWaiting[_Kept, int], Result]:
        left, joined = join.fire(key, row, now_ms)
        return left, list(map(told, joined))

    def told(joined: Joined[_Kept, int]) -> Result:
        order, number = joined.left, joined.right
        assert order is not None  # noqa: S101 - it is a left join
        return Result(order.order_id, 0, 0, order.cents, number)

    return Flow(
        _agents("joined", {_USERS: join.add_right, ORDERS: take_orders}, table),
        "joined",
        reads=(_USERS, ORDERS),
        keeps=table,
        fires=close,
        emits=TOLD,
    )


# --- two tables -----------------------------------------------------------------------------------


def _table_table() -> Flow:
    """Each user's last order, and the user."""
    join = TableTableJoin[int, int](
        kind="inner", left_key=user_id, left_value=cents, right_key=_user, right_value=_number
    )
    return _of_tables(join, ORDERS, Table("joined", *cells_codec(int, int)), lambda value: value)


class _Order(msgspec.Struct, frozen=True, gc=False, tag="order.known", tag_field="event_type"):
    """An order on its way to its user, or its product."""

    event_id: str
    timestamp: int
    key: str
    cents: int


class _OfUser(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What the left table has of an order."""

    user_id: str
    cents: int


def _foreign_key() -> tuple[Flow, ...]:
    """Orders by their ids, and the users whom they name."""
    by_user = RepartitionTopic("orders-by-user", events=(_Order,), key=attrgetter("key"))
    orders = Topic("orders", events=(OrderCreated,), key=attrgetter("data.order_id"))
    join = ForeignKeyJoin[_OfUser, int](
        kind="inner",
        left_key=attrgetter("event_id"),
        left_value=lambda order: _OfUser(order.key, order.cents),
        foreign_key=attrgetter("user_id"),
        right_key=_user,
        right_value=_number,
    )

    def by_user_of(order: OrderCreated) -> _Order:
        return _Order(order.data.order_id, order.timestamp, order.data.user_id, cents(order))

    before = stream(orders, OrderCreated).map(by_user_of).to("by_user", by_user)
    table = Table("joined", *foreign_key_codec(_OfUser, int))
    return *before, _of_tables(join, by_user, table, lambda order: order.cents)


def _of_tables(
    join: TableTableJoin[Any, int] | ForeignKeyJoin[Any, int],
    left: Topic,
    table: Table[Any],
    cents_of: Callable[[Any], int],
) -> Flow:
    """Return the flow that joins a table from a topic with that of users."""

    def told(change: Change[Any, int]) -> Result:
        order = None if change.left is None else cents_of(change.left)
        return Result(change.key, 0, 0, order, change.right)

    def take_left(events: Iterable[Any], rows: Any) -> Iterable[Result]:
        return map(told, join.add_left(events, rows))

    def take_right(events: Iterable[Any], rows: Any) -> Iterable[Result]:
        return map(told, join.add_right(events, rows))

    register = _agents("joined", {left: take_left, _USERS: take_right}, table)
    return Flow(register, "joined", reads=(left, _USERS), keeps=table, emits=CHANGES)


# --- orders by another key ------------------------------------------------------------------------


class _Item(msgspec.Struct, frozen=True, gc=False):
    product_id: str


_items: Final = msgspec.json.Decoder(tuple[_Item, ...]).decode


def _repartition(kind: Kind) -> tuple[Flow, ...]:
    """Orders and their cents by the first product in them."""
    by_product = RepartitionTopic("orders-by-product", events=(_Order,), key=attrgetter("key"))

    def by_product_of(order: OrderCreated) -> _Order:
        product_id = _items(order.data.items)[0].product_id
        return _Order(order.event_id, order.timestamp, product_id, cents(order))

    def told(window: Windowed[Any]) -> Result:
        did = window.value
        return Result(window.key, window.start_ms, window.end_ms, did["orders"], did["cents"])

    return (
        stream(ORDERS, OrderCreated)
        .map(by_product_of)
        .key_by(by_product, _Order)
        .window(TumblingWindows(kind.size_ms, kind.grace_ms), key=attrgetter("key"))
        .aggregate(orders=count(), cents=total(attrgetter("cents")))
        .to("windows", WINDOW_CHANGES, told, emits="updates")
    )
