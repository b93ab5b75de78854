"""Flows that are declared: what becomes of a stream, step by step."""

from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from streams.declared import Windows, stream, together
from streams.engine.definitions import Flow, RepartitionTopic, Topic, Topology
from streams.events import OrderCreated, OrderPaid
from streams.operators.aggregates import collect, count, total
from streams.operators.sessions import SessionWindows
from streams.operators.sliding import SlidingWindows
from streams.operators.windowing import Emits, HoppingWindows, Windowed
from streams.operators.windows import TumblingWindows
from streams.testing import Driver
from streams.topics import ORDERS, USERS
from streams.topology import TOPOLOGY
from tables.definitions import USERS as USER_ROWS
from tables.definitions import User
from tests.flows.stories import NOW_MS, KeyValue, event_of, order, user_event


class Note(msgspec.Struct, frozen=True, tag="note", tag_field="event_type"):
    """What the flows here tell."""

    event_id: str
    timestamp: int
    text: str


NOTES = Topic("notes", events=(Note,), key=attrgetter("text"))
BY_TEXT = RepartitionTopic("by-text", events=(Note,), key=attrgetter("text"))
_user = attrgetter("data.user_id")


def noted(event: Any) -> Note:
    return Note(event.event_id, event.timestamp, f"{event.data.user_id} {event.data.amount:g}")


def with_country(event: OrderCreated, user: User | None) -> Note:
    return Note(event.event_id, event.timestamp, str(user and user.country))


def of_window(window: Windowed[Any]) -> Note:
    start_ms, end_ms = window.start_ms - NOW_MS, window.end_ms - NOW_MS
    return Note(window.key, window.end_ms, f"{window.key} [{start_ms}, {end_ms}] {window.value}")


def cents(event: OrderCreated) -> int:
    return round(event.data.amount * 100)


def other(kind: str, number: int, at_ms: int = 0) -> KeyValue:
    """Return another event of an order, at so many ms."""
    key, value = order(number, at_ms=at_ms)
    return key, (value or b"").replace(b"order.created", f"order.{kind}".encode())


def is_large(event: OrderCreated) -> bool:
    return event.data.amount >= 10


def texts(
    flows: tuple[Flow, ...], folder: Path, *records: KeyValue, users: tuple[KeyValue, ...] = ()
) -> list[str]:
    """Return what flows tell of orders."""
    topology = Topology(flows, dead_letters="dead-letters")
    with Driver(topology, load_settings(data_dir=folder), partitions=1) as driver:
        if users:
            driver.pipe(USERS, users, settle=False)
        driver.pipe(ORDERS, records)
        assert driver.sent("dead-letters") == []
        return [event_of(sent)["text"] for sent in driver.sent(NOTES.name)]


