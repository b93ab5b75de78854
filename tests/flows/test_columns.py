"""A rule that is given columns: they are made once a batch, and what goes wrong with them has an end."""

import weakref
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Columnar, Flow, Table, Topic, Topology
from streams.engine.errors import DefinitionError
from streams.events import OrderColumns, OrderCreated, OrderPaid, UserRegistered
from streams.operators.columns import KeyedColumns
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDERS, USERS
from tables.definitions import User
from tests.flows.stories import NOW_MS, order, orders, user_event


class Sum(msgspec.Struct, frozen=True):
    orders: int = 0
    cents: int = 0


def encode_columns(orders_: list[int], cents: list[int]) -> list[bytes]:
    if 1_300 in cents:
        raise ValueError("13.00 is not for us")
    return [b"%d:%d" % row for row in zip(orders_, cents, strict=True)]


def decode(value: bytes) -> Sum:
    return Sum(*map(int, value.split(b":")))


def sums(decode_: Callable[[bytes], Sum] = decode) -> Table[Sum]:
    def encode(row: Sum) -> bytes:
        return encode_columns([row.orders], [row.cents])[0]

    return Table("sums", encode, decode_, columns=Columnar(Sum, encode_columns))


SUMS = sums()


def add_up(orders_: OrderColumns, rows_of: KeyedColumns[Sum]) -> None:
    rows = rows_of.rows(orders_.user_ids)
    rows.add("orders", 1)
    rows.add("cents", orders_.amounts_cents)


Make = Callable[[Sequence[Any]], Any]


def flow(
    name: str,
    topic: Topic,
    make: Make,
    rule: Callable[..., Any],
    *tables: Table[Any],
    kind: type[Any] = OrderCreated,
    **touches: Any,
) -> Flow:
    """Return a flow whose rule is given what `make` makes."""

    def register(app: App[Any]) -> None:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.columns(kind, make), *tables)

        agent.__name__ = name
        app.agent(topic)(agent)

    return Flow(register, name, reads=(topic,), **touches)


def driven(folder: Path, *flows: Flow, **options: Any) -> Driver:
    settings = load_settings(data_dir=folder, commit_interval_ms=1)
    return Driver(Topology(flows, DEAD_LETTERS), settings, **options)


def summing(make: Make = OrderColumns.of, table: Table[Sum] = SUMS) -> Flow:
    return flow("summing", ORDERS, make, add_up, table, keeps=table)


def dead(driver: Driver) -> list[tuple[bytes, bytes, bytes]]:
    """Return offset, reason and agent of each dead letter."""
    headers = [dict(sent.headers) for sent in driver.sent(DEAD_LETTERS)]
    return [
        (h["__streams.errors.offset"], h["headrace.reason"], h["headrace.agent"]) for h in headers
    ]


def test_columns_are_made_once_a_batch_for_all_its_agents(tmp_path: Path) -> None:
    made: list[OrderColumns] = []
    given: list[OrderColumns] = []

    def make(orders_: Sequence[OrderCreated]) -> OrderColumns:
        made.append(OrderColumns.of(orders_))
        return made[-1]

    watching = flow("watching", ORDERS, make, given.append)
    with driven(tmp_path, summing(make), watching) as driver:
        driver.pipe(ORDERS, orders(range(3)))
        driver.pipe(ORDERS, orders(range(3, 5)))
        assert driver.table(SUMS) == {"ada": Sum(5, 5_000)}
    assert [len(columns.orders) for columns in made] == [3, 2]
    assert all(a is b for a, b in zip(given, made, strict=True))


