"""Without transactions: wherever a worker dies or fails, nothing is lost; some may come twice."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import load_settings
from demo.oracle import Json, parse
from streams.engine import failpoints
from streams.engine.errors import CommitFailedError
from streams.engine.failpoints import Step
from streams.engine.records import Record
from streams.memory_cluster import MemoryProducer
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ENRICHED_ORDERS, HIGH_VALUE_ORDERS, ORDERS, VIP_UPGRADES
from streams.topology import TOPOLOGY
from tests.driven import changelog_tables, dead_letter, live_tables
from tests.flows.stories import orders
from tests.laws.test_crashes import Blow, Kind, kinds, portions
from tests.laws.world import Cuts, Piped, World, cuts


def check_rows(expected: dict[str, Json], actual: Mapping[str, Json]) -> None:
    """Assert that nothing is lost: counts may be higher, all else is the same."""
    assert actual.keys() == expected.keys()
    for key, row in expected.items():
        found = actual[key]
        for name, value in row.items():
            if name in ("orders", "amount", "vip"):
                assert found[name] >= value, key
            else:
                assert found[name] == value, key


def check_nothing_is_lost(world: World) -> None:
    """Assert that all the oracle knows of is there, once or more often, and all input was read."""
    failpoints.disarm()
    driver, expected = world.driver, world.expected()

    def events(topic: str) -> list[Any]:
        return [parse(sent.value or b"") for sent in driver.sent(topic)]

    def wanted(topic: str) -> list[Json]:
        return [one.event for found in expected.derived[topic].values() for one in found]

    for topic in (HIGH_VALUE_ORDERS.name, ENRICHED_ORDERS.name):
        ids = {event["event_id"] for event in events(topic)}
        assert ids == {event["event_id"] for event in wanted(topic)}
    # An order that counts twice may bring the upgrade with an earlier one.
    upgraded = {event["data"]["user_id"] for event in events(VIP_UPGRADES.name)}
    assert upgraded >= {event["data"]["user_id"] for event in wanted(VIP_UPGRADES.name)}
    assert {dead_letter(sent) for sent in driver.sent(DEAD_LETTERS)} == set(expected.dead_letters)
    live = live_tables(driver)
    for table, rows in expected.tables.items():
        check_rows(rows, live[table])
    assert changelog_tables(driver) == live
    world.check_positions()


@pytest.mark.parametrize("step", list(Step))
@settings(max_examples=max(4, settings().max_examples // 5))
@given(kind=kinds, late=st.sampled_from([1, 1, 2, 3, 5]), portions=portions, cut=cuts)
def test_a_blow_at_any_step_loses_nothing(
    step: Step, kind: Kind, late: int, portions: Sequence[Sequence[Piped]], cut: Cuts
) -> None:
    standbys = 1 if step.value.startswith("standby.") else 0
    with World(
        cut,
        disks=1 + standbys,
        standby_replicas=standbys,
        processing_guarantee="at_least_once",
    ) as world:
        Blow(step, kind, late).arm(world)
        world.live_three_times(portions)
        check_nothing_is_lost(world)


def test_no_row_is_known_before_the_events_that_it_brought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of records that are sent together any may arrive and any fail. Were a VIP's row among those that
    # arrive, and the upgrade not, nothing would bring it any more.
    send = MemoryProducer.send
    failures = iter(["refused"])

    async def only_changelogs_arrive(
        self: MemoryProducer, partition: int, records: Mapping[str, Sequence[Record]]
    ) -> dict[str, int]:
        if VIP_UPGRADES.name in records and (failure := next(failures, None)):
            rows = {topic: r for topic, r in records.items() if topic.endswith("-changelog")}
            await send(self, partition, rows)
            raise CommitFailedError(failure)
        return await send(self, partition, records)

    monkeypatch.setattr(MemoryProducer, "send", only_changelogs_arrive)
    chosen = load_settings(data_dir=tmp_path, processing_guarantee="at_least_once")
    with Driver(TOPOLOGY, chosen) as driver:
        driver.pipe(ORDERS, orders(range(10)))
        assert next(failures, None) is None
        assert len(driver.read(VIP_UPGRADES)) == 1
