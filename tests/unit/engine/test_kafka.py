"""What is read of Kafka's answers, and asked of Kafka, where aiokafka does too little."""

import asyncio
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.client import CoordinationType
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.protocol.transaction import EndTxnRequest, EndTxnResponse_v0

from streams.engine import kafka
from streams.engine.cluster import Committed
from streams.engine.kafka import KafkaCluster, KafkaOptions, known_offsets
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


@pytest.mark.parametrize("has_sent", [True, False])
async def test_a_transaction_that_a_missing_right_ended_is_aborted(*, has_sent: bool) -> None:
    """Kafka would hold up all who read what is committed until it timed out."""
    options = KafkaOptions(client={"bootstrap_servers": "127.0.0.1:1"}, group="group")
    producer = KafkaCluster(options).producer("txn")
    sender, manager = producer._producer._sender, producer._producer._txn_manager
    asked: list[Any] = []

    async def send(_node_id: int, request: Any, **_options: Any) -> EndTxnResponse_v0:
        asked.append(request)
        return EndTxnResponse_v0(0, 0)

    producer._producer.client.send = send
    sender._coordinators[CoordinationType.TRANSACTION] = 1
    manager.set_pid_and_epoch(7, 0)
    await sender.start()
    await producer.begin()
    if has_sent:
        manager._txn_partitions.add(TopicPartition("granted", 0))
    manager.error_transaction(errors.TopicAuthorizationFailedError({"denied"}))
    await producer.abort()
    told = [(type(request), request._transaction_result) for request in asked]
    assert told == [(EndTxnRequest, False)] * has_sent  # of an empty one Kafka knows nothing
    await producer.begin()  # it is over
    producer.abandon()
    await asyncio.gather(*kafka._CLOSING)
