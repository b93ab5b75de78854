"""All five flows on the driver against the oracle: life-like traffic, all poison, the largest outputs."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import pytest

from config.settings import load_settings
from demo.generator import OrderGenerator, TopicKeyValue, partition_of
from demo.oracle import Outcome, Source, diff, expect
from demo.poison import Subject, padded_order
from demo.readback import CHECKED, INPUTS, OUTPUTS
from streams.testing import Driver
from streams.topics import DEAD_LETTERS
from streams.topology import TOPOLOGY
from tests.driven import changelog_tables, dead_letter, live_tables, outcome_of
from tests.flows.stories import NOW_MS
from tests.laws.world import WORLD
from tests.poisoned import KINDS, RULES, traffic

PARTITIONS = 2
HOUR_MS = 3_600_000
Input = dict[str, dict[int, list[Source]]]


def partitioned(records: Iterable[TopicKeyValue]) -> Input:
    sources: Input = {topic: {p: [] for p in range(PARTITIONS)} for topic in INPUTS}
    for topic, key, value in records:
        partition = sources[topic][partition_of(key, PARTITIONS)]
        partition.append(Source(len(partition), NOW_MS, key, value))
    return sources


def pipe(driver: Driver, sources: Input) -> None:
    for topic in driver.topology.inputs:
        for partition, rows in sources[topic.name].items():
            records = [(source.key, source.value) for source in rows]
            driver.pipe(topic, records, partition=partition, timestamp_ms=NOW_MS, settle=False)
    driver.settle()


def differences(driver: Driver, expected: Outcome) -> list[str]:
    return [
        line
        for tables in (live_tables(driver), changelog_tables(driver))
        for line in diff(expected, outcome_of(driver, tables, expected))
    ]


def test_the_oracle_and_the_application_know_the_same_names() -> None:
    assert set(CHECKED) == set(Outcome().tables) == {table.name for table in TOPOLOGY.tables}
    emitted = {topic.name for flow in TOPOLOGY.flows for topic in flow.outputs}
    assert set(OUTPUTS) == set(Outcome().derived) == emitted
    assert set(INPUTS) == {topic.name for topic in TOPOLOGY.inputs}


@pytest.mark.parametrize("lengths", [(), (1, 50, 7), (400,)])
def test_life_like_traffic_of_three_days_ends_as_the_oracle_says(
    tmp_path: Path, lengths: Sequence[int]
) -> None:
    times = iter(range(NOW_MS - 72 * HOUR_MS, NOW_MS, 10_000))
    generator = OrderGenerator(seed=5, users=150, poison_share=0.02)
    sources = partitioned(islice(generator.records(lambda: next(times)), 4_000))
    expected = expect(sources)
    assert all(len(rows) > 30 for rows in expected.tables.values())
    assert all(events for events in expected.derived.values())
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(TOPOLOGY, settings, partitions=PARTITIONS) as driver:
        driver.cut_input(lengths)
        pipe(driver, sources)
        assert differences(driver, expected) == []


def test_poison_of_every_kind_ends_as_the_oracle_says_and_harms_nobody(tmp_path: Path) -> None:
    sources = partitioned(traffic(NOW_MS))
    expected = expect(sources, RULES)
    assert len(KINDS) > 100
    assert set(expected.refused) == {
        "undecodable",
        "invalid-field",
        "key-mismatch",
        "timestamp-ahead",
        "rule-failed",
        "too-large",
    }
    assert {letter.topic for letter in expected.dead_letters} == set(INPUTS)
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(WORLD, settings, partitions=PARTITIONS) as driver:
        pipe(driver, sources)
        assert differences(driver, expected) == []
        for sent in driver.sent(DEAD_LETTERS):
            topic, partition, offset, _ = dead_letter(sent)
            source = sources[topic][partition][offset]
            assert (sent.key, sent.value) == (source.key, source.value)


def test_the_largest_output_is_sent_and_one_byte_more_is_not(tmp_path: Path) -> None:
    subject = Subject(b"o-1", b"ada", NOW_MS)

    def expected_of(source_bytes: int) -> tuple[Input, Outcome]:
        sources = partitioned([("orders", *padded_order(subject, source_bytes))])
        return sources, expect(sources)

    sizes = range(1_047_000, 1_048_400)
    first_refused = bisect_left(sizes, 1, key=lambda size: len(expected_of(size)[1].dead_letters))
    most = sizes[first_refused] - 1
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    for size, letters in ((most, 0), (most + 1, 1)):
        sources, expected = expected_of(size)
        assert len(expected.dead_letters) == letters
        with Driver(TOPOLOGY, settings, partitions=PARTITIONS) as driver:
            pipe(driver, sources)
            assert differences(driver, expected) == []
            driver.stop_worker()
            driver.lose_disk()
