"""What stops a worker stops it with one clear line, status 1, and nothing lost."""

import uuid
from pathlib import Path

import pytest

from demo.oracle import diff, expect
from demo.readback import INPUTS
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.store import Store
from tests.faults.outcomes import (
    DERIVED,
    ends,
    fill,
    read_input,
    read_outcome,
    wait_until_done,
)
from tests.faults.workers import WorkerProcess


@pytest.fixture
def application_id() -> str:
    return f"refusals-{uuid.uuid4().hex[:8]}"


async def ends_by_itself(worker: WorkerProcess, deadline_s: float = 45) -> str:
    """Return the last line that the worker says before it ends with status 1."""
    status = worker.process.wait(deadline_s)
    assert status == 1, worker.said()
    lines = [line for line in worker.said().splitlines() if line.startswith("headrace:")]
    assert len(lines) == 1, worker.said()
    return lines[0]


async def test_a_broker_that_is_not_there_is_named(tmp_path: Path, application_id: str) -> None:
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id)
    worker.start()
    assert "no Kafka broker at 127.0.0.1:1" in await ends_by_itself(worker)
    assert "ERROR" not in worker.said().upper().replace("KAFKA_", "")


async def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, application_id: str) -> None:
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id, headrace_vip_orders=0)
    worker.start()
    assert "HEADRACE_VIP_ORDERS='0'" in await ends_by_itself(worker)


async def test_a_data_folder_that_cannot_be_made_is_named_before_anything_else(
    tmp_path: Path, application_id: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "state"
    # Nobody answers there: a worker that looked for Kafka first would say that.
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id, headrace_data_dir=folder)
    worker.start()
    line = await ends_by_itself(worker)
    assert line == f"headrace: HEADRACE_DATA_DIR={folder}: cannot be written: Not a directory"


async def test_topics_with_another_partition_count_than_the_state_are_refused(
    own_kafka: EmbeddedKafka, tmp_path: Path, application_id: str
) -> None:
    changelog = TopicSpec(f"{application_id}-user_orders-changelog", 3, {})
    orders = TopicSpec("orders", 4, {})
    client = {"bootstrap_servers": own_kafka.bootstrap}
    await ensure_topics(client, [orders, changelog], replication_factor=1)
    worker = WorkerProcess(tmp_path, own_kafka.bootstrap, application_id)
    worker.start()
    line = await ends_by_itself(worker)
    assert "has 3 partitions" in line
    assert "s has 4" in line


async def test_a_folder_that_another_process_holds_is_named(
    own_kafka: EmbeddedKafka, tmp_path: Path, application_id: str
) -> None:
    store = Store(tmp_path / "state" / application_id / "orders-1")
    try:
        worker = WorkerProcess(tmp_path, own_kafka.bootstrap, application_id)
        worker.start()
        line = await ends_by_itself(worker)
    finally:
        store.close()
    assert "orders-1 is held by another process" in line


async def test_a_full_disk_stops_the_worker_and_loses_nothing(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        await fill(kafka.bootstrap, 4, 40_000, seed=3, users=20_000)
        everything = await ends(kafka.bootstrap, INPUTS, 4)
        worker = WorkerProcess(tmp_path / "worker", kafka.bootstrap, "full")
        # No file may grow beyond 50 kB: what a full disk is to RocksDB's log.
        worker.start(largest_file_bytes=50_000)
        assert "the disk is full" in await ends_by_itself(worker)

        worker.start()
        await wait_until_done(kafka.bootstrap, "full", everything, workers=[worker], deadline_s=60)
        assert worker.end() == 0
        expected = expect(await read_input(kafka.bootstrap, 4))
        begins = dict.fromkeys(await ends(kafka.bootstrap, DERIVED, 4), 0)
        actual = await read_outcome(kafka.bootstrap, "full", begins, expected)
    assert diff(expected, actual) == []
