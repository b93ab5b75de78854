"""Flows with a timed table: what may go wrong in them, and where late records go."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from streams.engine import timed_part
from streams.engine.api import App, Batch
from streams.engine.closing import is_quiet
from streams.engine.definitions import Flow, TimedTable, Topology
from streams.engine.errors import CauselessFailureError, DefinitionError
from streams.events import OrderCreated, OrderHighValue, OrderUpdated
from streams.operators.timed import Fired, Late, TimedRows
from streams.testing import Driver
from streams.topics import HIGH_VALUE_ORDERS, ORDERS, VIP_UPGRADES
from tests.flows.stories import NOW_MS, event_of, order, orders
from tests.waiting import until_true

LIVES_MS = 10


class Kept(msgspec.Struct, frozen=True):
    """An order's row: it is told `LIVES_MS` after its time."""

    due_ms: int
    number: str
    note: str = ""


_decode = msgspec.json.Decoder(Kept).decode
KEPT = TimedTable("kept", msgspec.json.encode, _decode, lambda value: _decode(value).due_ms)
Rule = Callable[[Iterable[Any], TimedRows[Kept]], Any]


def keep(events: Iterable[OrderCreated], rows: TimedRows[Kept]) -> None:
    for event, now_ms in rows.turns(events):
        if event.data.amount == 13:
            raise ValueError("13 is not for us")
        due_ms = event.timestamp + LIVES_MS
        if due_ms <= now_ms:
            rows.is_late(Late(event, event.timestamp, due_ms, now_ms - due_ms))
        else:
            rows[event.data.order_id] = Kept(due_ms, event.data.order_id)


def told(order_id: str, row: Kept, text: str = "") -> OrderHighValue:
    event = OrderCreated(
        event_id=f"{order_id}-due",
        aggregate_id=order_id,
        timestamp=row.due_ms,
        data=msgspec.convert(
            {"order_id": order_id, "user_id": "ada", "amount": 1.0, "currency": text or "USD"},
            OrderCreated.__annotations__["data"],
        ),
    )
    return OrderHighValue.caused_by(event)


def tell(order_id: str, row: Kept, _now_ms: int) -> Fired[Kept, OrderHighValue]:
    return None, [told(order_id, row)]


@contextmanager
def running(
    folder: Path,
    *,
    rule: Rule = keep,
    fires: Any = tell,
    emits: Any = HIGH_VALUE_ORDERS,
    give: Callable[[Batch], Any] = lambda batch: batch.of(OrderCreated),
    idle_timeout_ms: int | None = None,
    **options: Any,
) -> Iterator[Driver]:
    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def kept(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, give(batch), KEPT)

    flow = Flow(register, "kept", reads=(ORDERS,), keeps=KEPT, emits=emits, fires=fires)
    topology = Topology((flow,), dead_letters="dead-letters")
    settings = load_settings(data_dir=folder, commit_interval_ms=1, idle_timeout_ms=idle_timeout_ms)
    with Driver(topology, settings, partitions=1, **options) as driver:
        yield driver


def pipe(driver: Driver, *records: tuple[bytes | None, bytes | None]) -> None:
    driver.pipe(ORDERS, records, timestamp_ms=NOW_MS)


def numbers(driver: Driver, topic: str = HIGH_VALUE_ORDERS.name) -> list[str]:
    return [event_of(sent)["aggregate_id"] for sent in driver.sent(topic)]


def updated(number: int, at_ms: int) -> tuple[bytes, bytes]:
    key, value = order(number, at_ms=at_ms)
    assert key is not None
    assert value is not None
    return key, value.replace(b"order.created", b"order.updated")


@pytest.mark.parametrize("run_length", [1, 100])
def test_rows_are_told_when_any_event_of_the_input_brings_their_time(
    tmp_path: Path, run_length: int
) -> None:
    with running(tmp_path) as driver:
        driver.cut_input([run_length])
        pipe(driver, order(1, at_ms=5), order(2, at_ms=3), updated(3, 12))
        assert numbers(driver) == []
        pipe(driver, updated(4, 13))
        assert numbers(driver) == ["order-2"]
        pipe(driver, updated(5, 400))
        assert numbers(driver) == ["order-2", "order-1"]
        assert driver.table(KEPT) == {}


