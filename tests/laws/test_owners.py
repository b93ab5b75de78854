"""Law 4: one owner. Whoever was fenced or forgotten commits nothing more."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engine import failpoints
from streams.engine.errors import OwnershipError
from streams.engine.failpoints import Step
from tests.laws.world import Cuts, Piped, World, cuts, inputs, one_order_each

IN_A_COMMIT = [step for step in Step if step.value.startswith(("commit.before", "process."))]


def fence_all(world: World) -> failpoints.Action:
    """Return what a second owner does first: it fences every task's producer."""

    def act(_step: Step) -> None:
        for task in world.driver.tasks().values():
            world.driver.kafka.fence(task.transactional_id)

    return act


@given(
    piped=inputs(min_size=1), cut=cuts, step=st.sampled_from(IN_A_COMMIT), visit=st.integers(1, 3)
)
def test_who_was_fenced_commits_nothing_and_begins_again(
    piped: Sequence[Piped], cut: Cuts, step: Step, visit: int
) -> None:
    with World(cut) as world:
        world.start(1)
        world.append(piped)
        failpoints.arm(step, failpoints.on_visit(visit, fence_all(world)))
        world.settle()
        world.check()


@given(first=inputs(min_size=1), second=inputs(min_size=1), cut=cuts, standbys=st.integers(0, 1))
def test_a_zombie_changes_nothing(
    first: Sequence[Piped], second: Sequence[Piped], cut: Cuts, standbys: int
) -> None:
    # On two machines: the one folder's lock would keep the two apart.
    with World(cut, disks=2, standby_replicas=standbys) as world:
        world.append(first)
        world.start(1)
        world.start(1)
        world.append(second)
        world.driver.evict_worker(0)
        world.settle()
        world.append(one_order_each(0))
        world.settle()
        world.check_standbys()
        world.kill()
        world.driver.lose_disk()
        world.start(1)
        world.settle()
        world.check()


def test_who_is_fenced_again_and_again_stops_and_says_why() -> None:
    with World() as world:
        world.start(1)
        failpoints.arm(Step.COMMIT_BEFORE_END, fence_all(world))
        world.append(one_order_each(0))
        with pytest.raises(OwnershipError, match="does another application use HEADRACE_APP_ID"):
            world.driver.settle()


def test_fences_with_commits_between_them_are_no_quarrel() -> None:
    with World() as world:
        world.start(1)
        for number in range(10):
            failpoints.arm(Step.COMMIT_BEFORE_END, failpoints.on_visit(1, fence_all(world)))
            world.append(one_order_each(number))
            world.settle()
        world.check()


def test_a_quarrel_over_one_task_is_one_though_the_others_commit() -> None:
    with World() as world:
        world.start(1)
        visits = iter(range(100))

        def fence_one(_step: Step) -> None:
            if (visit := next(visits, None)) is not None:
                world.driver.kafka.fence(world.driver.tasks()["orders-0"].transactional_id)
                world.append(one_order_each(visit))

        failpoints.arm(Step.COMMIT_BEFORE_END, fence_one)
        world.append(one_order_each(-1))
        with pytest.raises(OwnershipError, match="orders-0 was taken away"):
            world.driver.settle()
