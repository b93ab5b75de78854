"""No request of a transaction is sent twice: one that nobody answered may still be on its way.

aiokafka sends it again over a new connection, and goes on. When the first one arrives at last, it acts
on whatever transaction the producer has open by then: the end of a commit has made half of the next one
visible, which was then done again (tests/faults/test_commits.py). Here the producer is over instead; the
next one of its transactional id has a higher epoch, and Kafka refuses what comes late (KIP-890).
"""

from collections import deque
from itertools import chain
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka_errors
from aiokafka.protocol.transaction import (
    AddOffsetsToTxnRequest,
    AddPartitionsToTxnRequest,
    EndTxnRequest,
    TxnOffsetCommitRequest,
)

_OF_A_TRANSACTION = (
    AddPartitionsToTxnRequest,
    AddOffsetsToTxnRequest,
    TxnOffsetCommitRequest,
    EndTxnRequest,
)


def send_once(producer: AIOKafkaProducer) -> None:
    """Make a producer's transaction fail when the answer to one of its requests does not come.

    Batches of records may be repeated: their sequence numbers tell a broker which it has.
    """
    send = producer.client.send

    async def sending(node_id: Any, request: Any, **options: Any) -> Any:
        try:
            return await send(node_id, request, **options)
        except kafka_errors.NodeNotReadyError:  # there was no connection to send it by
            raise
        except kafka_errors.KafkaError as error:
            if isinstance(request, _OF_A_TRANSACTION):
                _end(producer, error)
            raise

    producer.client.send = sending


def _end(producer: AIOKafkaProducer, error: kafka_errors.KafkaError) -> None:
    """Do what aiokafka does when its sender fails: all who wait, and who come, hear of the error."""
    manager = producer._txn_manager  # noqa: SLF001
    if producer._closed or manager.is_fatal_error():  # noqa: SLF001
        return
    producer._sender.sender_task.cancel()  # noqa: SLF001
    accumulator = producer._message_accumulator  # noqa: SLF001
    batches = [*chain(*accumulator._batches.values()), *accumulator._pending_batches]  # noqa: SLF001
    accumulator.fail_all(error)
    for batch in batches:  # nobody waits for a batch to leave, and asyncio would report the error
        batch._drain_waiter.exception()  # noqa: SLF001
    waiting = [entry for entry in manager._pending_txn_offsets if not entry[2].done()]  # noqa: SLF001
    manager._pending_txn_offsets = deque(waiting)  # noqa: SLF001
    manager.fatal_error(error)
