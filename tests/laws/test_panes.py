"""Windows in columns beside the same windows in rows, in one topology: they tell the same, whatever happens.

Two inputs, cut anywhere; crashes; commits within a closing; rows that memory forgot. The rows' own law is
test_event_time.py.
"""

import json
from collections.abc import AsyncIterable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import expiry, pane_part, timed_part
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, PaneTable, TimedTable, Topic, Topology
from streams.engine.failpoints import Step
from streams.events import OrderCreated, PaymentCompleted
from streams.operators.aggregates import count, highest, lowest, several, total
from streams.operators.panes import PaneAggregation
from streams.operators.windowing import HoppingWindows, WindowAggregation, Windowed, open_codec
from streams.operators.windows import TumblingWindows
from streams.testing import Driver
from streams.topics import ORDERS, PAYMENTS
from tests.flows.stories import NOW_MS

START_MS = NOW_MS - 10**9
START_MS -= START_MS % 1_000


class Told(msgspec.Struct, frozen=True, tag_field="event_type", tag="told"):
    """A result as an event."""

    event_id: str
    timestamp: int
    key: str
    value: dict[str, int]


def _value(event: Any) -> int:
    return -event.timestamp if type(event) is PaymentCompleted else int(event.data.amount)


_AGGREGATE: Final = several(n=count(), sum=total(_value), low=lowest(_value), high=highest(_value))
Windows: TypeAlias = TumblingWindows | HoppingWindows
KINDS: Final[dict[str, Windows]] = {
    "tumbling": TumblingWindows(10, 4),
    "hopping": HoppingWindows(20, 5, 3),
    "without_grace": HoppingWindows(10, 5, 0),
}


def _key(event: Any) -> str:
    key: str = event.data.user_id
    return key


def _told(window: Windowed[dict[str, int]]) -> Told:
    key, start_ms, end_ms, value = window
    return Told(f"{key}@{start_ms}-{end_ms}", end_ms, key, value)


class Lanes(NamedTuple):
    """The same windows in rows and in columns."""

    rows: Flow
    columns: Flow


def lanes(name: str, windows: Windows, inputs: Sequence[Topic]) -> Lanes:
    in_rows = WindowAggregation[Any, Any, Any](windows, _AGGREGATE, key=_key)
    in_columns = PaneAggregation[Any, Any](windows, _AGGREGATE, key=_key)

    def close(key: str, row: Any, now_ms: int) -> Any:
        left, closed = in_rows.fire(key, row, now_ms)
        return left, list(map(_told, closed))

    def tell(closed: Iterable[Windowed[Any]]) -> Iterable[Told]:
        return map(_told, closed)

    timed = TimedTable(f"{name}_rows", *open_codec(_AGGREGATE))
    paned: PaneTable[Any] = PaneTable.of(f"{name}_columns", in_columns)
    return Lanes(
        _flow(timed, inputs, in_rows.add, fires=close),
        _flow(paned, inputs, in_columns.add, tells=tell),
    )


def _flow(table: Any, inputs: Sequence[Topic], add: Any, **closes: Any) -> Flow:
    def take(events: Sequence[Any], rows: Any) -> None:
        if any(event.event_id.startswith("brittle") for event in events):
            raise ValueError("no")
        add(events, rows)

    def register(app: App[Any]) -> None:
        for topic, event_type in ((ORDERS, OrderCreated), (PAYMENTS, PaymentCompleted)):
            if topic in inputs:
                _agent(app, topic, event_type)

    def _agent(app: App[Any], topic: Topic, event_type: type[Any]) -> None:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(take, batch.of(event_type), table)

        agent.__name__ = table.name
        app.agent(topic)(agent)

    out = Topic(f"{table.name}-out", events=(Told,), key=lambda told: told.key)
    return Flow(register, table.name, reads=tuple(inputs), keeps=table, emits=out, **closes)


PAIRS: Final = [
    lanes(f"{name}_of_{len(inputs)}", windows, inputs)
    for name, windows in KINDS.items()
    for inputs in ((ORDERS,), (ORDERS, PAYMENTS))
]
TOPOLOGY: Final = Topology(tuple(flow for pair in PAIRS for flow in pair), dead_letters="dead")


class Event(NamedTuple):
    """An event of a script."""

    topic: Topic
    kind: str
    user: str
    at_ms: int
    is_brittle: bool = False

    def value(self, number: int) -> bytes:
        data = {"user_id": self.user, "order_id": f"o-{number}", "amount": float(number)}
        event = {
            "event_id": f"{'brittle' if self.is_brittle else 'e'}-{number}",
            "event_type": self.kind,
            "aggregate_id": self.user,
            "timestamp": START_MS + self.at_ms,
            "data": data,
        }
        return json.dumps(event).encode()


KINDS_OF = {
    ORDERS: ["order.created", "order.created", "order.updated"],
    PAYMENTS: ["payment.completed", "payment.failed"],
}
# Time goes on by some windows at most, now and then by many, and events are up to some late.
steps = st.tuples(st.integers(0, 4) | st.sampled_from([0, 0, 17, 1_000]), st.integers(0, 30))