@pytest.mark.parametrize("run_length", [1, 100])
def test_an_event_that_a_rule_raises_for_moves_stream_time_as_well(
    tmp_path: Path, run_length: int
) -> None:
    with running(tmp_path) as driver:
        driver.cut_input([run_length])
        pipe(
            driver,
            order(1, at_ms=0),
            order(2, at_ms=20, amount=13),
            order(3, at_ms=5),
            order(4, at_ms=15),
        )
        assert numbers(driver) == ["order-1"]
        (late,) = driver.sent("late-records")
        assert event_of(late)["event_id"] == "event-3"
        assert len(driver.sent("dead-letters")) == 1
        assert driver.table(KEPT).keys() == {"order-4"}


def test_a_late_record_is_as_it_was_and_says_for_what_it_was_late(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        late = order(2, at_ms=1)
        pipe(driver, order(1, at_ms=15), (b"no", b"event"), late, order(3, at_ms=15))
        (sent,) = driver.sent("late-records")
        assert (sent.key, sent.value) == late
        assert dict(sent.headers) == {
            "headrace.flow": b"kept",
            "headrace.window": f"{NOW_MS + 1}-{NOW_MS + 11}".encode(),
            "headrace.lateness-ms": b"4",
            "headrace.topic": b"orders",
            "headrace.partition": b"0",
            "headrace.offset": b"2",
        }
        (task,) = driver.tasks().values()
        counts = task.counts["kept"]
        assert (counts.processed, counts.late, counts.dead) == (2, 1, 1)


def test_what_a_flow_derives_goes_to_the_topic_that_may_hold_it(tmp_path: Path) -> None:
    with running(tmp_path, emits=(VIP_UPGRADES, HIGH_VALUE_ORDERS)) as driver:
        pipe(driver, order(1, at_ms=0), order(2, at_ms=50))
        assert numbers(driver) == ["order-1"]
        assert driver.sent(VIP_UPGRADES.name) == []


def refused(
    folder: Path, records: Sequence[tuple[bytes | None, bytes | None]], **wrong: Any
) -> str:
    """Return the line that stops the worker; nothing of those that it is for is committed."""
    with running(folder, **wrong) as driver:
        with pytest.raises((DefinitionError, CauselessFailureError)) as raised:
            pipe(driver, *records)
        assert driver.sent("dead-letters") == []
        assert {committed.offset for committed in driver.kafka.offsets.values()} <= {
            0,
            1,
        }  # a large record is alone
        return str(raised.value)


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    def broken(order_id: str, _row: Kept, _now_ms: int) -> Fired[Kept, Any]:
        raise ValueError(order_id)

    def shout(order_id: str, row: Kept, _now_ms: int) -> Fired[Kept, Any]:
        return None, [told(order_id, row, "x" * 2_000)]

    two = [order(1, at_ms=0), order(2, at_ms=50)]
    two_types = [order(1, at_ms=0), updated(2, 50)]
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        (
            two,
            {"give": lambda batch: batch.columns(OrderCreated, list)},
            "flow kept keeps a timed table: its rule goes through events, not columns",
        ),
        (
            two_types,
            {"give": lambda batch: batch.of(OrderCreated) + batch.of(OrderUpdated)[::-1] * 2},
            (
                "flow kept uses a joined or timed table, and gives its rule other events than those "
                "of the batch, or in another order"
            ),
        ),
        (
            two,
            {"emits": (VIP_UPGRADES, ORDERS)},
            "flow kept derives OrderHighValue, but topology.py gives it no topic to emit to",
        ),
        (
            two,
            {"fires": broken},
            "kept cannot close what is due of 'order-1' in kept: ValueError('order-1')",
        ),
        (
            two,
            {"fires": shout, "max_record_bytes": 1_500},
            (
                "kept closed what is too large: order-1-due:order.high_value for high-value-orders has "
                "2316 bytes, the limit is 1400"
            ),
        ),
    ]
    for number, (records, wrong, line) in enumerate(cases):
        assert refused(tmp_path / str(number), records, **wrong) == line


