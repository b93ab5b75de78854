"""What stops a worker stops it with one clear line, status 1, and nothing lost."""

import uuid
from pathlib import Path

import pytest

from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.engine.store import Store
from tests.faults.conftest import StartTrial
from tests.faults.workers import WorkerProcess


@pytest.fixture
def application_id() -> str:
    return f"refusals-{uuid.uuid4().hex[:8]}"


async def test_a_broker_that_is_not_there_is_named(tmp_path: Path, application_id: str) -> None:
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id)
    worker.start()
    assert "no Kafka broker at 127.0.0.1:1" in await worker.refuses()
    assert "ERROR" not in worker.said().upper().replace("KAFKA_", "")


async def test_a_setting_that_makes_no_sense_is_named(tmp_path: Path, application_id: str) -> None:
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id, headrace_vip_orders=0)
    worker.start()
    assert "HEADRACE_VIP_ORDERS='0'" in await worker.refuses()


async def test_a_data_folder_that_cannot_be_made_is_named_before_anything_else(
    tmp_path: Path, application_id: str
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "state"
    # Nobody answers there: a worker that looked for Kafka first would say that.
    worker = WorkerProcess(tmp_path, "127.0.0.1:1", application_id, headrace_data_dir=folder)
    worker.start()
    line = await worker.refuses()
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
    line = await worker.refuses()
    assert "has 3 partitions" in line
    assert "s has 4" in line


async def test_a_folder_that_another_process_holds_is_named(
    own_kafka: EmbeddedKafka, tmp_path: Path, application_id: str
) -> None:
    store = Store(tmp_path / "state" / application_id / "orders-1")
    try:
        worker = WorkerProcess(tmp_path, own_kafka.bootstrap, application_id)
        worker.start()
        line = await worker.refuses()
    finally:
        store.close()
    assert "orders-1 is held by another process" in line


@pytest.mark.timeout(300)
async def test_a_full_disk_stops_the_worker_and_loses_nothing(start_trial: StartTrial) -> None:
    async with start_trial(3, users=20_000) as trial:
        await trial.produce(40_000)
        worker = trial.new_worker()
        # No file may grow beyond 50 kB: what a full disk is to RocksDB's log.
        worker.start(largest_file_bytes=50_000)
        assert "the disk is full" in await worker.refuses()
        await trial.hit("no room on the disk for RocksDB's log")
        worker.start()
        await trial.check()