@st.composite
def scripts(draw: st.DrawFn) -> list[Event]:
    now_ms, script = 40, []
    for ahead_ms, behind_ms in draw(st.lists(steps, max_size=40)):
        now_ms += ahead_ms
        topic = draw(st.sampled_from([ORDERS, ORDERS, PAYMENTS]))
        script.append(
            Event(
                topic,
                draw(st.sampled_from(KINDS_OF[topic])),
                draw(st.sampled_from(["ada", "bob", "cyd", "dan"])),
                now_ms - draw(st.sampled_from([0, behind_ms])),
                draw(st.integers(0, 9)) == 9,
            )
        )
    return script


blows = st.none() | st.tuples(
    st.sampled_from(
        [
            Step.PROCESS_AFTER_AGENTS,
            Step.PROCESS_AFTER_BATCH,
            Step.COMMIT_BEFORE_SENDS,
            Step.COMMIT_BEFORE_END,
            Step.COMMIT_BEFORE_DISK,
            Step.COMMIT_AFTER_DISK,
        ]
    ),
    st.integers(1, 25),
)


class Trial(NamedTuple):
    """What happens to a script."""

    runs: Sequence[int] = ()
    most: int = 5_000
    told: int = 5_000
    known: int = 2_000_000
    expired: int = 50_000
    blow: tuple[Step, int] | None = None
    loses_disk: bool = False


trials = st.builds(
    Trial,
    runs=st.lists(st.integers(1, 9), max_size=3),
    most=st.integers(1, 40),
    told=st.sampled_from([1, 2, 3, 5_000]),
    known=st.sampled_from([0, 40, 2_000_000]),
    expired=st.sampled_from([3, 50_000]),
    blow=blows,
    loses_disk=st.booleans(),
)


@given(scripts(), trials)
def test_windows_in_columns_are_as_windows_in_rows(script: Sequence[Event], trial: Trial) -> None:
    assert_lanes_are_equal(script, trial)


MANY_AT_ONCE: Final = [
    *(Event(ORDERS, "order.created", f"user-{n:02}", 40) for n in range(20)),
    Event(ORDERS, "order.created", "ada", 47),
    Event(ORDERS, "order.updated", "ada", 1_000),
]


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize(
    "step", [Step.PROCESS_AFTER_BATCH, Step.COMMIT_BEFORE_SENDS, Step.COMMIT_AFTER_DISK]
)
def test_a_closing_in_parts_goes_on_where_a_crash_ended_it(step: Step, number: int) -> None:
    for loses_disk in (False, True):
        trial = Trial([7], told=3, known=4, blow=(step, number), loses_disk=loses_disk)
        assert_lanes_are_equal(MANY_AT_ONCE, trial)


def test_what_comes_behind_a_record_that_was_dropped_is_judged_by_what_came_before_it() -> None:
    script = [
        Event(ORDERS, "order.created", "ada", 40),
        Event(ORDERS, "order.created", "ada", 70),
        Event(ORDERS, "order.created", "bob", 70, is_brittle=True),
        Event(ORDERS, "order.created", "bob", 41),
    ]
    assert_lanes_are_equal(script, Trial())


def assert_lanes_are_equal(script: Sequence[Event], trial: Trial) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(timed_part, "FIRED_AT_ONCE", trial.told)
        patch.setattr(pane_part, "TOLD_AT_ONCE", trial.told)
        patch.setattr(expiry, "EXPIRED_AT_ONCE", trial.expired)
        settings = load_settings(data_dir=Path(folder), commit_interval_ms=1)
        with Driver(
            TOPOLOGY,
            settings,
            partitions=1,
            max_batch_records=trial.most,
            max_stretched_interval_ms=1,
        ) as driver:
            driver._memory.known_rows = trial.known
            driver.cut_input(trial.runs)
            if trial.blow is not None:
                driver.crash_at(*trial.blow)
            for number, event in enumerate(script):
                record = (event.user.encode(), event.value(number))
                driver.pipe(event.topic, [record], timestamp_ms=NOW_MS, settle=False)
            driver.settle()
            if driver.workers == 0:
                if trial.loses_disk:
                    driver.lose_disk()
                driver.restart()
            for pair in PAIRS:
                assert_equal(driver, pair)


def assert_equal(driver: Driver, pair: Lanes) -> None:
    in_rows, in_columns = (
        [json.loads(r.value or b"") for topic in flow.outputs for r in driver.sent(topic.name)]
        for flow in pair
    )
    assert in_columns == in_rows
    assert late(driver, pair.columns) == late(driver, pair.rows)
    (task,) = driver.tasks().values()
    if not driver.crashes:
        assert task.counts[pair.columns.name] == task.counts[pair.rows.name]
    table = pair.columns.keeps
    assert isinstance(table, PaneTable)
    part = task.parts[table.name]
    assert isinstance(part, pane_part.PanePart)
    kept = driver.table(table)
    assert kept == {key: table.decode(row) for key, row in driver.changelog(table).items()}
    gone_ms = table.windows.gone_ms(part.stream_time_ms)
    assert all(table.key_of(key)[1] > gone_ms for key in kept)
    assert part.telling is None


def late(driver: Driver, flow: Flow) -> list[tuple[Any, ...]]:
    found = []
    for record in driver.sent(TOPOLOGY.late_records):
        headers = dict(record.headers)
        if headers.pop("headrace.flow") == flow.name.encode():
            found.append((record.key, record.value, headers))
    return found
