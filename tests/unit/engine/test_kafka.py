"""What is read of Kafka's answers where aiokafka reads too little."""

import pytest
from aiokafka import errors
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from streams.engine.cluster import Committed
from streams.engine.kafka import known_offsets
from streams.engine.records import TopicPartition

ROWS = [("orders", [(0, 7, "note", 0), (1, -1, "", 0)]), ("users", [(0, 0, None, 0)])]


def test_offsets_are_those_that_were_committed() -> None:
    answer = OffsetFetchResponse_v3(0, ROWS, 0)
    assert known_offsets(answer) == {
        TopicPartition("orders", 0): Committed(7, "note"),
        TopicPartition("users", 0): Committed(0, ""),
    }


@pytest.mark.parametrize("rows", [[], ROWS], ids=["no rows", "rows"])
@pytest.mark.parametrize(
    "error", [errors.GroupLoadInProgressError, errors.NotCoordinatorForGroupError]
)
def test_an_answer_that_is_an_error_is_never_a_group_without_offsets(
    error: type[errors.BrokerResponseError], rows: list[object]
) -> None:
    with pytest.raises(error):
        known_offsets(OffsetFetchResponse_v3(0, rows, error.errno))


def test_an_error_of_one_partition_is_an_error() -> None:
    code = errors.UnknownTopicOrPartitionError.errno
    answer = OffsetFetchResponse_v3(0, [("orders", [(0, -1, "", code)])], 0)
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        known_offsets(answer)
