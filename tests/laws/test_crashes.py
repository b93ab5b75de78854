"""Laws 2, 3 and 7: wherever a worker dies or fails, the outcome is as if nothing happened."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.failpoints import Step
from tests.laws.world import Cuts, Piped, World, cuts, inputs

Kind = Literal["crash", "fail"]


class Blow(NamedTuple):
    """A worker dies, or its step fails, when it reaches the step for that time."""

    step: Step
    kind: Kind
    visit: int

    def arm(self, world: World) -> None:
        strike = {"crash": world.driver.crash_at, "fail": world.driver.fail_at}[self.kind]
        strike(self.step, self.visit)


def blows(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Blow]:
    return st.builds(Blow, steps, st.sampled_from(["crash", "fail"]), st.integers(1, 5))


kinds = st.sampled_from(["crash", "fail"])
portions = st.lists(inputs(max_size=10), min_size=3, max_size=3)


# Every step of the engine is reached in three such lives, the rest is chance.
@pytest.mark.parametrize("step", list(Step))
@settings(max_examples=max(4, settings().max_examples // 5))
@given(kind=kinds, late=st.sampled_from([1, 1, 2, 3, 5]), portions=portions, cut=cuts)
def test_a_blow_at_any_step_changes_nothing(
    step: Step, kind: Kind, late: int, portions: Sequence[Sequence[Piped]], cut: Cuts
) -> None:
    standbys = 1 if step.value.startswith("standby.") else 0
    with World(cut, disks=1 + standbys, standby_replicas=standbys) as world:
        Blow(step, kind, late).arm(world)
        world.live_three_times(portions)
        if late == 1:
            assert world.driver.struck == [step]
        world.check()


class Life(NamedTuple):
    """What happens between two restarts."""

    portion: Sequence[Piped]
    workers: int
    joins: bool
    dies: bool
    loses_disk: bool
    blow: Blow


lives = st.lists(
    st.builds(
        Life,
        inputs(max_size=10),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
        st.sampled_from([False, False, True]),
        blows(st.sampled_from(Step)),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=max(8, settings().max_examples // 2))
@given(lives=lives, cut=cuts, disks=st.integers(1, 3), standbys=st.integers(0, 2))
def test_no_number_of_blows_joins_and_lost_disks_changes_anything(
    lives: Sequence[Life], cut: Cuts, disks: int, standbys: int
) -> None:
    with World(cut, disks=disks, standby_replicas=standbys) as world:
        for life in lives:
            world.kill()
            if life.loses_disk:
                world.driver.lose_disk()
            life.blow.arm(world)
            world.append(life.portion)
            world.start(life.workers)
            if life.joins:
                world.start(1)
            elif life.dies and world.driver.workers_started:
                world.driver.kill_worker()
            world.settle()
        world.kill()
        world.start(1)
        world.settle()
        world.check()
