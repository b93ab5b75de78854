"""The flows of operators that the bench measures tell what the oracle says, on the driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.operators.inputs import placed, records
from bench.operators.kinds import KINDS, RESULTS, Kind
from bench.operators.oracle import (
    Key,
    Outcome,
    Placed,
    as_table,
    differences,
    outcomes,
    read_result,
)
from bench.programs.headrace_operator import flows
from config.settings import load_settings
from demo.generator import partition_of
from streams.engine.definitions import Topology
from streams.testing import Driver

END_MS = 1_763_715_600_000
PARTITIONS = 2
MEASURED = [kind for kind in KINDS if kind.users == 10_000]


def expected(kind: Kind, events: list[dict[str, list[Placed]]]) -> dict[Key, Outcome]:
    """Return what must come of the events of each partition."""
    if kind.is_rekeyed:
        events = [{topic: events[0][topic] + events[1][topic] for topic in kind.inputs}]
    found: dict[Key, Outcome] = {}
    for of_partition in events:
        orders, *others = of_partition.values()
        found |= outcomes(kind, orders, others[0] if others else [])
    return found


@pytest.mark.parametrize("kind", MEASURED, ids=lambda kind: kind.name)
def test_each_kind_tells_what_the_oracle_says(kind: Kind, tmp_path: Path) -> None:
    events: list[dict[str, list[Placed]]] = [
        {topic: [] for topic in kind.inputs} for _ in range(PARTITIONS)
    ]
    topology = Topology(flows(kind), dead_letters="dead-letters")
    topics = {topic.name: topic for flow in topology.flows for topic in flow.reads}
    with Driver(topology, load_settings(data_dir=tmp_path), partitions=PARTITIONS) as driver:
        for topic, key, value in records(kind, 2_000, END_MS):
            partition = partition_of(key, PARTITIONS)
            events[partition][topic].append(placed(kind, topic, value))
            driver.pipe(topics[topic], [(key, value)], partition=partition, settle=False)
        driver.settle()
        assert driver.sent("dead-letters") == []
        results = [read_result(sent.value or b"") for sent in driver.sent(RESULTS)]
    told = as_table(results) if kind.tells_changes else results
    assert len(results) > 20
    assert list(differences(expected(kind, events), told, until_ms=END_MS)) == []
