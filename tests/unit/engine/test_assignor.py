"""What members tell, what the leader decides, and what of it everybody hears."""

import logging
from pathlib import Path

import pytest

from streams.engine.assignor import TaskGrouping, stored_tasks
from streams.engine.cluster import Member, Owner
from streams.engine.definitions import Topic
from streams.engine.errors import StoreFormatError
from streams.engine.layout import Subtopology
from streams.engine.records import TopicPartition
from streams.engine.store import Position, Store


def grouping(partitions: int = 3, standby_replicas: int = 0) -> TaskGrouping:
    orders, users, visits = (Topic(name, (), str) for name in ("orders", "users", "visits"))
    return TaskGrouping(
        [Subtopology("orders", (), (users, orders), ()), Subtopology("visits", (), (visits,), ())],
        partitions,
        lambda: Member({"orders-1": 7}, "host:6066"),
        standby_replicas,
    )


def test_a_member_tells_its_disk_and_its_address() -> None:
    assert grouping().describe() == Member({"orders-1": 7}, "host:6066")


def test_inputs_of_a_task_stay_together_and_every_partition_has_one_owner() -> None:
    members = {"a": Member({}), "b": Member({"orders-1": 3}, "web")}
    assigned, owners, standbys = grouping().assign(members)
    assert not any(standbys.values())
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
    one.hear([Owner("b:2", ["orders-0"])], ["orders-1"])
    assert list(one.owners) == [Owner("b:2", ["orders-0"])]
    assert list(one.standbys) == ["orders-1"]


def test_each_task_is_followed_on_another_disk_than_its_owner_writes_to() -> None:
    members = {
        "a": Member({"orders-0": 9}, owned=["orders-0"], disk="one"),
        "b": Member({}, disk="one"),
        "c": Member({"orders-0": 9}, disk="two"),
    }
    _, owners, standbys = grouping(1, standby_replicas=1).assign(members)
    assert [list(owner.tasks) for owner in owners] == [["orders-0"], ["visits-0"], []]
    assert standbys == {"a": [], "b": [], "c": ["orders-0", "visits-0"]}


@pytest.mark.parametrize(("disks", "warns"), [(["one", "one"], True), (["one", "two"], False)])
def test_standbys_that_have_no_place_are_told(
    disks: list[str], *, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    members = {name: Member({}, disk=disk) for name, disk in zip("ab", disks, strict=True)}
    with caplog.at_level(logging.WARNING):
        grouping(standby_replicas=2).assign(members)
    told = ["6 of 6 standbys have no place" in record.message for record in caplog.records]
    assert told == ([True] if warns else [])


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
