"""Three brokers, replication 3, min.insync.replicas 2: some of them, or all, are killed under load."""

import asyncio
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError

from demo.readback import INPUTS
from streams.broker import EmbeddedKafka
from tests.faults.conftest import StartTrial, is_long
from tests.faults.trial import APPLICATION, Trial
from tests.faults.workers import WorkerProcess
from tests.waiting import until

BROKERS = 3
KILLS_A_ROLE, LONG_KILLS_A_ROLE = 1, 5
# The long one is beyond Kafka's time-out for transactions (60 s).
DOWN_S, LONG_DOWN_S = 18.0, 70.0


class Role(StrEnum):
    """What a broker is for the application."""

    LEADER = "leader of an input"
    GROUP = "coordinator of the group"
    TRANSACTIONS = "coordinator of transactions"
    CONTROLLER = "controller of the cluster"


@pytest.fixture
def three_brokers(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    # Three Javas that come back while all else goes on take their time on a small machine.
    with EmbeddedKafka(tmp_path / "kafka", brokers=BROKERS, start_timeout_s=180) as kafka:
        yield kafka


@pytest.mark.timeout(500 * LONG_KILLS_A_ROLE)
async def test_killed_brokers_lose_and_double_nothing(
    start_trial: StartTrial, three_brokers: EmbeddedKafka, seed: int
) -> None:
    async with start_trial(seed, kafka=three_brokers, replication_factor=3) as trial:
        trial.start_workers(2)
        async with trial.load(600):
            await trial.done(0.1)
            kills = LONG_KILLS_A_ROLE if is_long(seed) else KILLS_A_ROLE
            for role in kills * trial.chance.sample(list(Role), len(Role)):
                broker = await _broker_of(role, trial)
                await trial.hit(f"kill -9 of the {role}")
                trial.kafka.kill(broker)
                await trial.goes_on()
                await asyncio.to_thread(trial.kafka.start_broker, broker)
                await _all_in_sync(trial)
        await trial.check()


@pytest.mark.timeout(400)
async def test_an_outage_of_all_brokers_loses_and_doubles_nothing(
    start_trial: StartTrial, three_brokers: EmbeddedKafka, seed: int
) -> None:
    async with start_trial(seed, kafka=three_brokers, replication_factor=3) as trial:
        await trial.produce(30_000)
        workers = trial.start_workers(2)
        await trial.done(trial.chance.uniform(0.05, 0.4))
        for worker in workers:  # what is begun is not ended while the brokers die one by one
            worker.pause()
        await trial.hit("kill -9 of all brokers")
        for broker in range(BROKERS):
            trial.kafka.kill(broker)
        for worker in workers:
            worker.resume()
        began_s = time.monotonic()

        late = trial.new_worker()
        late.start()
        assert await _ends_by_itself(late) == 1
        said = f"headrace: no Kafka broker at {trial.kafka.bootstrap} answered within 15 s"
        assert said in late.said()
        down_s = LONG_DOWN_S if is_long(seed) else DOWN_S
        await asyncio.sleep(down_s - (time.monotonic() - began_s))  # the fault itself
        late.start()  # as whoever watches over it does
        assert [w.is_alive() for w in trial.workers] == [True] * 3
        starts = (asyncio.to_thread(trial.kafka.start_broker, n) for n in range(BROKERS))
        await asyncio.gather(*starts)
        await trial.done()
        await trial.produce(5_000)
        await trial.check()


async def _ends_by_itself(worker: WorkerProcess) -> int:
    return await asyncio.to_thread(worker.process.wait, 60)


async def _broker_of(role: Role, trial: Trial) -> int:
    """Return the broker that has a role now."""

    async def found() -> tuple[int] | None:  # a tuple, since broker 0 is false
        try:
            broker = await _told(role, trial)
        except KafkaError:
            return None
        return None if broker is None or broker < 0 else (broker,)

    return (await until(found, deadline_s=60))[0]


async def _told(role: Role, trial: Trial) -> int | None:
    if role is Role.CONTROLLER:
        return _controller(trial)
    client = AIOKafkaClient(**trial.client)
    await client.bootstrap()
    try:
        if role is Role.LEADER:
            await client.force_metadata_update()
            partition = trial.chance.randrange(trial.partitions)
            tp = TopicPartition(trial.chance.choice(INPUTS), partition)
            leader: int | None = client.cluster.leader_for_partition(tp)
            return leader
        kind, key = (
            (CoordinationType.GROUP, APPLICATION)
            if role is Role.GROUP
            else (CoordinationType.TRANSACTION, f"{APPLICATION}-orders-0")
        )
        return int(await client.coordinator_lookup(kind, key))
    finally:
        await client.close()


def _controller(trial: Trial) -> int:
    """Return the quorum's leader: of what the nodes last noted, the newest."""
    noted = (trial.folder / "kafka").glob("broker-*/data/__cluster_metadata-0/quorum-state")
    states = [msgspec.json.decode(path.read_bytes()) for path in noted]
    newest = max(states, key=lambda state: (state["leaderEpoch"], state["leaderId"]))
    return int(newest["leaderId"])


async def _all_in_sync(trial: Trial) -> None:
    """Return once every partition of the cluster has all its replicas."""

    async def is_whole() -> bool:
        admin = AIOKafkaAdminClient(**trial.client)
        try:
            await admin.start()
            topics = await admin.describe_topics()
        except KafkaError:
            return False
        finally:
            await admin.close()
        return all(len(p["isr"]) == BROKERS for topic in topics for p in topic["partitions"])

    await until(is_whole, deadline_s=120)