def test_columns_are_let_go_with_their_batch(tmp_path: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    def make(orders_: Sequence[OrderCreated]) -> OrderColumns:
        columns = OrderColumns.of(orders_)
        alive.append(weakref.ref(columns.times_ms))
        return columns

    with driven(tmp_path, summing(make)) as driver:
        driver.pipe(ORDERS, orders(range(3)))
        assert [ref() for ref in alive] == [None]


def test_what_is_made_of_one_type_of_event_is_not_taken_for_another_one_s(tmp_path: Path) -> None:
    given: dict[str, list[Any]] = {"created": [], "paid": []}
    flows = [
        flow("created", ORDERS, list, given["created"].extend),
        flow("paid", ORDERS, list, given["paid"].extend, kind=OrderPaid),
    ]
    with driven(tmp_path, *flows) as driver:
        user, placed = order(1)
        assert placed is not None
        paid = placed.replace(b"order.created", b"order.paid")
        driver.pipe(ORDERS, [(user, placed), (user, paid)])
    assert [type(event) for event in given["created"]] == [OrderCreated]
    assert [type(event) for event in given["paid"]] == [OrderPaid]


def test_a_record_of_which_no_columns_can_be_made_is_dropped_alone(tmp_path: Path) -> None:
    def make(orders_: Sequence[OrderCreated]) -> OrderColumns:
        if any(each.data.order_id == "order-3" for each in orders_):
            raise ValueError("3 is not for us")
        return OrderColumns.of(orders_)

    with driven(tmp_path, summing(make)) as driver:
        driver.pipe(ORDERS, orders(range(7)))
        assert dead(driver) == [(b"3", b"rule-failed", b"summing")]
        (letter,) = driver.read(DEAD_LETTERS)
        assert dict(letter.headers)["__streams.errors.message"] == b"3 is not for us"
        assert driver.table(SUMS) == {"ada": Sum(6, 6_000)}


def test_a_record_that_makes_a_row_unwritable_is_dropped_alone(tmp_path: Path) -> None:
    with driven(tmp_path, summing()) as driver:
        driver.pipe(ORDERS, [order(0), order(1, user="eve", amount=13), order(2), order(3)])
        driver.pipe(ORDERS, [order(4, user="eve", amount=5)])
        assert dead(driver) == [(b"1", b"rule-failed", b"summing")]
        assert driver.table(SUMS) == {"ada": Sum(3, 3_000), "eve": Sum(1, 500)}


def test_a_record_that_makes_a_row_too_large_is_dropped_alone(tmp_path: Path) -> None:
    with driven(tmp_path, summing(), max_record_bytes=400) as driver:
        driver.pipe(ORDERS, [order(0), order(1, user="u" * 400), order(2)])
        assert dead(driver) == [(b"1", b"too-large", b"summing")]
        assert driver.table(SUMS) == {"ada": Sum(2, 2_000)}


def test_a_row_that_cannot_be_read_is_never_begun_anew(tmp_path: Path) -> None:
    def decode_all_but_eves(value: bytes) -> Sum:
        if value == b"1:666":
            raise ValueError("written by nobody")
        return decode(value)

    with driven(tmp_path, summing()) as driver:
        driver._memory.known_rows = 4  # for both partitions: what is known is forgotten soon
        driver.pipe(ORDERS, [order(0, user="eve", amount=6.66), order(1)])
        driver.stop_worker()
        driver.topology = Topology((summing(table=sums(decode_all_but_eves)),), DEAD_LETTERS)
        driver.start_worker()
        for number in range(2, 6):
            driver.pipe(ORDERS, [order(number, user="eve"), *orders([number])])
            others = [order(number, user=f"user-{number}-{n}") for n in range(3)]
            driver.pipe(ORDERS, others)
        assert driver.changelog(SUMS)["eve"] == b"1:666"
        assert driver.changelog(SUMS)["ada"] == b"5:5000"
        offsets = [str(2 + 5 * n).encode() for n in range(4)]
        assert dead(driver) == [(at, b"rule-failed", b"summing") for at in offsets]


# -- flows that meet others --------------------------------------------------------------------------


NAMES: Table[User] = Table("names", msgspec.json.encode, msgspec.json.Decoder(User).decode)


def remember(users: Iterable[UserRegistered], names: Any) -> None:
    for user in users:
        names[user.data.user_id] = User(username=user.data.username)


def look_up(orders_: Iterable[OrderCreated], names: Any) -> None:
    for each in orders_:
        names.get(each.data.user_id)


def by_events(name: str, topic: Topic, kind: type[Any], rule: Any, **touches: Any) -> Flow:
    """Return a flow whose rule goes through events of a type, and uses the table NAMES."""

    def register(app: App[Any]) -> None:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.of(kind), NAMES)

        agent.__name__ = name
        app.agent(topic)(agent)

    return Flow(register, name, reads=(topic,), **touches)


def remembering(*, given_columns: bool) -> Flow:
    if given_columns:
        return flow("remembering", USERS, list, remember, NAMES, kind=UserRegistered, keeps=NAMES)
    return by_events("remembering", USERS, UserRegistered, remember, keeps=NAMES)


def looking(*, given_columns: bool) -> Flow:
    if given_columns:
        return flow("looking", ORDERS, list, look_up, NAMES, joins=(NAMES,))
    return by_events("looking", ORDERS, OrderCreated, look_up, joins=(NAMES,))


@pytest.mark.parametrize("name", ["remembering", "looking"])
def test_a_rule_that_meets_others_is_refused_columns_and_nothing_is_committed(
    tmp_path: Path, name: str
) -> None:
    flows = (
        remembering(given_columns=name == "remembering"),
        looking(given_columns=name == "looking"),
    )
    line = f"flow {name} uses a joined table: its rule goes through events, not columns"
    with driven(tmp_path, *flows) as driver:
        driver.pipe(USERS, [user_event("registered", username="Ada")], settle=False)
        with pytest.raises(DefinitionError) as raised:
            driver.pipe(ORDERS, orders(range(3)))
        assert str(raised.value) == line
        assert {committed.offset for committed in driver.kafka.offsets.values()} <= {0, 1}
        assert driver.sent(DEAD_LETTERS) == []


def test_a_flow_that_keeps_columns_may_share_its_input_with_one_that_joins(tmp_path: Path) -> None:
    flows = (remembering(given_columns=False), looking(given_columns=False), summing())
    with driven(tmp_path, *flows) as driver:
        driver.pipe(USERS, [user_event("registered", username="Ada")], settle=False)
        driver.pipe(ORDERS, [order(n, at_ms=n) for n in range(3)], timestamp_ms=NOW_MS)
        assert driver.table(NAMES) == {"ada": User(username="Ada")}
        assert driver.table(SUMS) == {"ada": Sum(3, 3_000)}
