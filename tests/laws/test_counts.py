"""Laws 5 and 7: metrics count each record once, however often its commit fails."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.failpoints import Step
from streams.topics import DEAD_LETTERS
from tests.laws.world import Cuts, Piped, World, cuts, inputs
from tests.scraped import Scraped

# Steps at which a failure takes a task back to its committed offsets, and the worker goes on.
MENDED = [step for step in Step if step.value.startswith(("take.", "commit."))]


@given(
    portions=st.lists(inputs(max_size=15), min_size=2, max_size=2),
    cut=cuts,
    step=st.sampled_from(MENDED),
    visit=st.integers(1, 4),
)
def test_what_is_counted_is_what_the_broker_has(
    portions: Sequence[Sequence[Piped]], cut: Cuts, step: Step, visit: int
) -> None:
    with World(cut) as world:
        world.driver.fail_at(step, visit)
        world.append(portions[0])
        world.start(1)
        world.settle()
        world.append(portions[1])
        world.settle()
        [meters] = world.driver.meters()
        seen = Scraped(meters.exposition("")[0].decode())
        piped = [record for portion in portions for record in portion if not record.is_gap]
        for flow in world.driver.topology.flows:
            for topic in flow.reads:
                labels = {"topic": topic.name, "flow": flow.name}
                read = sum(record.topic == topic.name for record in piped)
                assert seen.of("headrace_records_in_total", **labels) == read
                assert seen.ended(**labels) == read
            for output in flow.outputs:
                sent = len(world.driver.sent(output.name))
                assert (
                    seen.of("headrace_records_out_total", flow=flow.name, topic=output.name) == sent
                )
            if flow.keeps:
                log = flow.keeps.changelog(world.driver.settings.app_id)
                assert seen.of("headrace_records_out_total", topic=log) == len(
                    world.driver.sent(log)
                )
        assert seen.of("headrace_dead_letters_total") == len(world.driver.sent(DEAD_LETTERS))
        aborts = int(step.value.startswith("commit.before") and step is not Step.COMMIT_BEFORE_DISK)
        assert seen.of("headrace_aborts_total") == (aborts if world.driver.struck else 0)
