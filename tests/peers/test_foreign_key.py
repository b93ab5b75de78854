"""A join by foreign key whose rows go to where the key lies, beside Kafka Streams, which does so as well.

Each record is piped when what came of the one before has come to rest. See test_tables.py.
"""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest

from config.settings import load_settings
from streams.declared import stream
from streams.engine.definitions import Topic, Topology
from streams.events import Envelope
from streams.operators.table_table import Change
from streams.testing import Driver
from tests.peers.table_peers import TableResult, TableRun, foreign_key, runs_of
from tests.peers.test_tables import (
    last_of_each,
    untimed,
    without_deletions_of_nothing,
    without_idle,
)

PARTITIONS = 2


class Data(msgspec.Struct, frozen=True):
    value: int | None


class LeftPut(Envelope, frozen=True, kw_only=True, tag="left.put"):
    data: Data


class RightPut(Envelope, frozen=True, kw_only=True, tag="right.put"):
    data: Data


class Told(msgspec.Struct, frozen=True, tag="told", tag_field="event_type"):
    event_id: str
    timestamp: int
    key: str
    left: int | None
    right: int | None


_key = attrgetter("aggregate_id")
LEFT, RIGHT = Topic("left", (LeftPut,), key=_key), Topic("right", (RightPut,), key=_key)
OUT = Topic("out", (Told,), key=attrgetter("key"))


def told(change: Change[LeftPut, RightPut]) -> Told:
    left = None if change.left is None else change.left.data.value
    right = None if change.right is None else change.right.data.value
    return Told(change.event.event_id, change.time_ms, change.key, left, right)


def is_deletion(event: Any) -> bool:
    return event.data.value is None


def named_by(event: LeftPut) -> str | None:
    assert event.data.value is not None
    return foreign_key(event.data.value)


def results(run: TableRun, folder: Path) -> list[TableResult]:
    assert run.case.kind != "outer"
    joined = stream(LEFT, LeftPut).join_by_foreign_key(
        stream(RIGHT, RightPut),
        key=_key,
        foreign_key=named_by,
        right_key=_key,
        deletes=is_deletion,
        right_deletes=is_deletion,
        kind=run.case.kind,
    )
    topology = Topology(joined.to("joined_rows", OUT, told), dead_letters="dead-letters")
    settings = load_settings(data_dir=folder, commit_interval_ms=1)
    found: list[TableResult] = []
    with Driver(topology, settings, partitions=PARTITIONS) as driver:
        for number, record in enumerate(run.records):
            event = {
                "event_id": str(number),
                "event_type": f"{record.topic}.put",
                "aggregate_id": record.key,
                "timestamp": record.timestamp,
                "data": {"value": record.value},
            }
            topic, key = (LEFT if record.topic == "left" else RIGHT), record.key.encode()
            before = len(driver.sent(OUT.name))
            driver.pipe(
                topic, [(key, json.dumps(event).encode())], partition=crc32(key) % PARTITIONS
            )
            sent = [msgspec.json.decode(o.value or b"", type=Told) for o in driver.sent(OUT.name)]
            new = [one for one in sent if one.event_id == str(number)]
            assert len(sent) == before + len(new)
            found += [
                TableResult(number, one.key, one.left, one.right, one.timestamp) for one in new
            ]
    return found


# Two of six, as each takes seconds; tests/peers/test_tables.py has the operator on all of them.
RUNS = [run for run in runs_of("foreign-key") if run.id.endswith(("inner/seed-1", "left/seed-3"))]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.id)
def test_each_record_changes_what_it_changes_there(run: TableRun, tmp_path: Path) -> None:
    there = without_idle(last_of_each(without_deletions_of_nothing(run)))
    ours = results(run, tmp_path)
    assert untimed(last_of_each(ours)) == untimed(there)
    assert ours == without_idle(ours)
