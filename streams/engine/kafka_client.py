"""What all parts of the Kafka cluster share: options, and aiokafka's errors in the engine's words."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import CloseReason

from streams.engine.errors import CommitFailedError, FencedError, KafkaUnavailableError
from streams.engine.records import TopicPartition
from streams.errors import AccessDeniedError

log = logging.getLogger(__name__)
T = TypeVar("T")

CLOSE_TIMEOUT_S: Final = 2.0
FENCED: Final = (
    kafka_errors.ProducerFenced,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
)
# Waiting does not mend it: somebody has to grant something.
_DENIED: Final = (
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.TransactionalIdAuthorizationFailed,
)


class KafkaOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to talk to the cluster. `client` goes to every aiokafka client: addresses, names, security."""

    client: Mapping[str, Any]
    group: str
    compression: str | None = "lz4"
    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 3_000
    rebalance_timeout_ms: int = 60_000
    instance_id: str | None = None
    request_timeout_ms: int = 15_000
    transaction_timeout_ms: int = 60_000


async def asked(request: Awaitable[T]) -> T:
    """Await a request whose failure changes nothing: it can be tried again."""
    try:
        return await request
    except FENCED as error:
        raise FencedError(error_text(error)) from error
    except (kafka_errors.KafkaError, TimeoutError) as error:
        raise_denial(error)
        raise KafkaUnavailableError(error_text(error)) from error


async def commit_step(step: Awaitable[T]) -> T:
    """Await a step of a commit: after its failure the outcome is not known."""
    try:
        return await step
    except FENCED as error:
        raise FencedError(error_text(error)) from error
    except kafka_errors.KafkaError as error:
        raise_denial(error)
        raise CommitFailedError(error_text(error)) from error


def raise_denial(error: BaseException) -> None:
    """Raise AccessDeniedError for an error that says that an ACL is missing."""
    if isinstance(error, _DENIED):
        msg = f"Kafka denies this user what it needs ({error_text(error)}): docs/security.md lists the ACLs"
        raise AccessDeniedError(msg) from error


def error_text(error: BaseException) -> str:
    """Return an error of aiokafka's in one line, its name included: many have no other text."""
    name, text = type(error).__name__, str(error)
    return text if name in text else f"{name}: {text}".rstrip(": ")


async def know_topics(consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
    """Let a consumer learn of all these partitions' topics at once, as long as it has none assigned.

    Asked for offsets, aiokafka learns of one unknown topic a try, and waits 100 ms before the next.
    """
    client = consumer._client  # noqa: SLF001
    await client.set_topics(client._topics | {tp.topic for tp in partitions})  # noqa: SLF001


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer.

    While a broker is away, aiokafka's stop() raises the CancelledError of its own fetch, and leaves
    the connections open. Taken for a cancellation of ours it would end whoever stops, silently.
    """
    error: BaseException | None
    [error] = await asyncio.gather(consumer.stop(), return_exceptions=True)
    if error is not None:
        own = isinstance(error, asyncio.CancelledError)
        log.log(logging.DEBUG if own else logging.WARNING, "stopping a consumer: %r", error)
        await consumer._client.close()  # noqa: SLF001


def close_silent(client: AIOKafkaClient, silent_s: float) -> None:
    """Close the connections on which somebody waits, and nobody was answered for so long.

    Each is opened anew when something is asked on it. The others go on: one broker that stands still
    must not cost what others are being asked.
    """
    now_s = asyncio.get_running_loop().time()
    for connection in list(client._conns.values()):  # noqa: SLF001
        waited_s = now_s - connection._last_action  # noqa: SLF001 - its last answer
        if connection._requests and waited_s >= silent_s:  # noqa: SLF001
            connection.close(reason=CloseReason.CONNECTION_TIMEOUT)


def by_topic(partitions: Iterable[TopicPartition]) -> list[tuple[str, list[int]]]:
    """Return partitions as Kafka's protocol lists them."""
    topics: dict[str, list[int]] = {}
    for tp in partitions:
        topics.setdefault(tp.topic, []).append(tp.partition)
    return sorted(topics.items())
