"""Laws 1, 2, 5 and 7 for what is passed on once: neither cuts nor crashes nor hand-overs change it.

The oracle is the definition itself: each event beside all that were passed on before.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import timed_part
from streams.engine.failpoints import Step
from streams.operators.deduplication import Passed
from streams.testing import Driver
from streams.topics import ORDERS, ORDERS_DEDUPLICATED
from streams.topology import DEDUPLICATION
from tables.timed import ORDERS_PASSED
from tests.flows.stories import NOW_MS, counts

MINUTE_MS = 60_000
WITHIN_MS = 60 * MINUTE_MS
GRACE_MS = 5 * MINUTE_MS
START_MS = NOW_MS - 10**9


class Sent(NamedTuple):
    """An event of a script."""

    kind: str
    user: str
    id: int
    at_min: float

    @property
    def at_ms(self) -> int:
        return START_MS + round(self.at_min * MINUTE_MS)

    def value(self, number: int) -> bytes:
        """Return its bytes, which tell it from others of the same id by a field that nobody knows."""
        data = {"user_id": self.user, "order_id": "order", "amount": 10.0}
        event = {
            "event_id": f"event-{self.id}",
            "event_type": self.kind,
            "aggregate_id": self.user,
            "timestamp": self.at_ms,
            "data": data,
            "sent": number,
        }
        return json.dumps(event).encode()


class Outcome(NamedTuple):
    """Numbers of the events that were passed on, and of the late ones, and the rows."""

    passed: list[int]
    late: list[int]
    rows: dict[str, Passed]


def expected(script: Sequence[Sent]) -> Outcome:
    passed: list[int] = []
    late: list[int] = []
    now_ms = 0
    for number, event in enumerate(script):
        now_ms = max(now_ms, event.at_ms)
        if now_ms > event.at_ms + WITHIN_MS + GRACE_MS:
            late.append(number)
        elif not any(
            (before.user, before.id) == (event.user, event.id)
            and abs(before.at_ms - event.at_ms) <= WITHIN_MS
            for before in map(script.__getitem__, passed)
        ):
            passed.append(number)
    kept_ms = 2 * WITHIN_MS + GRACE_MS
    rows: dict[str, Passed] = {}
    for event in sorted(map(script.__getitem__, passed), key=lambda event: event.at_ms):
        if now_ms <= event.at_ms + kept_ms:
            key = f'["{event.user}","event-{event.id}"]'
            row = rows.get(key, Passed(event.at_ms + kept_ms + 1, ()))
            rows[key] = Passed(row.due_ms, (*row.times_ms, event.at_ms))
    return Outcome(passed, late, rows)


def outcome(
    script: Sequence[Sent], runs: Sequence[int], most: int, blow: tuple[Step, int] | None
) -> Outcome:
    with TemporaryDirectory() as folder:
        settings = load_settings(data_dir=Path(folder), commit_interval_ms=1)
        with Driver(DEDUPLICATION, settings, partitions=1, max_batch_records=most) as driver:
            driver.cut_input(runs)
            if blow is not None:
                driver.crash_at(*blow)
            records = [(e.user.encode(), e.value(number)) for number, e in enumerate(script)]
            driver.pipe(ORDERS, records, timestamp_ms=NOW_MS)
            while driver.workers == 0:
                driver.restart()
            if blow is None:
                counts(driver)  # law 5
            rows = driver.table(ORDERS_PASSED)
            log = driver.changelog(ORDERS_PASSED)
            assert {key: ORDERS_PASSED.decode(value) for key, value in log.items()} == rows
            sent = driver.sent(ORDERS_DEDUPLICATED.name)
            numbers = [json.loads(record.value or b"")["sent"] for record in sent]
            assert [(s.key, s.value) for s in sent] == [records[number] for number in numbers]
            late = driver.sent(DEDUPLICATION.late_records)
            return Outcome(numbers, [json.loads(r.value or b"")["sent"] for r in late], rows)


scripts = st.lists(
    st.builds(
        Sent,
        st.sampled_from(["order.created", "order.created", "order.paid"]),
        st.sampled_from(["ada", "ada", "bob"]),
        st.integers(1, 3),
        # Around what an hour and five minutes make, to the millisecond; and jumps.
        st.integers(0, 40).map(lambda fives: fives * 5)
        | st.floats(0, 200).map(lambda minutes: round(minutes * 2) / 2)
        | st.sampled_from([60 + 1 / MINUTE_MS, 65 + 1 / MINUTE_MS, 125 + 1 / MINUTE_MS, 1_000.0]),
    ),
    max_size=30,
)
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


@given(
    script=scripts,
    runs=st.lists(st.integers(1, 7), max_size=3),
    most=st.integers(1, 40),
    fired=st.sampled_from([1, 2, 5_000]),
    blow=st.none() | st.tuples(steps, st.integers(1, 4)),
)
@example(
    # Passed on, repeated at the hour, passed on behind it, late, and passed on again once forgotten.
    script=[
        Sent("order.created", "ada", 1, 0),
        Sent("order.created", "ada", 1, 60),
        Sent("order.created", "ada", 1, 60 + 1 / MINUTE_MS),
        Sent("order.created", "ada", 2, 200),
        Sent("order.created", "ada", 1, 10),
        Sent("order.created", "ada", 1, 200),
    ],
    runs=[],
    most=40,
    fired=5_000,
    blow=None,
)
def test_each_event_is_passed_on_once_however_it_is_cut_and_broken_off(
    script: Sequence[Sent],
    runs: Sequence[int],
    most: int,
    fired: int,
    blow: tuple[Step, int] | None,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed_part, "FIRED_AT_ONCE", fired)
        assert outcome(script, runs, most, blow) == expected(script)
