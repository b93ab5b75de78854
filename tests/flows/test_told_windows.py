"""Flows with a table of panes: what may go wrong in them, what quiet closes, and what a commit notes."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from streams.engine import committing, pane_part
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, PaneTable, Topology
from streams.engine.errors import CauselessFailureError, DefinitionError
from streams.engine.notes import Note, note
from streams.engine.task import Task
from streams.events import OrderCreated, OrderHighValue
from streams.operators.aggregates import count
from streams.operators.panes import PaneAggregation, PaneRows
from streams.operators.windowing import Windowed
from streams.operators.windows import TumblingWindows
from streams.testing import Driver
from streams.topics import HIGH_VALUE_ORDERS, ORDERS
from tests.flows.stories import NOW_MS, event_of, order
from tests.waiting import until_true

SIZE_MS = 10
WINDOWS = PaneAggregation[OrderCreated, int](
    TumblingWindows(SIZE_MS, 0), count(), key=lambda order: order.aggregate_id
)
COUNTED: PaneTable[Any] = PaneTable.of("counted", WINDOWS)
START_MS = NOW_MS - NOW_MS % SIZE_MS - NOW_MS


def told(window: Windowed[int], text: str = "USD") -> OrderHighValue:
    event = OrderCreated(
        event_id=f"{window.key}@{window.start_ms - NOW_MS}:{window.value}",
        aggregate_id=window.key,
        timestamp=window.end_ms,
        data=msgspec.convert(
            {"order_id": window.key, "user_id": "ada", "amount": 1.0, "currency": text},
            OrderCreated.__annotations__["data"],
        ),
    )
    return OrderHighValue.caused_by(event)


def tell(closed: Iterable[Windowed[int]]) -> Iterator[OrderHighValue]:
    return map(told, closed)


@contextmanager
def running(
    folder: Path,
    *,
    rule: Callable[..., None] = WINDOWS.add,
    tells: Any = tell,
    idle_timeout_ms: int | None = None,
    **options: Any,
) -> Iterator[Driver]:
    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def counted(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.of(OrderCreated), COUNTED)

    flow = Flow(
        register, "counted", reads=(ORDERS,), keeps=COUNTED, emits=HIGH_VALUE_ORDERS, tells=tells
    )
    settings = load_settings(data_dir=folder, commit_interval_ms=1, idle_timeout_ms=idle_timeout_ms)
    topology = Topology((flow,), dead_letters="dead-letters")
    options = {"max_stretched_interval_ms": 1, **options}
    with Driver(topology, settings, partitions=1, **options) as driver:
        yield driver


def pipe(driver: Driver, *records: tuple[bytes | None, bytes | None], settle: bool = True) -> None:
    driver.pipe(ORDERS, records, timestamp_ms=NOW_MS, settle=settle)


def numbers(driver: Driver) -> list[str]:
    return [event_of(sent)["aggregate_id"] for sent in driver.sent(HIGH_VALUE_ORDERS.name)]


def test_in_quiet_the_clock_closes_windows_if_it_is_told_to(tmp_path: Path) -> None:
    with running(tmp_path, idle_timeout_ms=20) as driver:
        pipe(driver, order(1, at_ms=START_MS))
        driver._do(until_true(lambda: numbers(driver) == ["order-1"]))
        driver._do(until_true(lambda: driver.table(COUNTED) == {}))
        pipe(driver, order(2, at_ms=START_MS + 1))  # time has gone on
        (late,) = driver.sent("late-records")
        assert event_of(late)["event_id"] == "event-2"
        driver.kill_worker()
        driver.start_worker()  # what it has told stays told
        pipe(driver, order(3, at_ms=START_MS + 2))
        assert len(driver.sent("late-records")) == 2
        assert numbers(driver) == ["order-1"]


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    def broken(_closed: Iterable[Windowed[int]]) -> Iterator[Any]:
        raise ValueError("no")

    def shout(closed: Iterable[Windowed[int]]) -> list[OrderHighValue]:
        return [told(window, "x" * 2_000) for window in closed]

    def filtered(orders: Iterable[OrderCreated], rows: PaneRows) -> None:
        WINDOWS.add(list(orders)[1:], rows)

    cases: list[tuple[dict[str, Any], str]] = [
        ({"tells": broken}, "counted cannot tell of what has closed in counted: ValueError('no')"),
        (
            {"tells": shout, "max_record_bytes": 1_500},
            (
                f"counted closed what is too large: order-1@{START_MS}:1:order.high_value for "
                "high-value-orders has"
            ),
        ),
        (
            {"rule": filtered},
            (
                "the rule of table counted adds other events than it was given: give it those alone "
                "that are to be added"
            ),
        ),
    ]
    for number, (wrong, line) in enumerate(cases):
        with running(tmp_path / str(number), **wrong) as driver:
            with pytest.raises((DefinitionError, CauselessFailureError)) as raised:
                pipe(driver, order(1, at_ms=START_MS), order(2, at_ms=START_MS + 50))
            assert str(raised.value).startswith(line)
            assert driver.sent("dead-letters") == []


def test_a_hand_over_in_the_midst_of_a_closing_tells_nothing_twice_and_nothing_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pane_part, "TOLD_AT_ONCE", 10)
    with running(tmp_path, workers=1, max_epoch_records=20) as driver:
        pipe(driver, *(order(n, at_ms=START_MS + n // 25) for n in range(500)))
        pipe(driver, order(999, at_ms=START_MS + 5_000), settle=False)
        driver._do(until_true(lambda: len(numbers(driver)) > 0))
        driver.start_worker()  # joins in the midst of it
        driver.settle()
        driver.stop_worker(0)
        driver.settle()
        assert sorted(numbers(driver)) == sorted(f"order-{n}" for n in range(500))
        assert [*driver.table(COUNTED)] == [f"order-999@{NOW_MS + START_MS + 5_000}"]


def test_a_commit_within_a_closing_notes_how_far_that_is_and_no_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pane_part, "TOLD_AT_ONCE", 1)
    notes: list[Note] = []

    def kept(task: Task) -> str:
        text = note(task)
        notes.append(msgspec.json.decode(text, type=Note))
        return text

    monkeypatch.setattr(committing, "note", kept)
    with running(tmp_path, max_epoch_records=10) as driver:
        pipe(driver, *(order(n, at_ms=START_MS) for n in range(40)))
        pipe(driver, order(999, at_ms=START_MS + 50))
    start_ms = NOW_MS + START_MS
    telling = [note.telling.get("counted") for note in notes]
    assert telling[-1] is None
    assert {at.start_ms for at in telling if at} == {start_ms}
    assert [note.format for note in notes] == [1 if at is None else 2 for at in telling]
    rows = [at.rows for at in telling if at]
    assert rows == sorted(set(rows))
    assert 0 < rows[0] < rows[-1] < 40
