"""Streams that are merged and split, beside Kafka Streams: each record's results are the same.

See test_windows.py.
"""

from __future__ import annotations

import json
from operator import attrgetter
from pathlib import Path

import msgspec
import pytest

from config.settings import load_settings
from streams.declared import Stream, stream, together
from streams.engine.definitions import Topic, Topology
from streams.events import Envelope
from streams.testing import Driver
from tests.peers.table_peers import TableResult, TableRun, runs_of


class Data(msgspec.Struct, frozen=True):
    value: int


class Piped(Envelope, frozen=True, kw_only=True, tag="piped"):
    data: Data


class Told(msgspec.Struct, frozen=True, tag="told", tag_field="event_type"):
    event_id: str
    timestamp: int
    key: str
    value: int
    branch: int


LEFT, RIGHT = (Topic(name, (Piped,), key=attrgetter("aggregate_id")) for name in ("left", "right"))
OUT = Topic("out", (Told,), key=attrgetter("key"))


def of_branch(branch: Stream[Piped], number: int) -> Stream[Told]:
    return branch.map(
        lambda one: Told(one.event_id, one.timestamp, one.aggregate_id, one.data.value, number)
    )


THREES, TWOS, REST = (
    stream(LEFT, Piped)
    .merge(stream(RIGHT, Piped))
    .branch(lambda one: one.data.value % 3 == 0, lambda one: one.data.value % 2 == 0)
)
SPLIT = together(
    of_branch(THREES, 3).merge(of_branch(TWOS, 2), of_branch(REST, 1)).to("split", OUT),
)


@pytest.mark.parametrize("run", runs_of("split"), ids=lambda run: run.script)
def test_each_record_goes_where_it_goes_there(run: TableRun, tmp_path: Path) -> None:
    results: list[TableResult] = []
    topology = Topology(SPLIT, dead_letters="dead-letters")
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(topology, settings, partitions=1) as driver:
        for number, record in enumerate(run.records):
            if record.value is None:
                continue
            event = {
                "event_id": f"event-{number}",
                "event_type": "piped",
                "aggregate_id": record.key,
                "timestamp": record.timestamp,
                "data": {"value": record.value},
            }
            topic = LEFT if record.topic == "left" else RIGHT
            driver.pipe(topic, [(record.key.encode(), json.dumps(event).encode())])
            for sent in driver.read(OUT):
                told = msgspec.json.decode(sent.value or b"", type=Told)
                results.append(
                    TableResult(number, told.key, told.value, told.branch, told.timestamp)
                )
    assert results == list(run.results)
