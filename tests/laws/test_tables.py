"""Laws 1, 2 and 7 for joins with tables: neither cuts nor crashes nor inputs that meet change them.

The oracle takes all events one by one, in their turns, and closes what is due after each.
"""

import json
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from heapq import merge
from itertools import accumulate, repeat
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, TimedTable, Topic, Topology
from streams.engine.failpoints import Step
from streams.events import Envelope
from streams.operators.foreign_key import ForeignKeyJoin, foreign_key_codec
from streams.operators.joins import Joined
from streams.operators.stream_table import StreamTableJoin
from streams.operators.suppression import Suppressed, Suppression, suppressed_codec
from streams.operators.table_table import Change, TableTableJoin, cells_codec
from streams.operators.timed import Fired, TimedDict, TimedRows
from streams.operators.versioned import (
    VersionedJoin,
    VersionedTable,
    Versions,
    VersionsAndWaiting,
    versioned_join_codec,
    versions_codec,
)
from streams.operators.versioned_tables import Latest, VersionedTableJoin, latest_codec
from streams.testing import Driver
from tests.flows.stories import NOW_MS

START_MS = NOW_MS - 10**9


class Data(msgspec.Struct, frozen=True):
    key: str
    value: int | None


class LeftChanged(Envelope, frozen=True, kw_only=True, tag="left.changed"):
    data: Data


