"""Commits whose outcome nobody tells the worker, and commits that Kafka refuses."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.topology import TOPOLOGY
from tests.faults.conftest import StartProxiedTrial, StartTrial
from tests.faults.proxy import Api, Fate
from tests.faults.trial import APPLICATION, Trial
from tests.waiting import until, until_true

STEPS = (
    Api.ADD_PARTITIONS_TO_TXN,
    Api.PRODUCE,
    Api.ADD_OFFSETS_TO_TXN,
    Api.TXN_OFFSET_COMMIT,
    Api.END_TXN,
)
BEGUN_AGAIN = "begins again at its committed offsets"


@pytest.mark.timeout(400)
async def test_a_commit_of_which_a_request_or_an_answer_is_lost_counts_once(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        worker = trial.new_worker(network.bootstrap)
        worker.start()
        losses = [(api, fate) for api in STEPS for fate in (Fate.LOST, Fate.ANSWER_LOST)]
        trial.chance.shuffle(losses)
        async with trial.load(1_000):
            await trial.done(0.1)
            for api, fate in losses:
                await trial.hit(f"request {api.name} {fate}")
                trap = network.trap(api, fate)
                await asyncio.wait_for(trap.sprung.wait(), 30)
        await trial.check()


@pytest.mark.timeout(400)
async def test_a_commit_that_is_never_answered_is_given_up_and_counts_once(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed) as (trial, network):
        worker = trial.new_worker(network.bootstrap)
        worker.start()
        async with trial.load(1_000):
            await trial.done(0.1)
            unanswered = (Api.END_TXN, trial.chance.choice(STEPS))
            for api in unanswered:
                await trial.hit(f"request {api.name} {Fate.NO_ANSWER}")
                trap = network.trap(api, Fate.NO_ANSWER)
                await asyncio.wait_for(trap.sprung.wait(), 30)
            # Batches are sent once more, and Kafka knows them by their numbers.
            given_up = len([api for api in unanswered if api is not Api.PRODUCE])
            await until_true(lambda: worker.said().count(BEGUN_AGAIN) >= given_up, deadline_s=60)
        await trial.check()


@pytest.mark.timeout(400)
async def test_requests_that_arrive_during_a_later_commit_spoil_nothing(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    async with start_proxied_trial(seed, partitions=1) as (trial, network):
        trial.new_worker(network.bootstrap).start()
        async with trial.load(800):
            await trial.done(0.1)
            for api in trial.chance.sample(list(_MIDST), len(_MIDST)):
                await trial.hit(f"request {api.name} {Fate.HELD_UP}")
                late = network.trap(api, Fate.HELD_UP)
                await asyncio.wait_for(late.sprung.wait(), 30)
                # The worker gives up waiting for it, and goes on.
                await trial.goes_on()
                later = network.trap(_MIDST[api], Fate.SLOW)
                await asyncio.wait_for(later.sprung.wait(), 30)
                late.release()
                await asyncio.wait_for(late.answered.wait(), 30)
                later.release()
        await trial.check()


# At which request of a later commit the late one arrives.
_MIDST = {
    Api.END_TXN: Api.TXN_OFFSET_COMMIT,
    Api.TXN_OFFSET_COMMIT: Api.END_TXN,
    Api.ADD_PARTITIONS_TO_TXN: Api.ADD_PARTITIONS_TO_TXN,
}


@pytest.mark.timeout(400)
async def test_a_transaction_that_times_out_in_the_midst_of_a_commit_counts_once(
    start_proxied_trial: StartProxiedTrial, seed: int
) -> None:
    quickly = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}
    async with start_proxied_trial(seed, properties=quickly) as (trial, network):
        network.transaction_timeout_ms = 3_000
        # Nobody takes over meanwhile: the group waits for it.
        worker = trial.new_worker(network.bootstrap, kafka_session_timeout_ms=60_000)
        at = trial.chance.randrange(5, 14)  # of four tasks, so that one has committed
        worker.start(headrace_failpoints=f"commit.before_end=stop@{at}")
        async with trial.load(800):
            await until_true(worker.stands_still, deadline_s=60)
            await trial.hit("transaction time-out in mid-commit")
            await _nothing_is_open(trial)
            worker.resume()
            # Nobody else has its transactional ids, so this means that time-out.
            said = "transaction timeout occurred"
            await until_true(lambda: said in worker.said(), deadline_s=60)
        await trial.check()


async def _nothing_is_open(trial: Trial) -> None:
    """Return once no transaction is open in what the application writes."""
    topics = {topic.name for flow in TOPOLOGY.flows for topic in flow.outputs}
    topics |= {table.changelog(APPLICATION) for table in TOPOLOGY.tables}
    partitions = [TopicPartition(t, n) for t in topics for n in range(trial.partitions)]
    stable = AIOKafkaConsumer(**trial.client, isolation_level="read_committed")
    written = AIOKafkaConsumer(**trial.client, isolation_level="read_uncommitted")
    await stable.start()
    await written.start()
    try:

        async def is_all_stable() -> bool:
            ends = await stable.end_offsets(partitions)
            return bool(ends == await written.end_offsets(partitions))

        await until(is_all_stable, deadline_s=60)
    finally:
        await stable.stop()
        await written.stop()


@pytest.mark.timeout(400)
async def test_batches_that_kafka_refuses_stop_a_task_for_as_long_as_it_does_and_no_longer(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial:
        (worker,) = trial.start_workers(1)
        async with trial.load(800):
            await trial.done(0.1)
            await trial.hit("refused batches: too large")
            await _configure(trial, "enriched-orders", {"max.message.bytes": "300"})
            said = "topic enriched-orders refuses records of this size"
            await until_true(lambda: said in worker.said(), deadline_s=60)
            await _configure(trial, "enriched-orders", {"max.message.bytes": "1048588"})
            await trial.goes_on()
        await trial.check()


async def _configure(trial: Trial, topic: str, configs: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(**trial.client)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])
    finally:
        await admin.close()
