"""Laws 1, 2, 5 and 7 for what event time closes: neither cuts nor crashes nor inputs that meet change it.

The oracle takes all events one by one, in their turns, and closes what is due after each.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import pane_part, timed_part
from streams.engine.definitions import PaneTable, Topic
from streams.engine.failpoints import Step
from streams.engine.store import minute_of
from streams.testing import Driver
from streams.topics import ORDERS, PAYMENTS, USERS
from streams.topology import WINDOWS
from tests.event_time import Outcome, expected, in_order, late_line
from tests.flows.stories import NOW_MS

MINUTE_MS = 60_000
START_MS = NOW_MS - 10**9


class Told(NamedTuple):
    """An event of a script."""

    topic: Topic
    kind: str
    user: str
    order: int
    at_min: float

    def value(self, number: int) -> bytes:
        data: dict[str, Any] = {"user_id": self.user}
        if self.topic is not USERS:
            data |= {"order_id": f"order-{self.order}", "amount": 10.0 * (1 + self.order)}
        event = {
            "event_id": f"event-{number}",
            "event_type": self.kind,
            "aggregate_id": self.user,
            "timestamp": START_MS + round(self.at_min * MINUTE_MS),
            "data": data,
        }
        return json.dumps(event).encode()


KINDS = {
    ORDERS: ["order.created", "order.created", "order.created", "order.updated"],
    PAYMENTS: ["payment.completed", "payment.completed", "payment.failed"],
    USERS: ["user.logged_in"],
}
told = st.one_of(
    [
        st.builds(
            Told,
            st.just(topic),
            st.sampled_from(kinds),
            st.sampled_from(["ada", "bob"]),
            st.sampled_from([1, 2, 3, 400]),
            # Around the half hours, five and one minutes of the windows, to the millisecond.
            st.integers(0, 12).map(lambda fives: fives * 5)
            | st.floats(0, 200).map(lambda minutes: round(minutes * 2) / 2)
            | st.sampled_from([35 + 1 / MINUTE_MS, 36.0, 65.0, 70.0, 1_000.0]),
        )
        for topic, kinds in KINDS.items()
    ]
)
scripts = st.lists(told, max_size=30)


def outcome(
    script: Sequence[Told], runs: Sequence[int], most: int, blow: tuple[Step, int] | None
) -> Outcome:
    with (
        TemporaryDirectory() as folder,
        Driver(
            WINDOWS,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=1,
            max_batch_records=most,
        ) as driver,
    ):
        driver.cut_input(runs)
        if blow is not None:
            driver.crash_at(*blow)
        for number, event in enumerate(script):
            record = (event.user.encode(), event.value(number))
            driver.pipe(event.topic, [record], timestamp_ms=NOW_MS, settle=False)
        driver.settle()
        while driver.workers == 0:
            driver.restart()
        return found(driver)


def found(driver: Driver) -> Outcome:
    derived = {
        topic.name: in_order(topic, [json.loads(r.value or b"") for r in driver.sent(topic.name)])
        for flow in WINDOWS.flows
        for topic in flow.outputs
    }
    rows = {table.name: driver.table(table) for table in WINDOWS.tables}
    for table in WINDOWS.tables:
        log = {key: table.decode(value) for key, value in driver.changelog(table).items()}
        assert log == rows[table.name]
        stores = [task.store for task in driver.tasks().values() if task.store]
        if isinstance(table, PaneTable):
            begun = [
                entry for store in stores for entry in store.begun(table.name, 0, 2**62, 2**62)
            ]
            assert sorted(begun) == sorted(log)
            continue
        entries = [entry for store in stores for entry in store.due(table.name, 0, 2**62, 2**62)]
        indexed = {(entry.minute_ms, key) for entry in entries for key in entry.keys}
        assert {(minute_of(row.due_ms), key) for key, row in log.items()} <= indexed
    late = [late_line(r.headers, r.value or b"") for r in driver.sent(WINDOWS.late_records)]
    return Outcome(derived, rows, sorted(late))


runs = st.lists(st.integers(1, 7), max_size=3)
steps = st.sampled_from(
    [
        Step.PROCESS_AFTER_AGENTS,
        Step.PROCESS_AFTER_BATCH,
        Step.COMMIT_BEFORE_SENDS,
        Step.COMMIT_BEFORE_END,
        Step.COMMIT_BEFORE_DISK,
        Step.COMMIT_AFTER_DISK,
    ]
)
blows = st.none() | st.tuples(steps, st.integers(1, 4))


@given(
    script=scripts,
    runs=runs,
    most=st.integers(1, 40),
    fired=st.sampled_from([1, 2, 5_000]),
    blow=blows,
)
@example(
    # One order late for its windows, one session that two inputs make, one order unpaid.
    script=[
        Told(ORDERS, "order.created", "ada", 1, 0),
        Told(USERS, "user.logged_in", "ada", 1, 20),
        Told(ORDERS, "order.created", "ada", 2, 40),
        Told(PAYMENTS, "payment.completed", "ada", 2, 50),
        Told(ORDERS, "order.created", "ada", 3, 1),
        Told(ORDERS, "order.created", "bob", 1, 200),
    ],
    runs=[],
    most=40,
    fired=5_000,
    blow=None,
)
def test_what_event_time_closes_is_the_same_however_it_is_cut_and_broken_off(
    script: Sequence[Told],
    runs: Sequence[int],
    most: int,
    fired: int,
    blow: tuple[Step, int] | None,
) -> None:
    inputs: dict[str, list[bytes]] = {}
    for number, event in enumerate(script):
        inputs.setdefault(event.topic.name, []).append(event.value(number))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed_part, "FIRED_AT_ONCE", fired)
        patch.setattr(pane_part, "TOLD_AT_ONCE", fired)
        assert outcome(script, runs, most, blow) == expected(inputs)