def test_a_worker_that_lost_its_disk_tells_what_is_due(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        pipe(driver, *orders(range(3)))
        driver.kill_worker()
        driver.lose_disk()
        driver.start_worker()
        pipe(driver, updated(9, 11))
        assert numbers(driver) == ["order-0", "order-1"]
        assert driver.table(KEPT).keys() == {"order-2"}


def test_in_quiet_the_clock_closes_what_is_due_if_it_is_told_to(tmp_path: Path) -> None:
    with running(tmp_path, idle_timeout_ms=20) as driver:
        pipe(driver, order(1, at_ms=0))
        driver._do(until_true(lambda: numbers(driver) == ["order-1"]))
        assert driver.table(KEPT) == {}
        pipe(driver, order(2, at_ms=1))  # time has gone on
        (late,) = driver.sent("late-records")
        assert event_of(late)["event_id"] == "event-2"
        driver.kill_worker()
        driver.start_worker()  # what it has closed stays closed
        pipe(driver, order(3, at_ms=2))
        assert len(driver.sent("late-records")) == 2
        assert numbers(driver) == ["order-1"]


def test_without_that_nothing_closes_until_an_event_comes(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        pipe(driver, order(1, at_ms=0))
        (task,) = driver.tasks().values()
        task.heard_s -= 3_600
        assert not is_quiet(task)


def test_what_waits_to_be_read_is_no_quiet_however_long_nothing_was_fetched(tmp_path: Path) -> None:
    with running(tmp_path, idle_timeout_ms=3_600_000) as driver:
        pipe(driver, order(1, at_ms=0))
        (task,) = driver.tasks().values()
        task.heard_s -= 7_200
        pipe(driver, order(2, at_ms=1))
        assert numbers(driver) == []
        assert driver.sent("late-records") == []
        assert driver.table(KEPT).keys() == {"order-1", "order-2"}


def test_what_a_rule_must_not_do_with_turns_and_late_events_is_refused(tmp_path: Path) -> None:
    def filtered(events: Iterable[OrderCreated], rows: TimedRows[Kept]) -> None:
        list(rows.turns(list(events)[1:]))

    def doubled(events: Iterable[OrderCreated], rows: TimedRows[Kept]) -> None:
        list(rows.turns([*events, *events]))

    def copied(events: Iterable[OrderCreated], rows: TimedRows[Kept]) -> None:
        for event, now_ms in rows.turns(events):
            rows.is_late(Late(msgspec.structs.replace(event), 0, now_ms, 1))

    def kept(_order_id: str, row: Kept, _now_ms: int) -> Fired[Kept, Any]:
        return row, []

    two = [order(1, at_ms=0), order(2, at_ms=50)]
    turns = (
        "the rule of table kept asks for the turns of other events than it was given: filter behind "
        "turns()"
    )
    cases: list[tuple[dict[str, Any], str]] = [
        ({"rule": filtered}, turns),
        ({"rule": doubled}, turns),
        ({"rule": copied}, "flow kept tells of a late event that is none of the batch's"),
        ({"fires": kept}, "kept leaves a row of 'order-1' in kept that is due at once again"),
    ]
    for number, (wrong, line) in enumerate(cases):
        assert refused(tmp_path / str(number), two, **wrong) == line


def test_the_loop_turns_while_much_is_fired_and_a_hand_over_tells_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_part, "FIRED_AT_ONCE", 10)
    with running(tmp_path, workers=1) as driver:
        pipe(driver, *(order(n, at_ms=n % 10) for n in range(500)))
        pipe_one = (order(999, at_ms=5_000),)
        driver.pipe(ORDERS, pipe_one, timestamp_ms=NOW_MS, settle=False)
        driver._do(until_true(lambda: len(numbers(driver)) > 0))
        driver.start_worker()  # joins in the midst of it
        driver.settle()
        driver.stop_worker(0)
        driver.settle()
        assert sorted(numbers(driver)) == sorted(f"order-{n}" for n in range(500))
