"""An epoch whose commit was in doubt counts if its offsets and its number are the committed ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.engine import counting
from streams.engine.clock import SystemClock
from streams.engine.config import EngineConfig
from streams.engine.definitions import Flow, Topology
from streams.engine.epoch import Counts, Epoch
from streams.engine.layout import subtopologies
from streams.engine.meters import Meters
from streams.engine.records import TopicPartition
from streams.engine.task import Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.topics import ORDERS
from tests.scraped import Scraped

INPUT = TopicPartition("orders", 0)


@pytest.fixture
async def task(tmp_path: Path) -> Task:
    """A task whose third commit, up to offset 9, got no answer."""
    flow = Flow(lambda _: None, "counts", reads=(ORDERS,))
    [subtopology] = subtopologies(Topology((flow,), dead_letters="dead-letters"))
    made = Task(
        subtopology,
        0,
        config=EngineConfig(application_id="app", data_dir=tmp_path),
        cluster=MemoryCluster(MemoryKafka(), "app", lambda: 0),
        clock=SystemClock(),
        dead_letters_topic="dead-letters",
        late_records_topic="late-records",
        meters=Meters(),
    )
    made.undecided = Epoch(positions={INPUT: 9}, number=3)
    made.undecided.counts["orders", "counts"] = Counts(processed=4)
    return made


@pytest.mark.parametrize(
    ("offset", "commit", "counted"),
    [
        (9, 3, 4),  # it happened
        (5, 2, 0),  # it did not
        (9, 2, 0),  # it did not, and would have moved no offset
        (7, 3, 0),  # the third commit is one of another owner, who came in between
    ],
)
async def test_a_commit_in_doubt_counts_if_it_is_found(
    task: Task, offset: int, commit: int, counted: int
) -> None:
    for _ in range(2):
        counting.found(task, {INPUT: offset}, commit)
        seen = Scraped(task.meters.exposition("")[0].decode())
        assert seen.of("headrace_records_in_total", topic="orders", flow="counts") == counted
        assert seen.of("headrace_commits_total") == bool(counted)
