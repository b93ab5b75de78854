"""Versioned tables behind others: a flow passes the latest on, another joins it (docs/tables.md)."""

import json
from collections.abc import AsyncIterable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from config.settings import load_settings
from streams.declared import stream
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, RepartitionTopic, TimedTable, Topic, Topology
from streams.events import Envelope
from streams.operators.table_table import Change
from streams.operators.timed import TimedRows
from streams.operators.versioned import VersionedTable, Versions, versions_codec
from streams.testing import Driver
from tests.flows.stories import NOW_MS, KeyValue, event_of


class Named(msgspec.Struct, frozen=True):
    value: int | None
    product_id: str | None = None


class Ordered(Envelope, frozen=True, kw_only=True, tag="ordered"):
    data: Named


class Priced(Envelope, frozen=True, kw_only=True, tag="priced"):
    data: Named


class Told(msgspec.Struct, frozen=True, tag="told", tag_field="event_type"):
    event_id: str
    timestamp: int
    text: str


_key = attrgetter("aggregate_id")
ORDERED, PRICES = Topic("ordered", (Ordered,), key=_key), Topic("prices", (Priced,), key=_key)
LATEST = RepartitionTopic("latest-prices", (Priced,), key=_key)
OUT = Topic("out", (Told,), key=attrgetter("text"))
HISTORY = VersionedTable[int](history_ms=100, key=_key, value=attrgetter("data.value"))
HISTORIES = TimedTable("prices_history", *versions_codec(int))


def pass_on(events: Iterable[Priced], rows: TimedRows[Versions[int]]) -> list[Any]:
    return HISTORY.put(events, rows)


def register(app: App[Any]) -> None:
    @app.agent(PRICES)
    async def prices(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(pass_on, batch.of(Priced), HISTORIES)


def told(change: Change[Ordered, Priced]) -> Told:
    price = None if change.right is None else change.right.data.value
    return Told(change.event.event_id, change.time_ms, f"{change.key} {price}")


FLOWS = (
    Flow(register, "prices", reads=(PRICES,), keeps=HISTORIES, fires=HISTORY.fire, emits=LATEST),
    *stream(ORDERED, Ordered)
    .join_by_foreign_key(
        stream(LATEST, Priced),
        key=_key,
        foreign_key=attrgetter("data.product_id"),
        right_key=_key,
        right_deletes=lambda event: event.data.value is None,
    )
    .to("priced_orders", OUT, told),
)


def event(kind: str, key: str, at_ms: int, **data: Any) -> KeyValue:
    value = {
        "event_id": f"{kind}-{key}-{at_ms}",
        "event_type": kind,
        "aggregate_id": key,
        "timestamp": NOW_MS + at_ms,
        "data": data,
    }
    return key.encode(), json.dumps(value).encode()


#   come as     pen 1 at 10     pen 2 at 30     pen 3 at 20     pen deleted at 40       pen 4 at 35
#   latest      1               2               -               gone                    -
def test_the_latest_of_a_versioned_table_is_joined_by_foreign_key(tmp_path: Path) -> None:
    topology = Topology(FLOWS, dead_letters="dead-letters")
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(topology, settings, partitions=1) as driver:
        driver.pipe(ORDERED, [event("ordered", "o", 1, value=1, product_id="pen")])
        for at_ms, value in ((10, 1), (30, 2), (20, 3), (40, None), (35, 4)):
            driver.pipe(PRICES, [event("priced", "pen", at_ms, value=value)])
        assert driver.sent("dead-letters") == []
        texts = [event_of(sent)["text"] for sent in driver.sent(OUT.name)]
        times = [one.from_ms - NOW_MS for one in driver.table(HISTORIES)["pen"].versions]
    assert texts == ["o 1", "o 2", "o None"]
    assert times == [10, 20, 30, 35, 40]
