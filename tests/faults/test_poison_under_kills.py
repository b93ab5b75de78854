"""Every kind of poison, and values of 10 MB among them, while workers are killed at random."""

import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from demo.generator import OrderGenerator, TopicKeyValue
from demo.poison import ORDERS, USERS, Subject, event, padded_order
from demo.readback import INPUTS
from tests.faults.conftest import StartTrial
from tests.faults.trial import Trial
from tests.faults.workers import WorkerProcess
from tests.poisoned import traffic

LARGE_BYTES = 10 << 20
ROOMY = {"retention.ms": "-1", "max.message.bytes": str(16 << 20)}
LARGEST_KB = 600_000
"""Of memory: less than the 1 GiB that docs/operations.md asks for. Seen: 250,000."""


@pytest.mark.timeout(400)
async def test_poison_and_large_values_end_where_the_contract_says_whoever_is_killed(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed, users=500) as trial:
        await make_room(trial)
        await trial.send(mixed(trial))
        workers = trial.start_workers(2)
        peaks = []
        for share in sorted(trial.chance.uniform(0.05, 0.8) for _ in range(3)):
            await trial.done(share)
            victim = trial.chance.choice(workers)
            await trial.hit("kill -9 among poison and values of 10 MB")
            peaks.append(peak_kb(victim))
            victim.kill()
            victim.start()
        await trial.done()
        peaks += map(peak_kb, workers)
        expected = await trial.check()
        assert {
            "undecodable",
            "invalid-field",
            "too-large",
            "key-mismatch",
            "timestamp-ahead",
        } <= set(expected.refused)
        assert max(peaks) < LARGEST_KB


async def make_room(trial: Trial) -> None:
    """Let the inputs take what is far too large to be derived from."""
    admin = AIOKafkaAdminClient(**trial.client)
    await admin.start()
    try:
        await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, ROOMY) for topic in INPUTS]
        )
    finally:
        await admin.close()


def mixed(trial: Trial) -> Iterator[TopicKeyValue]:
    """Yield the poison table and large values, at random places in the life of others."""
    now_ms = time.time_ns() // 1_000_000
    life = OrderGenerator(trial.seed, users=500, poison_share=0.02).records(now_ms)
    odd = list(traffic(now_ms))
    large = list(large_values(trial, now_ms))
    while odd or large:
        yield from islice(life, trial.chance.randint(100, 1_500))
        taken = trial.chance.randint(50, 400)
        yield from odd[:taken]
        del odd[:taken]
        yield from (large.pop() for _ in range(min(len(large), 2)))
    yield from islice(life, 5_000)


def large_values(trial: Trial, now_ms: int) -> Iterator[TopicKeyValue]:
    """Yield valid and invalid records of 10 MB, in any order: some compress well, some do not."""
    made: list[TopicKeyValue] = []
    for number in range(2):
        user = b"user-%d" % trial.chance.randrange(500)
        subject = Subject(b"large-%d" % number, user, now_ms)
        noise = trial.chance.randbytes(LARGE_BYTES // 2).hex().encode()
        note = {"note": b'"%b"' % noise}
        made += [
            (ORDERS, user, noise),
            (ORDERS, *padded_order(subject, LARGE_BYTES)),
            (ORDERS, user, event(subject, "order.created", {}, note)),
            (USERS, user, event(subject, "user.registered", {}, note)),
            (USERS, user, b"[" * LARGE_BYTES),
            (USERS, user, event(subject, "user.registered", {}, {"email": b'"%b"' % noise})),
        ]
    trial.chance.shuffle(made)
    yield from made


def peak_kb(worker: WorkerProcess) -> int:
    """Return the most memory that a running worker has had so far."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])
