"""Laws 1 to 3 for a join by foreign key whose rows meet where the key lies: nothing is lost on the way.

The oracle joins the two tables as they are when all is done. What is told before that hangs on who
comes first, as in Kafka Streams; each of it must be something that was so.
"""

import json
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.declared import stream
from streams.engine.definitions import Topic, Topology
from streams.engine.failpoints import Step, disarm
from streams.events import Envelope
from streams.operators.stream_table import TableJoinKind
from streams.operators.table_table import Change
from streams.testing import Driver
from tests.flows.stories import NOW_MS
from tests.laws.test_crashes import Blow, blows
from tests.laws.test_key_by import settle
from tests.laws.world import Cuts, cuts

PARTITIONS = 3


class Named(msgspec.Struct, frozen=True):
    n: int | None
    names: str | None = None


class LeftPut(Envelope, frozen=True, kw_only=True, tag="left.put"):
    data: Named


class RightPut(Envelope, frozen=True, kw_only=True, tag="right.put"):
    data: Named


class Told(msgspec.Struct, frozen=True, tag="told", tag_field="event_type"):
    event_id: str
    timestamp: int
    key: str
    left: int | None
    right: int | None


_key = attrgetter("aggregate_id")
LEFTS = Topic("lefts", (LeftPut,), key=_key)
RIGHTS = Topic("rights", (RightPut,), key=_key)
OUT = Topic("out", (Told,), key=attrgetter("key"))


def told(change: Change[LeftPut, RightPut]) -> Told:
    return Told(
        f"{change.event.event_id}:{change.key}",
        change.time_ms,
        change.key,
        None if change.left is None else change.left.data.n,
        None if change.right is None else change.right.data.n,
    )


def is_deletion(event: Any) -> bool:
    return event.data.n is None


def topology(kind: TableJoinKind) -> Topology:
    joined = stream(LEFTS, LeftPut).join_by_foreign_key(
        stream(RIGHTS, RightPut),
        key=_key,
        foreign_key=attrgetter("data.names"),
        right_key=_key,
        deletes=is_deletion,
        right_deletes=is_deletion,
        kind=kind,
    )
    return Topology(joined.to("joined_rows", OUT, told), dead_letters="dead-letters")


TOPOLOGIES: dict[TableJoinKind, Topology] = {"inner": topology("inner"), "left": topology("left")}


class Line(NamedTuple):
    topic: Topic
    key: str
    n: int | None
    names: str | None
    at_ms: int

    def record(self, number: int) -> tuple[bytes, bytes]:
        event = {
            "event_id": f"event-{number}",
            "event_type": "left.put" if self.topic is LEFTS else "right.put",
            "aggregate_id": self.key,
            "timestamp": NOW_MS + self.at_ms,
            "data": {"n": None if self.n is None else number, "names": self.names},
        }
        return self.key.encode(), json.dumps(event).encode()

    @property
    def partition(self) -> int:
        """Return where it goes: a right one by its key's hash, a left one to any, the same for a key."""
        if self.topic is RIGHTS:
            return crc32(self.key.encode()) % PARTITIONS
        return ord(self.key[0]) % PARTITIONS


lines = st.one_of(
    st.builds(
        Line,
        st.just(LEFTS),
        st.sampled_from("klm"),
        st.none() | st.just(1),
        st.none() | st.sampled_from(["a", "b", "c", "k", "nowhere"]),
        st.integers(0, 30),
    ),
    st.builds(
        Line,
        st.just(RIGHTS),
        st.sampled_from("abck"),
        st.none() | st.just(1),
        st.none(),
        st.integers(0, 30),
    ),
)


def rows_at_the_end(kind: TableJoinKind, script: Sequence[Line]) -> dict[str, Any]:
    lefts: dict[str, tuple[int, str | None]] = {}
    rights: dict[str, int] = {}
    for number, line in enumerate(script):
        of: dict[str, Any] = lefts if line.topic is LEFTS else rights
        of.pop(line.key, None)
        if line.n is not None:
            of[line.key] = (number, line.names) if line.topic is LEFTS else number
    joined = {key: (n, rights.get(names or "")) for key, (n, names) in lefts.items()}
    return {key: row for key, row in joined.items() if kind == "left" or row[1] is not None}


@pytest.mark.parametrize("kind", TOPOLOGIES)
@given(
    portions=st.lists(st.lists(lines, max_size=12), min_size=1, max_size=3),
    cut=cuts,
    blow=blows(st.sampled_from(Step)),
)
def test_rows_are_joined_with_what_they_name_wherever_that_is(
    kind: TableJoinKind, portions: Sequence[Sequence[Line]], cut: Cuts, blow: Blow
) -> None:
    script = [line for portion in portions for line in portion]
    with (
        TemporaryDirectory() as folder,
        Driver(
            TOPOLOGIES[kind],
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=PARTITIONS,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
        ) as driver,
    ):
        driver.cut_input(cut.run_lengths)
        driver.delay_answers(cut.delays)
        {"crash": driver.crash_at, "fail": driver.fail_at}[blow.kind](blow.step, blow.visit)
        number = 0
        for portion in portions:
            for line in portion:
                record = line.record(number)
                driver.pipe(
                    line.topic, [record], partition=line.partition, timestamp_ms=NOW_MS,
                    settle=False,
                )  # fmt: skip
                number += 1
            settle(driver)
        disarm()
        assert driver.sent("dead-letters") == []
        sent = driver.sent(OUT.name)
    rows: dict[str, Any] = {}
    ids = set()
    for one in sent:
        change = msgspec.json.decode(one.value or b"", type=Told)
        assert one.partition == ord(change.key[0]) % PARTITIONS  # where the left record was
        ids.add(change.event_id)
        if change.left is None:
            assert change.right is None
            del rows[change.key]  # no deletion of nothing
            continue
        rows[change.key] = change.left, change.right
        left = script[change.left]
        assert (left.topic, left.key) == (LEFTS, change.key)
        if change.right is not None:
            right = script[change.right]
            assert (right.topic, right.key) == (RIGHTS, left.names)
    assert rows == rows_at_the_end(kind, script)
    assert len(ids) == len(sent)
