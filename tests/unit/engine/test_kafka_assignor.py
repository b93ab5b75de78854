"""What members and leader tell each other; those of another version included."""

from collections.abc import Sequence

import pytest
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

from streams.engine.assignor import TaskGrouping
from streams.engine.cluster import Member, Owner
from streams.engine.definitions import Topic
from streams.engine.kafka_assignor import KafkaAssignor, member_of
from streams.engine.layout import Subtopology


def grouping(web: str, disk: str = "", owned: Sequence[str] = ()) -> TaskGrouping:
    orders = Topic("orders", (), str)
    subtopology = Subtopology("orders", (), (orders,), ())
    return TaskGrouping([subtopology], 2, lambda: Member({"orders-1": 7}, web, owned, disk), 1)


def metadata(user_data: bytes | None) -> ConsumerProtocolMemberMetadata:
    return ConsumerProtocolMemberMetadata(version=0, subscription=["orders"], user_data=user_data)


def test_what_a_member_tells_is_what_the_leader_reads_and_what_the_leader_tells_all_hear() -> None:
    one, two = grouping("one:1"), grouping("two:2")
    told = {
        "a": KafkaAssignor(one).metadata(["orders"]),
        "b": KafkaAssignor(two).metadata(["orders"]),
    }
    assert member_of(told["a"].user_data) == Member({"orders-1": 7}, "one:1")
    answers = KafkaAssignor(one).assign(None, told)
    # As bytes, as it travels.
    decode = ConsumerProtocolMemberAssignment.decode
    KafkaAssignor(two).on_assignment(decode(answers["b"].encode()))
    assert list(two.owners) == [Owner("one:1", ["orders-1"]), Owner("two:2", ["orders-0"])]


def test_each_member_hears_what_it_is_to_follow_and_all_who_owns_what() -> None:
    one, two = grouping("one:1", "a disk", ["orders-1"]), grouping("two:2", "another")
    told = {
        "a": KafkaAssignor(one).metadata(["orders"]),
        "b": KafkaAssignor(two).metadata(["orders"]),
    }
    assert member_of(told["a"].user_data) == Member(
        {"orders-1": 7}, "one:1", ["orders-1"], "a disk"
    )
    answers = KafkaAssignor(one).assign(None, told)
    for assignor, answer in ((one, answers["a"]), (two, answers["b"])):
        KafkaAssignor(assignor).on_assignment(answer)
        assert list(assignor.owners) == [Owner("one:1", ["orders-1"]), Owner("two:2", ["orders-0"])]
    assert (list(one.standbys), list(two.standbys)) == (["orders-0"], ["orders-1"])


def test_without_standbys_members_and_leader_tell_what_earlier_versions_read() -> None:
    mine = grouping("one:1")
    told = KafkaAssignor(mine).metadata(["orders"])
    assert told.user_data == b'[{"orders-1":7},"one:1"]'
    answers = KafkaAssignor(mine).assign(None, {"a": told})
    assert answers["a"].user_data == b'[["one:1",["orders-1","orders-0"]]]'


@pytest.mark.parametrize("user_data", [None, b"", b"\x00\x01", b'{"other":"version"}', b"[1]"])
def test_a_member_that_tells_nothing_readable_is_given_tasks_as_well(
    user_data: bytes | None,
) -> None:
    mine = grouping("one:1")
    members = {"a": KafkaAssignor(mine).metadata(["orders"]), "b": metadata(user_data)}
    answers = KafkaAssignor(mine).assign(None, members)
    assert answers["b"].assignment == [("orders", [0])]
    KafkaAssignor(mine).on_assignment(answers["a"])
    assert list(mine.owners) == [Owner("one:1", ["orders-1"]), Owner("", ["orders-0"])]


@pytest.mark.parametrize("user_data", [None, b"", b"\x00", b'[["one:1"]]', b'{"one:1":[]}'])
def test_a_leader_that_tells_nothing_readable_leaves_owners_unknown(
    user_data: bytes | None,
) -> None:
    mine = grouping("one:1")
    mine.hear([Owner("gone:1", ["orders-0"])])
    answer = ConsumerProtocolMemberAssignment(version=0, assignment=[], user_data=user_data)
    KafkaAssignor(mine).on_assignment(answer)
    assert list(mine.owners) == []


def test_a_member_that_asks_anew_tells_the_same_in_other_bytes() -> None:
    assignor = KafkaAssignor(grouping("here:1"))
    before = assignor.metadata(["orders"]).user_data
    assignor.ask_anew()
    after = assignor.metadata(["orders"]).user_data
    assert before != after
    assert member_of(before) == member_of(after)
