"""One worker on a real Kafka, given all poison there is: outputs and dead letters are the oracle's."""

import shutil
import time
from pathlib import Path

from aiokafka import TopicPartition

from config.settings import load_settings
from demo.oracle import diff, expect
from demo.readback import INPUTS
from streams.app import create_worker
from streams.broker import EmbeddedKafka
from tests.faults.outcomes import (
    DERIVED,
    ends,
    read_all,
    read_input,
    read_outcome,
    send,
    stored_rows,
    wait_until_done,
)
from tests.laws.world import WORLD
from tests.poisoned import KINDS, RULES, traffic

PARTITIONS = 2
APP_ID = "poisoned"


async def test_poison_of_every_kind_ends_as_the_oracle_says_and_harms_nobody(
    tmp_path: Path,
) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        bootstrap = kafka.bootstrap
        await send(bootstrap, PARTITIONS, traffic(time.time_ns() // 1_000_000))
        wanted = await ends(bootstrap, INPUTS, PARTITIONS)
        settings = load_settings(
            kafka_brokers=(bootstrap,), app_id=APP_ID, data_dir=tmp_path / "state"
        )
        worker = create_worker(settings, WORLD)
        try:
            await worker.start()
            await wait_until_done(bootstrap, APP_ID, wanted, workers=[], deadline_s=60)
        finally:
            await worker.app.stop()
        sources = await read_input(bootstrap, PARTITIONS)
        expected = expect(sources, RULES)
        begins = {TopicPartition(topic, p): 0 for topic in DERIVED for p in range(PARTITIONS)}
        actual = await read_outcome(bootstrap, APP_ID, begins, expected)
        letters = await read_all(bootstrap, {tp: 0 for tp in begins if tp.topic == "dead-letters"})
    assert sum(expected.refused.values()) > len(KINDS) // 2
    assert {"rule-failed", "too-large"} < set(expected.refused)
    assert expected.late
    assert diff(expected, actual) == []
    assert stored_rows([tmp_path / "state" / APP_ID]) == expected.tables
    for tp, records in letters.items():
        for record in records:
            headers = dict(record.headers)
            topic = headers["__streams.errors.topic"].decode()
            offset = int(headers["__streams.errors.offset"])
            source = next(s for s in sources[topic][tp.partition] if s.offset == offset)
            assert (record.key, record.value) == (source.key, source.value)
    shutil.rmtree(tmp_path)