def test_events_are_left_out_made_into_others_and_sent_on(tmp_path: Path) -> None:
    flows = (
        stream(ORDERS, OrderCreated)
        .where(is_large)
        .flat_map(lambda event: [event] * int(event.data.amount // 10))
        .map(noted)
        .where(lambda note: not note.text.endswith("30"))
        .to("notes", NOTES)
    )
    amounts = enumerate([5, 10, 20, 30])
    told = texts(flows, tmp_path, *(order(n, amount=amount) for n, amount in amounts))
    assert told == ["ada 10", "ada 20", "ada 20"]


@pytest.mark.parametrize(("kind", "told"), [("inner", ["PT"]), ("left", ["PT", "None"])])
def test_a_stream_is_joined_with_a_table_as_of_each_event_s_turn(
    kind: Any, told: list[str], tmp_path: Path
) -> None:
    flows = (
        TOPOLOGY.flows[0],
        *stream(ORDERS, OrderCreated)
        .join(USER_ROWS, with_country, key=_user, kind=kind)
        .to("noted", NOTES),
    )
    users = (
        user_event("registered", 0, username="ada", email="a@example.org", country="PT"),
        user_event("registered", 9, username="ada", email="a@example.org", country="BR"),
    )
    records = [order(1, at_ms=5), order(2, at_ms=6, user="bob")]
    assert texts(flows, tmp_path, *records, users=users) == told


@pytest.mark.parametrize("how", ["join", "look_up"])
@pytest.mark.parametrize(("kind", "told"), [("inner", ["PT"]), ("left", ["PT", "None"])])
def test_an_event_without_a_key_has_no_row(
    how: str, kind: Any, told: list[str], tmp_path: Path
) -> None:
    def large(event: OrderCreated) -> str | None:
        return event.data.user_id if is_large(event) else None

    orders = stream(ORDERS, OrderCreated)
    joined = getattr(orders, how)(USER_ROWS, with_country, key=large, kind=kind)
    flows = (TOPOLOGY.flows[0], *joined.to("noted", NOTES))
    users = (user_event("registered", 0, username="ada", email="a@example.org", country="PT"),)
    records = [order(1, at_ms=5, amount=10), order(2, at_ms=6, amount=9)]
    topology = Topology(flows, dead_letters="dead-letters")
    with Driver(topology, load_settings(data_dir=tmp_path), partitions=1) as driver:
        driver.pipe(USERS, users)
        driver.pipe(ORDERS, records)
        assert driver.sent("dead-letters") == []
        assert [event_of(sent)["text"] for sent in driver.sent(NOTES.name)] == told


def test_events_go_on_by_another_key(tmp_path: Path) -> None:
    flows = (
        stream(ORDERS, OrderCreated)
        .map(noted)
        .key_by(BY_TEXT, Note)
        .where(lambda note: note.text != "ada 3")
        .to("notes", NOTES)
    )
    assert [flow.name for flow in flows] == ["by_text", "notes"]
    assert texts(flows, tmp_path, *(order(n, amount=n) for n in (1, 3, 2))) == ["ada 1", "ada 2"]


# The orders of 10 or more, at 0, 40 and 70; those at 100 and 1,000 are too small, and close what is open.
WINDOWS: list[tuple[Windows, list[str]]] = [
    (TumblingWindows(50, 0), ["ada [0, 50] 2", "ada [50, 100] 1"]),
    (HoppingWindows(50, 25, 0), [
        "ada [-25, 25] 1", "ada [0, 50] 2", "ada [25, 75] 2", "ada [50, 100] 1",
    ]),
    (SlidingWindows(30, 0), ["ada [-30, 0] 1", "ada [10, 40] 1", "ada [40, 70] 2", "ada [41, 71] 1"]),
    (SessionWindows(35, 0), ["ada [0, 0] 1", "ada [40, 70] 2"]),
]  # fmt: skip


@pytest.mark.parametrize("in_rows", [False, True])
@pytest.mark.parametrize(("windows", "told"), WINDOWS)
def test_windows_tell_of_the_events_that_were_not_left_out(
    windows: Windows, told: list[str], *, in_rows: bool, tmp_path: Path
) -> None:
    of_each = {"n": count(), "cents": total(cents)} | (
        {"all": collect(cents, 9)} if in_rows else {}
    )
    flows = (
        stream(ORDERS, OrderCreated)
        .where(is_large)
        .window(windows, key=_user)
        .aggregate(**of_each)
        .to("windows", NOTES, lambda w: of_window(w._replace(value=w.value["n"])))
    )
    amounts = [(0, 10), (40, 11), (70, 12), (100, 1), (1_000, 1)]
    records = [order(n, amount=amount, at_ms=at_ms) for n, (at_ms, amount) in enumerate(amounts)]
    assert texts(flows, tmp_path, *records) == told


@pytest.mark.parametrize(("emits", "told"), [("updates", ["ada [0, 50] 2"]), ("final", [])])
def test_updates_are_told_at_once(emits: Emits, told: list[str], tmp_path: Path) -> None:
    flows = (
        stream(ORDERS, OrderCreated)
        .window(TumblingWindows(50, 0), key=_user)
        .aggregate(n=count())
        .to("windows", NOTES, lambda w: of_window(w._replace(value=w.value["n"])), emits=emits)
    )
    assert texts(flows, tmp_path, order(1, at_ms=1), order(2, at_ms=2)) == told


def test_without_a_filter_windows_have_all_events(tmp_path: Path) -> None:
    flows = (
        stream(ORDERS, OrderCreated)
        .window(TumblingWindows(50, 0), key=_user)
        .aggregate(n=count())
        .to("windows", NOTES, lambda w: of_window(w._replace(value=w.value["n"])))
    )
    assert texts(flows, tmp_path, order(1, at_ms=1), order(2, at_ms=50)) == ["ada [0, 50] 1"]


def test_of_each_key_s_changes_the_last_in_a_time_is_told(tmp_path: Path) -> None:
    flows = (
        stream(ORDERS, OrderCreated)
        .where(is_large)
        .suppress(50, key=_user)
        .to("suppressed", NOTES, noted)
    )
    items: dict[str, Any] = {"items": [{"product_id": "pen", "quantity": 1, "unit_price": 2.5}]}
    amounts = [(0, 10), (30, 11), (40, 1), (50, 12), (99, 13), (100, 14), (101, 1)]
    records = [
        order(n, amount=amount, at_ms=at_ms, **(items if n % 2 else {}))
        for n, (at_ms, amount) in enumerate(amounts)
    ]
    assert texts(flows, tmp_path, *records) == ["ada 11", "ada 13"]


def test_each_event_is_in_the_first_branch_that_fits_and_else_in_the_last(tmp_path: Path) -> None:
    all_ = stream(ORDERS, OrderCreated).where(lambda event: event.data.amount != 7)
    large, odd, others = all_.branch(is_large, lambda event: event.data.amount % 2 == 1)
    flows = together(
        large.map(noted).where(lambda note: "12" not in note.text).to("large", NOTES),
        others.map(noted).key_by(BY_TEXT, Note).to("others", NOTES),
    )
    assert [flow.name for flow in flows] == ["large", "by_text", "others"]
    records = [order(n, amount=amount) for n, amount in enumerate([1, 2, 7, 11, 12, 4])]
    assert texts(flows, tmp_path, *records) == ["ada 11", "ada 2", "ada 4"]
    assert texts(odd.map(noted).to("odd", NOTES), tmp_path / "odd", *records) == ["ada 1"]


def test_what_comes_before_several_branches_is_there_once(tmp_path: Path) -> None:
    notes = stream(ORDERS, OrderCreated).map(noted).key_by(BY_TEXT, Note)
    ones, others = notes.branch(lambda note: note.text.endswith("1"))
    flows = together(
        ones.to("ones", NOTES), others.to("others", NOTES), ones.merge(others).to("all", NOTES)
    )
    assert [flow.name for flow in flows] == ["by_text", "ones", "others", "all"]
    told = texts(flows, tmp_path, order(1, amount=1), order(2, amount=2))
    assert sorted(told) == ["ada 1", "ada 1", "ada 2", "ada 2"]


def test_streams_of_one_topic_are_merged_in_its_order(tmp_path: Path) -> None:
    created, paid = stream(ORDERS, OrderCreated), stream(ORDERS, OrderPaid)
    merged = created.map(noted).merge(
        paid.map(lambda event: Note(event.event_id, event.timestamp, "paid"))
    )
    records = [order(1, amount=1), other("paid", 1), order(2, amount=2)]
    assert texts(merged.to("all", NOTES), tmp_path, *records) == ["ada 1", "paid", "ada 2"]


@pytest.mark.parametrize("in_rows", [False, True])
def test_streams_that_were_merged_are_gathered_and_joined_as_one(
    tmp_path: Path, *, in_rows: bool
) -> None:
    merged = stream(ORDERS, OrderCreated).where(is_large).merge(stream(ORDERS, OrderPaid))
    more = {"all": collect(_user, 9)} if in_rows else {}
    flows = (
        merged.window(TumblingWindows(50, 0), key=_user)
        .aggregate(n=count(), **more)
        .to("windows", NOTES, lambda w: of_window(w._replace(value=w.value["n"])))
    )
    records = [
        order(1, amount=10),
        order(2, amount=1),
        other("paid", 1),
        other("cancelled", 3, at_ms=20),
        other("paid", 4, at_ms=60),
    ]
    assert texts(flows, tmp_path, *records) == ["ada [0, 50] 2"]
    joined = merged.join(USER_ROWS, with_country, key=_user, kind="left").join(
        USER_ROWS, lambda note, _: note, key=lambda _: "ada", kind="left"
    )
    told = texts((TOPOLOGY.flows[0], *joined.to("joined", NOTES)), tmp_path / "joined", *records)
    assert told == ["None", "None", "None"]


def test_rows_are_joined_with_those_that_they_name_of_those_that_were_not_left_out(
    tmp_path: Path,
) -> None:
    joined = (
        stream(ORDERS, OrderCreated)
        .where(is_large)
        .join_by_foreign_key(
            stream(ORDERS, OrderPaid).where(lambda event: event.data.order_id != "order-9"),
            key=attrgetter("data.order_id"),
            foreign_key=attrgetter("data.user_id"),
            right_key=_user,
            kind="left",
        )
        .to("joined", NOTES, lambda change: Note(
            change.event.event_id,
            change.time_ms,
            f"{change.key} {change.right and change.right.data.order_id}",
        ))
    )  # fmt: skip
    assert [flow.name for flow in joined] == ["joined_lefts", "joined_joined", "joined"]
    records = [order(1), order(2, amount=1), other("paid", 3), other("paid", 9)]
    told = texts(joined, tmp_path, *records)
    assert told in (["order-1 order-3"], ["order-1 None", "order-1 order-3"])


def test_what_cannot_be_declared_is_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^topic users holds no OrderCreated$"):
        stream(USERS, OrderCreated)
    made = stream(ORDERS, OrderPaid).map(lambda event: event)
    with pytest.raises(ValueError, match=r"send what was made of them on with key_by first$"):
        made.window(TumblingWindows(50, 0), key=_user)
    with pytest.raises(ValueError, match=r"send what was made of them on with key_by first$"):
        made.suppress(50, key=_user)
    paid, keys = (
        stream(ORDERS, OrderPaid),
        dict[str, Any](key=_user, foreign_key=_user, right_key=_user),
    )
    for left, right in ((made, paid), (paid, made)):
        with pytest.raises(ValueError, match=r"^tables are told by events of a topic: send what"):
            left.join_by_foreign_key(right, **keys)
    with pytest.raises(ValueError, match=r"^a join's kind is one of inner, left, not outer$"):
        paid.join_by_foreign_key(paid, **keys, kind="outer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^limit_ms must be 1 or more, not 0$"):
        stream(ORDERS, OrderPaid).suppress(0, key=_user)
