"""Who owns and who follows which task: balanced, where the state lies."""

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.placement import NEAR_RECORDS, Placement, place, place_standbys

Stored = dict[str, dict[str, int]]

TASKS = st.integers(0, 12).map(lambda n: [f"orders-{i}" for i in range(n)])
MEMBERS = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True)


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[str], Stored]:
    """Tasks, and what members have of them on their disks: also of tasks that are gone."""
    tasks, members = draw(TASKS), draw(MEMBERS)
    known = st.sampled_from([*tasks, "gone-1"])
    disks = st.dictionaries(known, st.integers(0, 5), max_size=len(tasks) + 1)
    return tasks, {member: draw(disks) for member in members}


def settled(tasks: list[str], members: list[str]) -> Stored:
    """Return a group that has shared its tasks out, each stored by its owner alone."""
    placed = place(tasks, {member: {} for member in members})
    return {member: dict.fromkeys(ids, 7) for member, ids in placed.items()}


@settings(deadline=None)
@given(groups())
def test_each_task_goes_to_one_member_and_none_has_two_more_than_another(
    group: tuple[list[str], Stored],
) -> None:
    tasks, stored = group
    placed = place(tasks, stored)
    assert placed.keys() == stored.keys()
    assert sorted(task for ids in placed.values() for task in ids) == sorted(tasks)
    sizes = [len(ids) for ids in placed.values()]
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(groups())
def test_a_task_goes_where_most_of_it_is_stored_unless_that_member_has_its_share(
    group: tuple[list[str], Stored],
) -> None:
    tasks, stored = group
    placed = place(tasks, stored)
    for member, ids in placed.items():
        for task in ids:
            for other, disk in stored.items():
                if disk.get(task, -1) > stored[member].get(task, -1):
                    assert len(placed[other]) >= len(tasks) // len(stored)