class RightChanged(Envelope, frozen=True, kw_only=True, tag="right.changed"):
    data: Data


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A derived event: a result of a join."""

    event_id: str
    timestamp: int
    key: str
    left: Any
    right: Any


LEFTS = Topic("lefts", (LeftChanged,), key=attrgetter("data.key"))
RIGHTS = Topic("rights", (RightChanged,), key=attrgetter("data.key"))
NAMES = ("stream", "history", "versioned", "cells", "foreign", "suppression", "latest")
OUT = {name: Topic(f"{name}-told", (Told,), key=attrgetter("key")) for name in NAMES}


def key_of(event: Any) -> str:
    key: str = event.data.key
    return key


def value_of(event: Any) -> int | None:
    value: int | None = event.data.value
    return value


# --- the flows --------------------------------------------------------------------------------------


class Kept(msgspec.Struct, frozen=True):
    event_id: str
    timestamp: int


STREAM = StreamTableJoin[LeftChanged, int](kind="left", key=key_of)
HISTORY = VersionedTable[int](history_ms=20, key=key_of, value=value_of)
VERSIONED = VersionedJoin[Kept, int](
    kind="left",
    history_ms=20,
    grace_ms=6,
    left_key=key_of,
    right_key=key_of,
    right_value=value_of,
    keep_left=lambda event: Kept(event.event_id, event.timestamp),
)
CELLS = TableTableJoin[int, int](
    kind="outer", left_key=key_of, left_value=value_of, right_key=key_of, right_value=value_of
)
FOREIGN = ForeignKeyJoin[int, int](
    kind="left",
    left_key=key_of,
    left_value=value_of,
    foreign_key=lambda value: (None, "a", "b")[value],
    right_key=key_of,
    right_value=value_of,
)
SUPPRESSION = Suppression[Told](
    limit_ms=8,
    key=key_of,
    keep=lambda event: Told(
        event_id=f"{event.event_id}:suppressed",
        timestamp=event.timestamp,
        key=event.data.key,
        left=event.data.value,
        right=None,
    ),
)
LATEST = VersionedTableJoin[int, int](
    kind="outer",
    history_ms=20,
    left_key=key_of,
    left_value=value_of,
    right_key=key_of,
    right_value=value_of,
)
VersionedRow = VersionsAndWaiting[Kept, int]
RIGHT_ROWS: Table[int] = Table("right_rows", msgspec.json.encode, msgspec.json.Decoder(int).decode)
HISTORY_ROWS = TimedTable("history_rows", *versions_codec(int))
VERSIONED_ROWS = TimedTable(
    "versioned_rows", *versioned_join_codec(Kept, int), in_order_ms=VERSIONED.in_order_ms
)
CELL_ROWS = Table("cell_rows", *cells_codec(int, int))
FOREIGN_ROWS = Table("foreign_rows", *foreign_key_codec(int, int))
LATEST_ROWS = TimedTable("latest_rows", *latest_codec(int, int), in_order_ms=0)
# Of two changes of a key the one that comes later is told, however late: the order of inputs shows.
SUPPRESSED_ROWS = TimedTable("suppressed_rows", *suppressed_codec(Told), in_order_ms=0)


def keep_rights(events: Iterable[RightChanged], rows: MutableMapping[str, int]) -> None:
    for event in events:
        if event.data.value is None:
            rows.pop(event.data.key, None)
        else:
            rows[event.data.key] = event.data.value


def join_stream(events: Iterable[LeftChanged], rows: Mapping[str, int]) -> Iterator[Told]:
    for event, right in STREAM.join(events, rows):
        kept = Kept(event.event_id, event.timestamp)
        yield from versioned_told([Joined(event.data.key, kept, right)])


def keep_history(events: Iterable[Any], rows: TimedRows[Versions[int]]) -> list[Told]:
    return [
        Told(
            event_id=f"{event.event_id}:latest",
            timestamp=event.timestamp,
            key=event.data.key,
            left=None,
            right=event.data.value,
        )
        for event in HISTORY.put(events, rows)
    ]


def versioned_left(events: Iterable[Any], rows: TimedRows[VersionedRow]) -> list[Told]:
    return versioned_told(VERSIONED.add_left(events, rows))


def versioned_right(events: Iterable[Any], rows: TimedRows[VersionedRow]) -> None:
    VERSIONED.add_right(events, rows)


def versioned_fire(key: str, row: VersionedRow, now_ms: int) -> Fired[VersionedRow, Told]:
    left, joined = VERSIONED.fire(key, row, now_ms)
    return left, versioned_told(joined)


def versioned_told(joined: Iterable[Joined[Kept, int]]) -> list[Told]:
    return [
        Told(
            event_id=f"{left.event_id}:joined",
            timestamp=left.timestamp,
            key=key,
            left=left.event_id,
            right=right,
        )
        for key, left, right in joined
        if left is not None
    ]


def changes(of: Iterable[Change[int, int]]) -> list[Told]:
    return [
        Told(
            event_id=f"{one.event.event_id}:changed:{one.key}",
            timestamp=one.time_ms,
            key=one.key,
            left=one.left,
            right=one.right,
        )
        for one in of
    ]


def cells_left(events: Iterable[Any], rows: Any) -> list[Told]:
    return changes(CELLS.add_left(events, rows))


def cells_right(events: Iterable[Any], rows: Any) -> list[Told]:
    return changes(CELLS.add_right(events, rows))


def foreign_left(events: Iterable[Any], rows: Any) -> list[Told]:
    return changes(FOREIGN.add_left(events, rows))


def foreign_right(events: Iterable[Any], rows: Any) -> list[Told]:
    return changes(FOREIGN.add_right(events, rows))


def suppress(events: Iterable[Any], rows: TimedRows[Suppressed[Told]]) -> None:
    SUPPRESSION.add(events, rows)


def latest_left(events: Iterable[Any], rows: TimedRows[Latest[int, int]]) -> list[Told]:
    return changes(LATEST.add_left(events, rows))


def latest_right(events: Iterable[Any], rows: TimedRows[Latest[int, int]]) -> list[Told]:
    return changes(LATEST.add_right(events, rows))


RULES: dict[str, dict[Topic, Any]] = {
    "rights": {RIGHTS: keep_rights},
    "stream": {LEFTS: join_stream},
    "history": {RIGHTS: keep_history},
    "versioned": {RIGHTS: versioned_right, LEFTS: versioned_left},
    "cells": {RIGHTS: cells_right, LEFTS: cells_left},
    "foreign": {RIGHTS: foreign_right, LEFTS: foreign_left},
    "suppression": {RIGHTS: suppress, LEFTS: suppress},
    "latest": {RIGHTS: latest_right, LEFTS: latest_left},
}


def flow(name: str, table: Table[Any], **touches: Any) -> Flow:
    """Return a flow whose rules, one an input, all use one table; it emits to its topic of OUT."""

    def register(app: App[Any]) -> None:
        for topic, rule in RULES[name].items():
            app.agent(topic)(agent_of(name, rule, table))

    reads = tuple(RULES[name])
    return Flow(register, name, reads=reads, emits=OUT.get(name), **touches)


def agent_of(name: str, rule: Any, table: Table[Any]) -> Any:
    async def agent(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(rule, batch.all(), table)

    agent.__name__ = name
    return agent


VERSIONED_FLOW = flow("versioned", VERSIONED_ROWS, keeps=VERSIONED_ROWS, fires=versioned_fire)
TOPOLOGIES = {
    "stream": (
        flow("rights", RIGHT_ROWS, keeps=RIGHT_ROWS),
        flow("stream", RIGHT_ROWS, joins=(RIGHT_ROWS,)),
    ),
    "history": (flow("history", HISTORY_ROWS, keeps=HISTORY_ROWS, fires=HISTORY.fire),),
    # By itself: beside flows that show the order of their inputs, each step would be a single turn.
    "versioned": (VERSIONED_FLOW,),
    "cells": (flow("cells", CELL_ROWS, keeps=CELL_ROWS),),
    "foreign": (flow("foreign", FOREIGN_ROWS, keeps=FOREIGN_ROWS),),
    "suppression": (
        flow("suppression", SUPPRESSED_ROWS, keeps=SUPPRESSED_ROWS, fires=SUPPRESSION.fire),
    ),
    "latest": (flow("latest", LATEST_ROWS, keeps=LATEST_ROWS, fires=LATEST.fire),),
}

# --- scripts, and what comes of them ----------------------------------------------------------------


class Line(NamedTuple):
    topic: Topic
    key: str
    value: int | None
    at_ms: int

    def event(self, number: int) -> dict[str, Any]:
        return {
            "event_id": f"event-{number}",
            "event_type": self.topic.events[0].__struct_config__.tag,
            "aggregate_id": self.key,
            "timestamp": START_MS + self.at_ms,
            "data": {"key": self.key, "value": self.value},
        }


class Outcome(NamedTuple):
    told: list[dict[str, Any]]
    rows: dict[str, Any]
    late: list[str]


def outcome(
    name: str, script: Sequence[Line], runs: Sequence[int], most: int, blow: tuple[Step, int] | None
) -> Outcome:
    topology = Topology(TOPOLOGIES[name], dead_letters="dead-letters")
    with (
        TemporaryDirectory() as folder,
        Driver(
            topology,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=1,
            max_batch_records=most,
        ) as driver,
    ):
        driver.cut_input(runs)
        if blow is not None:
            driver.crash_at(*blow)
        for number, line in enumerate(script):
            if line.topic not in topology.inputs:
                continue
            record = (line.key.encode(), json.dumps(line.event(number)).encode())
            driver.pipe(line.topic, [record], timestamp_ms=NOW_MS, settle=False)
        driver.settle()
        while driver.workers == 0:
            driver.restart()
        [table] = topology.tables
        rows = driver.table(table)
        assert {k: table.decode(v) for k, v in driver.changelog(table).items()} == rows
        late = [] if not topology.tells_late else driver.sent(topology.late_records)
        return Outcome(
            [json.loads(record.value or b"") for record in driver.sent(OUT[name].name)],
            rows,
            sorted(json.loads(record.value or b"")["event_id"] for record in late),
        )


def in_turn(script: Sequence[Line]) -> list[tuple[Topic, Any]]:
    """Return the events as their turns come (law 9), those of the table first on ties."""
    queues = []
    for rank, topic in enumerate((RIGHTS, LEFTS)):
        lines = [(n, line) for n, line in enumerate(script) if line.topic is topic]
        events = [msgspec.convert(line.event(n), topic.events[0]) for n, line in lines]
        turns = accumulate((event.timestamp for event in events), max)
        queues.append(zip(turns, repeat(rank), range(len(events)), repeat(topic), events))
    return [(topic, event) for *_, topic, event in merge(*queues, key=lambda turn: turn[:3])]


def expected(name: str, script: Sequence[Line]) -> Outcome:
    rows: TimedDict[Any] = TimedDict()
    told: list[Told] = []
    for topic, event in in_turn(script):
        if any(topic in flow_of.reads for flow_of in TOPOLOGIES[name]):
            rows.now_ms = max(rows.now_ms, event.timestamp)
        for flow_of in TOPOLOGIES[name]:
            if topic in RULES[flow_of.name]:
                told += RULES[flow_of.name][topic]([event], rows) or ()
        for flow_of in TOPOLOGIES[name]:
            if flow_of.fires is not None and topic in flow_of.reads:
                told += rows.fire(flow_of.fires)
    late = sorted(each.event.event_id for each in rows.late)
    return Outcome([msgspec.to_builtins(one) for one in told], dict(rows), late)


lines = st.builds(
    Line,
    st.sampled_from([LEFTS, RIGHTS]),
    st.sampled_from("abb"),
    st.none() | st.integers(0, 2),
    st.integers(0, 60) | st.sampled_from([0, 6, 7, 20, 21, 400]),
)


def in_some_order(told: Outcome) -> Outcome:
    """Return an outcome whose order of what was told does not count.

    What a versioned join tells at once and what it tells when it is due come in batches of their own.
    """
    return told._replace(told=sorted(told.told, key=lambda one: str(one["event_id"])))


def by_key(told: Outcome) -> Outcome:
    """Return an outcome in which the order of what was told of one key counts, and of no other.

    Changes that are late by the limit are due as they come, with what is due then anyway, by key.
    """
    return told._replace(told=sorted(told.told, key=lambda one: str(one["key"])))


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


@pytest.mark.parametrize("name", NAMES)
@given(
    script=st.lists(lines, max_size=30)
    | st.lists(lines, max_size=30).map(lambda script: sorted(script, key=lambda line: line.at_ms)),
    runs=st.lists(st.integers(1, 7), max_size=3),
    most=st.integers(1, 40),
    blow=st.none() | st.tuples(steps, st.integers(1, 4)),
)
@example(
    # What is put when the left one is due, 6 behind, does not count for it: all in one batch.
    script=[
        Line(LEFTS, "a", 1, 10),
        Line(RIGHTS, "a", 1, 16),
        Line(RIGHTS, "a", 2, 9),
        Line(LEFTS, "b", 1, 100),
        Line(RIGHTS, "b", 1, 100),
    ],
    runs=[],
    most=40,
    blow=None,
)
def test_joins_with_tables_are_the_same_however_they_are_cut_and_broken_off(
    name: str,
    script: Sequence[Line],
    runs: Sequence[int],
    most: int,
    blow: tuple[Step, int] | None,
) -> None:
    found, ours = outcome(name, script, runs, most, blow), expected(name, script)
    if name == "versioned":
        found, ours = in_some_order(found), in_some_order(ours)
    elif name == "suppression":
        found, ours = by_key(found), by_key(ours)
    assert found == ours
