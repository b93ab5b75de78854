"""What happens to changelogs: a table is whole, or a worker says that it cannot be and stops."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from demo.readback import CHECKED, read_topics
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from tests.faults.conftest import StartTrial
from tests.faults.trial import APPLICATION, Trial
from tests.waiting import until, until_true

_DEADLINE_S = 120.0
_CHANGELOGS = [f"{APPLICATION}-{table}-changelog" for table in CHECKED]


@pytest.mark.timeout(600)
async def test_a_changelog_that_lost_rows_stops_whoever_needs_them_and_is_never_made_anew(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        changelog = trial.chance.choice(_CHANGELOGS)
        await trial.produce(10_000)
        [owner] = trial.start_workers(1)
        await trial.done()
        await _trim(trial, changelog)
        async with trial.load(800):
            [newcomer] = trial.start_workers(1)
            assert re.search(
                rf"changelog {changelog}-\d begins at offset \d+, and local state ends at 0",
                await newcomer.refuses(deadline_s=_DEADLINE_S),
            )
            trial.faults["a changelog trimmed beyond what a worker has"] += 1
            assert owner.is_alive()
            await _admin(trial, "delete_topics", [changelog])
            said = await owner.refuses(deadline_s=_DEADLINE_S)
        assert f"changelog {changelog} was deleted, and group {APPLICATION}" in said
        trial.faults["a changelog deleted under a running worker"] += 1
        before = await until(trial.progress)

        for worker in (owner, newcomer):
            trial.faults["a changelog deleted while no worker runs"] += 1
            worker.start()
            assert f"changelog {changelog} was deleted" in await worker.refuses(
                deadline_s=_DEADLINE_S
            )
        assert changelog not in await _admin(trial, "list_topics")
        spec = TopicSpec(changelog, trial.partitions, {"cleanup.policy": "compact"})
        await ensure_topics(trial.client, [spec], replication_factor=1)
        for worker in (owner, newcomer):
            trial.faults["a changelog made anew while no worker runs"] += 1
            worker.start()
            assert f"changelog {changelog} is not the one" in await worker.refuses(
                deadline_s=_DEADLINE_S
            )
        assert (await until(trial.progress)).committed == before.committed


@pytest.mark.timeout(600)
async def test_a_changelog_that_is_compacted_during_a_restore_gives_the_whole_table(
    start_trial: StartTrial, tmp_path: Path, seed: int
) -> None:
    busy_cleaner = {"log.cleaner.backoff.ms": "100"}
    with EmbeddedKafka(tmp_path / "kafka", properties=busy_cleaner) as kafka:
        async with start_trial(seed, kafka=kafka, users=300) as trial:
            await _compact_at_once(trial)
            await trial.produce(10_000)
            [heir] = trial.start_workers(1)
            await trial.done()
            restoring = trial.new_worker()
            async with trial.load(800):
                # It stands still in the midst of a table while that is compacted below it.
                visit = trial.chance.randrange(1, 4)
                restoring.start(headrace_failpoints=f"restore.after_run=stop@{visit}")
                await until_true(restoring.stands_still, deadline_s=_DEADLINE_S)
                await _compacted(trial)
                trial.faults["compaction to the bone, tombstones and all, during a restore"] += 1
                restoring.resume()
                heir.kill()
                await trial.done(0.9)
            await trial.check()


async def _compact_at_once(trial: Trial) -> None:
    config = {
        "cleanup.policy": "compact",  # what is not named here goes back to its default
        "segment.ms": "200",
        "min.cleanable.dirty.ratio": "0.001",
        "delete.retention.ms": "2000",
    }
    for name in _CHANGELOGS:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, config)
        await _admin(trial, "alter_configs", [resource])


async def _compacted(trial: Trial) -> None:
    """Return once most of what was written to a changelog is gone from it."""

    async def is_compacted() -> bool:
        changelog = f"{APPLICATION}-user_orders-changelog"
        found = (await read_topics(trial.client, [changelog], trial.partitions)).values()
        written = sum(int(rows[-1].offset) for rows in found)
        return sum(map(len, found)) < written // 2

    await until(is_compacted, deadline_s=_DEADLINE_S)


async def _trim(trial: Trial, changelog: str) -> None:
    """Delete the first half of each partition of a changelog, as a tool or an age limit would."""
    policy = {"cleanup.policy": "compact,delete"}
    await _admin(
        trial, "alter_configs", [ConfigResource(ConfigResourceType.TOPIC, changelog, policy)]
    )
    records = await read_topics(trial.client, [changelog], trial.partitions)
    assert all(records.values())
    halves = {
        TopicPartition(tp.topic, tp.partition): RecordsToDelete(rows[len(rows) // 2].offset + 1)
        for tp, rows in records.items()
    }
    await _admin(trial, "delete_records", halves)


async def _admin(trial: Trial, method: str, *args: object) -> Sequence[str]:
    admin = AIOKafkaAdminClient(**trial.client)
    await admin.start()
    try:
        answer: Sequence[str] = await getattr(admin, method)(*args)
    finally:
        await admin.close()
    return answer