@settings(deadline=None)
@given(groups(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_and_disks_are_told_makes_no_difference(
    group: tuple[list[str], Stored], random: Random
) -> None:
    tasks, stored = group

    def shuffled(told: Mapping[str, object]) -> list[str]:
        keys = list(told)
        random.shuffle(keys)
        return keys

    again = {m: {t: stored[m][t] for t in shuffled(stored[m])} for m in shuffled(stored)}
    assert place(tasks, again) == place(tasks, stored)


@settings(deadline=None)
@given(TASKS, MEMBERS)
def test_nothing_moves_where_nothing_changed(tasks: list[str], members: list[str]) -> None:
    stored = settled(tasks, members)
    placed = place(tasks, stored)
    assert {m: sorted(ids) for m, ids in placed.items()} == {
        m: sorted(disk) for m, disk in stored.items()
    }


@settings(deadline=None)
@given(TASKS, MEMBERS)
def test_a_newcomer_gets_its_share_and_nothing_else_moves(
    tasks: list[str], members: list[str]
) -> None:
    stored = settled(tasks, members)
    placed = place(tasks, {**stored, "newcomer": {}})
    for member, disk in stored.items():
        assert set(placed[member]) <= disk.keys()
    assert len(placed["newcomer"]) <= -(-len(tasks) // (len(members) + 1))


@settings(deadline=None)
@given(TASKS, MEMBERS, st.data())
def test_who_stays_keeps_all_when_another_leaves(
    tasks: list[str], members: list[str], data: st.DataObject
) -> None:
    stored = settled(tasks, [*members, "other"])
    del stored[data.draw(st.sampled_from(sorted(stored)))]
    placed = place(tasks, stored)
    for member, disk in stored.items():
        assert disk.keys() <= set(placed[member])


def test_of_two_that_have_a_task_on_disk_the_one_that_is_further_gets_it() -> None:
    stored = {"a": {"orders-0": 5}, "b": {"orders-0": 9, "orders-1": 2}, "c": {"orders-1": 1}}
    placed = place(["orders-0", "orders-1", "orders-2"], stored)
    assert placed == {"a": ["orders-2"], "b": ["orders-0"], "c": ["orders-1"]}


def test_a_task_stays_with_its_owner_though_a_standby_stands_some_offsets_above_it() -> None:
    stored = {"a": {"orders-0": 500}, "b": {"orders-0": 504}}
    assert place(["orders-0"], stored, {"a": ["orders-0"]}) == {"a": ["orders-0"], "b": []}


def test_an_owner_of_long_ago_does_not_get_a_task_that_another_has_far_more_of() -> None:
    stored = {"a": {"orders-0": 500}, "b": {"orders-0": 501 + NEAR_RECORDS}}
    assert place(["orders-0"], stored, {"a": ["orders-0"]}) == {"a": [], "b": ["orders-0"]}


# --- standbys -------------------------------------------------------------------------------------


class Group(NamedTuple):
    """A group with disks, and what lies on them."""

    tasks: list[str]
    stored: Stored
    disks: dict[str, str]
    replicas: int

    def owners(self) -> Placement:
        return place(self.tasks, self.stored)

    def standbys(self, owners: Placement) -> Placement:
        return place_standbys(owners, self.stored, self.disks, self.replicas)

    def without(self, member: str) -> "Group":
        stored = {name: disk for name, disk in self.stored.items() if name != member}
        return self._replace(stored=stored)


@st.composite
def shared(draw: st.DrawFn, *, own_disks: bool = False) -> Group:
    """A group at any moment; each member with a disk of its own, or some on the same and some without."""
    tasks, stored = draw(groups())
    names = st.sampled_from(["", "one", "two", "three", "four"])
    disks = {member: member if own_disks else draw(names) for member in stored}
    return Group(tasks, stored, disks, draw(st.integers(0, 3)))


def working(group: Group, lag: int = 3) -> tuple[Group, Placement, Placement]:
    """Return the group after it has worked for long: who owns or follows a task has all of it."""
    owners = group.owners()
    standbys = group.standbys(owners)
    stored = {
        member: group.stored[member]
        | dict.fromkeys(owners[member], 1_000_000)
        | dict.fromkeys(standbys[member], 1_000_000 + lag)
        for member in group.stored
    }
    return group._replace(stored=stored), owners, standbys


def followers(task: str, standbys: Placement) -> list[str]:
    return [member for member, ids in standbys.items() if task in ids]


@settings(deadline=None)
@given(shared())
def test_a_task_is_followed_on_as_many_other_disks_as_are_asked_for_and_there(group: Group) -> None:
    owners = group.owners()
    standbys = group.standbys(owners)
    assert standbys.keys() == group.stored.keys()
    for owner, ids in owners.items():
        for task in ids:
            disks = [group.disks[member] for member in followers(task, standbys)]
            # An owner without a name may write to any of these disks, and would find its folder held.
            is_known = bool(group.disks[owner])
            others = set(group.disks.values()) - {group.disks[owner], ""} if is_known else set()
            assert len(disks) == len(set(disks)) == min(group.replicas, len(others))
            assert set(disks) <= others


@settings(deadline=None)
@given(shared(own_disks=True))
def test_no_copy_could_move_to_a_member_that_has_two_less(group: Group) -> None:
    owners = group.owners()
    standbys = group.standbys(owners)
    copies = {member: {*owners[member], *standbys[member]} for member in owners}
    for member, ids in standbys.items():
        for others in copies.values():
            if len(copies[member]) - len(others) > 1:
                assert set(ids) <= others


@settings(deadline=None)
@given(shared(), st.sampled_from([0, 3]))
def test_neither_owners_nor_standbys_move_where_nothing_changed(group: Group, lag: int) -> None:
    now, owners, standbys = working(group, lag)
    again = place(now.tasks, now.stored, owners)
    assert {m: set(ids) for m, ids in again.items()} == {m: set(ids) for m, ids in owners.items()}
    assert {m: set(ids) for m, ids in now.standbys(again).items()} == {
        m: set(ids) for m, ids in standbys.items()
    }


@settings(deadline=None)
@given(shared(own_disks=True), st.data())
def test_a_task_whose_owner_is_gone_goes_to_a_standby_unless_each_has_its_share(
    group: Group, data: st.DataObject
) -> None:
    now, owners, standbys = working(group)
    gone = data.draw(st.sampled_from(sorted(owners)))
    left = now.without(gone)
    if not left.stored:
        return
    kept = {member: ids for member, ids in owners.items() if member != gone}
    after = place(left.tasks, left.stored, kept)
    copies = {m: {*kept[m], *standbys[m]} for m in kept}
    for member, ids in kept.items():
        for task in set(ids) - set(after[member]):  # it went to another that has it, to make room
            assert any(task in after[m] and task in copies[m] for m in copies)
    for task in owners[gone]:
        [heir] = followers(task, after)
        for standby in followers(task, standbys):
            if heir not in followers(task, standbys):
                assert len(after[standby]) >= len(left.tasks) // len(left.stored)


def test_of_several_standbys_the_one_that_is_furthest_gets_the_task() -> None:
    stored = {
        "b": {"orders-0": 90_000, "orders-1": 8},
        "c": {"orders-0": 90_500},
        "d": {"orders-0": 50},
    }
    placed = place(["orders-0"], stored, {"d": []})
    assert placed == {"b": [], "c": ["orders-0"], "d": []}


def test_all_tasks_of_one_member_are_not_followed_by_one_other_alone() -> None:
    tasks = [f"orders-{n}" for n in range(6)]
    group = Group(tasks, {m: {} for m in "abc"}, {m: m for m in "abc"}, 1)
    now, owners, standbys = working(group)
    for gone in "abc":
        spread = [len(set(owners[gone]) & set(standbys[m])) for m in "abc" if m != gone]
        assert spread == [1, 1]
        kept = {member: ids for member, ids in owners.items() if member != gone}
        after = place(tasks, now.without(gone).stored, kept)
        for task in owners[gone]:
            assert followers(task, after) == followers(task, standbys)


def test_an_owner_that_lost_its_task_to_a_newcomer_follows_it() -> None:
    stored = {"a": {"orders-0": 9, "orders-1": 9}, "new": {}}
    owners = place(["orders-0", "orders-1"], stored, {"a": ["orders-0", "orders-1"]})
    standbys = place_standbys(owners, stored, {"a": "a", "new": "new"}, 1)
    assert standbys == {"a": owners["new"], "new": owners["a"]}


@settings(deadline=None)
@given(shared(), st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_told_makes_no_difference_to_standbys(
    group: Group, random: Random
) -> None:
    members = list(group.stored)
    random.shuffle(members)
    owners = group.owners()
    shuffled = {member: owners[member] for member in members}
    again = place_standbys(shuffled, group.stored, group.disks, group.replicas)
    assert again == group.standbys(owners)


@pytest.mark.parametrize("gone", ["a", "b", "c"])
def test_whoever_dies_of_three_with_four_tasks_each_of_its_tasks_goes_to_a_standby(
    gone: str,
) -> None:
    group = Group(
        [f"orders-{n}" for n in range(4)], {m: {} for m in "abc"}, {m: m for m in "abc"}, 1
    )
    now, owners, standbys = working(group)
    kept = {member: ids for member, ids in owners.items() if member != gone}
    after = place(now.tasks, now.without(gone).stored, kept)
    for task in owners[gone]:
        assert followers(task, after) == followers(task, standbys)


@settings(deadline=None)
@given(
    st.integers(3, 9),
    st.permutations("abcdefgh"),
    st.lists(st.integers(0, 2), max_size=5),
    st.sampled_from([NEAR_RECORDS // 20, NEAR_RECORDS * 20]),
)
def test_whoever_of_three_dies_after_others_died_and_came_back_each_of_its_tasks_goes_to_a_near_copy(
    count: int, names: list[str], deaths: list[int], pace: int
) -> None:
    tasks = [f"orders-{n}" for n in range(count)]
    members, newcomers = names[:3], iter(names[3:])
    owners: Placement = {}
    disks: Stored = {member: {} for member in members}

    def work(group: list[str], moment: int) -> None:
        """Place everything, and work for so long that all copies are level."""
        nonlocal owners
        stored = {m: disks[m] for m in group}
        owners = place(tasks, stored, {m: owners.get(m, []) for m in group})
        standbys = place_standbys(owners, stored, {m: m for m in group}, 1)
        for m in group:
            disks[m] |= dict.fromkeys(owners[m], pace * moment)
            disks[m] |= dict.fromkeys(standbys[m], pace * moment + 3)

    work(members, 1)
    for moment, dead in enumerate(deaths):
        work([m for m in members if m != members[dead]], 2 * moment + 2)
        back = next(newcomers)  # a new name in the group, on the disk that it had
        disks[back] = disks.pop(members[dead])
        members[dead] = back
        work(members, 2 * moment + 3)
    for gone in members:
        left = {m: disks[m] for m in members if m != gone}
        after = place(tasks, left, {m: owners[m] for m in left})
        for task in owners[gone]:
            [heir] = followers(task, after)
            furthest = max(disk.get(task, 0) for disk in left.values())
            assert left[heir].get(task, 0) >= furthest - NEAR_RECORDS


def test_a_full_standby_lets_go_of_a_task_that_another_follows() -> None:
    stored = {
        "a": {"orders-0": 90_000, "orders-1": 90_000, "orders-2": 90_000},
        "c": {"orders-1": 90_000, "orders-3": 90_000},
    }
    owned = {"a": ["orders-0", "orders-1"], "c": ["orders-3"]}
    placed = place([f"orders-{n}" for n in range(4)], stored, owned)
    assert {m: set(ids) for m, ids in placed.items()} == {
        "a": {"orders-0", "orders-2"},
        "c": {"orders-1", "orders-3"},
    }
