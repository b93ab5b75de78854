"""What is processed is freed at once: the collector, which walks rarely, would find it long after."""

import gc
from pathlib import Path

import pytest

from bench.operators.inputs import records
from bench.operators.kinds import KINDS, Kind
from bench.programs.headrace_operator import flows
from config.settings import load_settings
from streams.engine.batch import Batch, Interleaved
from streams.engine.definitions import Topology
from streams.engine.turns import Slice
from streams.testing import Driver
from tests.laws.world import NOW_MS

EVENTS = 4_000


# A batch that held what held it kept a join of two tables at 300 MB, where 160 are enough.
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_operator_leaves_anything_to_the_collector(kind: Kind, tmp_path: Path) -> None:
    topology = Topology(flows(kind), dead_letters="dead-letters")
    inputs = {topic.name: topic for topic in topology.inputs}
    with Driver(topology, load_settings(data_dir=tmp_path), partitions=1) as driver:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for topic, key, value in records(kind, EVENTS, NOW_MS):
                driver.pipe(inputs[topic], [(key, value)], settle=False)
            driver.settle()
            gc.collect()
            assert not [
                each for each in gc.garbage if isinstance(each, Batch | Slice | Interleaved)
            ]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
