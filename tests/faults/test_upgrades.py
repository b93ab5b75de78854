"""Rolling upgrades: what an earlier release left is gone on with, what a newer one left is left alone."""

import re
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from rocksdict import Rdict

from demo.readback import INPUTS
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.store import StoreMemory
from tests.faults.conftest import StartTrial
from tests.faults.trial import APPLICATION, Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until

_DEADLINE_S = 120.0
_POSITION = b"\x00position"
# What the release before wrote, and all that it wrote.
_EARLIER_POSITION = ("partitions", "changelogs", "sources", "commit", "written_at_ms", "format")
_EARLIER_NOTE = ("stream_times", "commit")


@pytest.mark.timeout(600)
async def test_state_of_the_release_before_is_gone_on_with_and_that_of_a_newer_one_left_alone(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        await trial.produce(12_000)
        [worker] = trial.start_workers(1)
        await trial.done(0.3)
        await trial.hit("upgrade from the release before")
        worker.kill()
        _rewrite_stores(worker, {})
        await _rewrite_notes(trial, {})
        worker.start()
        await trial.check()
        assert "rebuilt" not in worker.said()

        before = await until(trial.progress)
        await trial.produce(1_000)
        await trial.hit("a store of a newer release")
        newer = _rewrite_stores(worker, {"format": 99})
        worker.start()
        line = await worker.refuses(deadline_s=_DEADLINE_S)
        assert re.search(r"trial/orders-\d was written by a newer release \(format 99", line)
        assert _positions(worker) == newer
        _rewrite_stores(worker, {"format": 1})
        await trial.hit("offsets of a newer release")
        await _rewrite_notes(trial, {"format": 99})
        worker.start()
        assert "offsets were committed by a newer release" in await worker.refuses(
            deadline_s=_DEADLINE_S
        )
        assert (await until(trial.progress)).committed == before.committed

        await _rewrite_notes(trial, {"format": 1})
        worker.start()
        await trial.check()


def _rewrite_stores(worker: WorkerProcess, more: dict[str, Any]) -> list[dict[str, Any]]:
    """Make the positions in a worker's stores those of the release before, and `more`."""
    for path in sorted(worker.state.glob("orders-*")):
        store = Rdict(str(path), StoreMemory().options())
        told = msgspec.json.decode(store[_POSITION] or b"")
        store[_POSITION] = msgspec.json.encode({k: told[k] for k in _EARLIER_POSITION} | more)
        for key in store.keys(from_key=b"\x00begin"):
            if isinstance(key, bytes) and key.startswith((b"\x00begin", b"\x00link")):
                del store[key]
        store.close()
    return _positions(worker)


def _positions(worker: WorkerProcess) -> list[dict[str, Any]]:
    found = []
    for path in sorted(worker.state.glob("orders-*")):
        store = Rdict(str(path), StoreMemory().options())
        found.append(msgspec.json.decode(store[_POSITION] or b""))
        store.close()
    return found


async def _rewrite_notes(trial: Trial, more: dict[str, Any]) -> None:
    """Make the notes beside the group's offsets those of the release before, and `more`."""
    inputs = [TopicPartition(topic, n) for topic in INPUTS for n in range(trial.partitions)]
    cluster = KafkaCluster(KafkaOptions(client=trial.client, group=APPLICATION))
    await cluster.start()
    found = await cluster.committed(inputs)
    await cluster.stop()
    earlier = {}
    for tp, committed in found.items():
        told = msgspec.json.decode(committed.metadata)
        noted = {k: told[k] for k in _EARLIER_NOTE if k in told} | more
        earlier[tp] = OffsetAndMetadata(committed.offset, msgspec.json.encode(noted).decode())
    consumer = AIOKafkaConsumer(**trial.client, group_id=APPLICATION, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(list(earlier))

    async def is_committed() -> bool:
        try:
            await consumer.commit(earlier)
        except KafkaError:  # the group still waits for the member that was killed
            return False
        return True

    try:
        await until(is_committed, deadline_s=_DEADLINE_S)
    finally:
        await consumer.stop()
