"""Who gets which task: whole tasks, balanced, where the state lies."""

from collections.abc import Mapping
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.assignor import TaskGrouping, place, stored_tasks
from streams.engine.cluster import Member, Owner
from streams.engine.definitions import Topic
from streams.engine.errors import StoreFormatError
from streams.engine.layout import Subtopology
from streams.engine.records import TopicPartition
from streams.engine.store import Position, Store

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


def grouping(partitions: int = 3) -> TaskGrouping:
    orders, users, visits = (Topic(name, (), str) for name in ("orders", "users", "visits"))
    return TaskGrouping(
        [Subtopology("orders", (), (users, orders), ()), Subtopology("visits", (), (visits,), ())],
        partitions,
        lambda: {"orders-1": 7},
        "host:6066",
    )


def test_a_member_tells_its_disk_and_its_address() -> None:
    assert grouping().describe() == Member({"orders-1": 7}, "host:6066")


def test_inputs_of_a_task_stay_together_and_every_partition_has_one_owner() -> None:
    members = {"a": Member({}), "b": Member({"orders-1": 3}, "web")}
    assigned, owners = grouping().assign(members)
    everything = [tp for tps in assigned.values() for tp in tps]
    assert sorted(everything) == sorted(
        TopicPartition(topic, n) for topic in ("orders", "users", "visits") for n in range(3)
    )
    for tps in assigned.values():
        of = {t: {tp.partition for tp in tps if tp.topic == t} for t in ("orders", "users")}
        assert of["orders"] == of["users"]
    assert TopicPartition("orders", 1) in assigned["b"]
    tasks = {
        owner.web: {(task.rpartition("-")[0], int(task[-1])) for task in owner.tasks}
        for owner in owners
    }
    for name, member in members.items():
        named = {(tp.topic, tp.partition) for tp in assigned[name] if tp.topic != "users"}
        assert tasks[member.web] == named


def test_a_grouping_knows_what_it_heard_last() -> None:
    one = grouping()
    assert list(one.owners) == []
    one.hear([Owner("a:1", ["orders-0"])])
    one.hear([Owner("b:2", ["orders-0"])])
    assert list(one.owners) == [Owner("b:2", ["orders-0"])]


def test_stored_tasks_are_those_whose_store_can_be_read(tmp_path: Path) -> None:
    for task, offsets in (("orders-0", {"users": 3, "counts": 4}), ("orders-1", {})):
        store = Store(tmp_path / task)
        store.write({}, Position(2, offsets))
        store.close()
    Store(tmp_path / "never-committed-0").close()
    (tmp_path / "orders-2").mkdir()
    (tmp_path / "a-file").write_text("no store")
    assert stored_tasks(tmp_path) == {"orders-0": 7, "orders-1": 0}
    assert stored_tasks(tmp_path / "missing") == {}


def test_a_store_of_a_newer_release_stops_the_start(tmp_path: Path) -> None:
    store = Store(tmp_path / "orders-0")
    store.write({}, Position(2, {"users": 3}, format=99))
    store.close()
    with pytest.raises(StoreFormatError, match=r"orders-0 was written by a newer release"):
        stored_tasks(tmp_path)


def test_a_store_that_is_held_is_told_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "orders-0")
    store.write({}, Position(2, {"users": 3}))
    assert stored_tasks(tmp_path) == {"orders-0": 3}
    store.close()
