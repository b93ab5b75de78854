"""Laws 1 and 5: wherever the input is cut, the outcome is the oracle's, and no record vanishes."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine.records import TopicPartition
from streams.topics import DEAD_LETTERS, ORDERS, USERS
from tests.driven import dead_letter
from tests.laws.world import PARTITIONS, Cuts, Piped, World, cuts, inputs


@given(piped=inputs(max_size=40), cut=cuts)
def test_cutting_the_input_elsewhere_changes_nothing(piped: Sequence[Piped], cut: Cuts) -> None:
    with World(cut) as world:
        world.append(piped)
        world.start(1)
        world.settle()
        world.check()


@given(piped=inputs(max_size=40), cut=cuts, guarantee=st.just("at_least_once"))
def test_at_least_once_differs_only_after_a_fault(
    piped: Sequence[Piped], cut: Cuts, guarantee: str
) -> None:
    with World(cut, processing_guarantee=guarantee) as world:
        world.append(piped)
        world.start(1)
        world.settle()
        world.check()


@given(piped=inputs(max_size=40), cut=cuts)
def test_every_record_ends_as_processed_dead_late_or_skipped(
    piped: Sequence[Piped], cut: Cuts
) -> None:
    with World(cut) as world:
        world.append(piped)
        world.start(1)
        world.settle()
        expected = world.expected()
        tasks = world.driver.tasks().values()
        for flow in world.driver.topology.flows:
            (topic,) = (topic.name for topic in flow.reads)
            counts = [task.counts[flow.name] for task in tasks if flow.name in task.counts]
            dead = [letter for letter in expected.dead_letters if letter.topic == topic]
            assert sum(c.dead for c in counts) == len(dead)
            assert sum(c.skipped for c in counts) == expected.skipped[topic]
            late = expected.late if flow.name == "user_order_minutes" else 0
            assert sum(c.late for c in counts) == late
            ended = sum(c.processed + c.dead + c.late + c.skipped for c in counts)
            assert ended == sum(not r.is_gap for r in piped if r.topic == topic)


@given(piped=inputs(max_size=40), cut=cuts)
def test_dead_letters_keep_the_order_of_their_sources(piped: Sequence[Piped], cut: Cuts) -> None:
    with World(cut) as world:
        world.append(piped)
        world.start(1)
        world.settle()
        letters = [dead_letter(sent) for sent in world.driver.sent(DEAD_LETTERS)]
        for topic in (USERS.name, ORDERS.name):
            of_topic = [letter for letter in letters if letter.topic == topic]
            assert of_topic == sorted(of_topic)


@pytest.mark.parametrize("gaps", [1, 3])
def test_an_input_of_nothing_but_gaps_is_committed_to_its_end(gaps: int) -> None:
    with World() as world:
        world.append([Piped(p, is_gap=True) for p in range(PARTITIONS) for _ in range(gaps)])
        world.start(1)
        world.settle()
        offsets = world.driver.kafka.offsets
        app_id = world.driver.settings.app_id
        for partition in range(PARTITIONS):
            assert offsets[app_id, TopicPartition(ORDERS.name, partition)].offset == gaps
