"""Input as uneven as it gets: one hot key, the same events again, days out of order, a reader that sleeps."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from demo.generator import TopicKeyValue
from demo.oracle import Derived, Outcome, parse
from demo.poison import ORDERS, USERS, Subject, event
from demo.readback import OUTPUTS
from tests.faults.conftest import StartTrial
from tests.faults.trial import Trial

RECORDS = 40_000
HOT_SHARE = 0.9
AGAIN_SHARE = 0.1
BELATED_SHARE = 0.2
USER_EVENT_SHARE = 0.1
DAY_MS = 86_400_000


@pytest.mark.timeout(400)
async def test_one_hot_key_repeated_and_belated_events_and_a_sleeping_reader_change_nothing(
    start_trial: StartTrial, seed: int
) -> None:
    async with start_trial(seed) as trial, asleep(trial) as reader:
        await trial.send(uneven(trial))
        workers = trial.start_workers(2)
        trial.chance.shuffle(workers)
        for share, victim in zip((0.05, 0.35), workers, strict=True):
            await trial.done(share)
            await trial.hit("kill -9 of one of two workers, nine tenths of all records on one key")
            victim.kill()
            victim.start()
        expected = await trial.check()
        assert expected.late > 100
        orders = [row["orders"] for row in expected.tables["user_orders"].values()]
        assert max(orders) > 0.6 * sum(orders)
        await sees_all(reader, expected)


def uneven(trial: Trial) -> Iterator[TopicKeyValue]:
    """Yield valid records, most of one user's; a tenth comes twice, a fifth up to five days late."""
    chance = trial.chance
    now_ms = time.time_ns() // 1_000_000 - RECORDS
    sent: list[TopicKeyValue] = []
    for number in range(RECORDS):
        if sent and chance.random() < AGAIN_SHARE:
            yield chance.choice(sent)
            continue
        user = b"hot" if chance.random() < HOT_SHARE else b"user-%d" % chance.randrange(500)
        late_ms = chance.randrange(5 * DAY_MS) if chance.random() < BELATED_SHARE else 0
        subject = Subject(b"order-%d" % number, user, now_ms + number - late_ms)
        record = (ORDERS, user, _order(subject, chance.randrange(1, 200_000)))
        if chance.random() < USER_EVENT_SHARE:
            country = {"changes": b'{"country":"C%d"}' % chance.randrange(100)}
            record = (USERS, user, event(subject, "user.updated", {}, country))
        sent.append(record)
        yield record


def _order(subject: Subject, amount_cents: int) -> bytes:
    amount = b"%d.%02d" % divmod(amount_cents, 100)
    return event(subject, "order.created", {}, {"amount": amount})


@asynccontextmanager
async def asleep(trial: Trial) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a reader of what is derived that has begun, and stands still."""
    partitions = [TopicPartition(topic, n) for topic in OUTPUTS for n in range(trial.partitions)]
    consumer = AIOKafkaConsumer(
        **trial.client, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign(partitions)
        await consumer.getmany(timeout_ms=200)
        yield consumer
    finally:
        await consumer.stop()


async def sees_all(reader: AIOKafkaConsumer, expected: Outcome) -> None:
    """Wake the reader: it reads what was derived while it slept, once each."""
    found: dict[TopicPartition, list[Derived]] = {tp: [] for tp in reader.assignment()}
    ends = await reader.end_offsets(list(found))
    while any([await reader.position(tp) < end for tp, end in ends.items()]):
        for tp, records in (await reader.getmany(timeout_ms=500)).items():
            found[tp] += [Derived(r.key, parse(r.value)) for r in records]
    for tp, events in found.items():
        assert events == expected.derived[tp.topic].get(tp.partition, []), tp
