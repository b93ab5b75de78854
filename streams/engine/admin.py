"""Topics of the cluster in use: make what is missing, refuse what does not fit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    KafkaError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    for_code,
)

from streams.engine.connect import raise_refusal, unknown_names
from streams.engine.kafka_client import know_topics
from streams.errors import AccessDeniedError, BrokerUnreachableError, TopicError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence

_POLL_S = 0.05
_RETRY_S = 0.5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it must be. The config counts when it is made; later it is the operator's."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True)
class _Partition:
    """What the cluster says of a partition; leader is a node id, below 0 if there is none."""

    leader: int
    in_sync: int
    replicas: int


async def ensure_topics(
    client_options: Mapping[str, Any],
    specs: Iterable[TopicSpec],
    *,
    replication_factor: int,
    create: bool = True,
    timeout_s: float = 30,
) -> None:
    """Make the topics that are missing; return when each partition's leader answers.

    Returning proves that all have their number of partitions, and that a record can be sent to
    any of them. client_options are what all aiokafka clients take. Another process that makes the
    same topics at the same time does no harm. Raises TopicError for a topic that is missing (with
    create=False), has another number of partitions, is refused by the broker or gets no leader
    within timeout_s, BrokerUnreachableError when no broker answers within it, and, as all that
    connects here, BrokerRefusedError when one will not let us in.
    """
    wanted = {spec.name: spec for spec in specs}
    progress = _Progress(_servers(client_options))
    try:
        async with asyncio.timeout(timeout_s):
            admin = await _connect(client_options, progress)
            try:
                await _ensure(admin, wanted, replication_factor, progress, create=create)
            finally:
                await admin.close()
            if wanted:
                progress.now = "its leaders do not answer"
                await _leaders_answer(client_options, wanted.values())
    except TimeoutError as error:
        raise progress.failure(timeout_s) from error


async def partition_counts(
    client_options: Mapping[str, Any], names: Iterable[str], *, timeout_s: float = 30
) -> dict[str, int]:
    """Return the number of partitions of those topics that exist.

    Raises BrokerUnreachableError when no broker answers within timeout_s.
    """
    wanted = {name: TopicSpec(name, 0, {}) for name in names}
    progress = _Progress(_servers(client_options))
    try:
        async with asyncio.timeout(timeout_s):
            admin = await _connect(client_options, progress)
            try:
                present = await _describe(admin, wanted)
            finally:
                await admin.close()
    except TimeoutError as error:
        raise progress.failure(timeout_s) from error
    return {name: len(partitions) for name, partitions in present.items()}


@contextlib.asynccontextmanager
async def connected(
    client_options: Mapping[str, Any], *, timeout_s: float
) -> AsyncIterator[AIOKafkaAdminClient]:
    """Yield an admin client that a broker has answered.

    Raises BrokerUnreachableError when none answers within timeout_s.
    """
    progress = _Progress(_servers(client_options))
    try:
        async with asyncio.timeout(timeout_s):
            admin = await _connect(client_options, progress)
    except TimeoutError as error:
        raise progress.failure(timeout_s) from error
    try:
        yield admin
    finally:
        await admin.close()


class _Progress:
    """What is being waited for, to be told when time runs out."""

    def __init__(self, servers: str) -> None:
        self.servers = servers
        self.now: str | None = None  # None until a broker has answered
        self.unknown_names: list[str] = []

    def failure(self, timeout_s: float) -> BrokerUnreachableError | TopicError:
        """Return the error to raise once timeout_s is over."""
        if self.now is None and self.unknown_names:
            return BrokerUnreachableError(
                f"no Kafka broker at {self.servers} answered within {timeout_s:g} s: this machine does "
                f"not know the name {' or '.join(self.unknown_names)}: check KAFKA_BROKERS"
            )
        if self.now is None:
            return BrokerUnreachableError(
                f"no Kafka broker at {self.servers} answered within {timeout_s:g} s: check "
                "KAFKA_BROKERS and the KAFKA_ security settings, and that the broker runs"
            )
        return TopicError(f"the topics were not ready within {timeout_s:g} s: {self.now}")


def _servers(client_options: Mapping[str, Any]) -> str:
    servers = client_options.get("bootstrap_servers", "localhost")
    return servers if isinstance(servers, str) else ",".join(servers)


async def _connect(client_options: Mapping[str, Any], progress: _Progress) -> AIOKafkaAdminClient:
    """Return a started admin client; tries for ever, the caller has the deadline."""
    with _aiokafka_silent():
        return await _tried(client_options, progress)


@contextlib.contextmanager
def _aiokafka_silent() -> Iterator[None]:
    """Keep aiokafka from logging each failed try: the caller says in one line what is wrong."""
    library = logging.getLogger("aiokafka")
    level = library.level
    if level >= logging.WARNING:  # unless somebody wants to see everything
        library.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        library.setLevel(level)


async def _tried(client_options: Mapping[str, Any], progress: _Progress) -> AIOKafkaAdminClient:
    while True:
        admin = AIOKafkaAdminClient(**client_options)
        try:
            await admin.start()
            await admin.describe_topics([])  # by the address that the broker itself gives
        except KafkaError as error:
            await admin.close()
            await raise_refusal(client_options)
            progress.unknown_names = await unknown_names(client_options)
            logger.debug("no broker at %s yet: %s", progress.servers, error)
            await asyncio.sleep(_RETRY_S)
        except BaseException:
            await admin.close()
            raise
        else:
            return admin


async def _ensure(
    admin: AIOKafkaAdminClient,
    wanted: Mapping[str, TopicSpec],
    replication_factor: int,
    progress: _Progress,
    *,
    create: bool,
) -> None:
    present = await _describe(admin, wanted)
    progress.now = "the broker does not say which topics there are"
    _check_partitions(wanted, present)
    missing = [spec for name, spec in wanted.items() if name not in present]
    if missing and not create:
        names = ", ".join(sorted(spec.name for spec in missing))
        message = (
            f"missing topics: {names}; create them (`headrace topics create`), or set "
            "KAFKA_AUTO_CREATE_TOPICS=true"
        )
        raise TopicError(message)
    if missing:
        progress.now = "the broker does not create them"
        await _create(admin, missing, replication_factor)
    new = {spec.name for spec in missing}
    while waiting := _without_leader(wanted, present, new):
        progress.now = f"no leader for {', '.join(waiting)}"
        await asyncio.sleep(_POLL_S)
        present = await _describe(admin, wanted)
        _check_partitions(wanted, present)


async def _describe(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, TopicSpec]
) -> dict[str, list[_Partition]]:
    """Return the partitions of those topics that are there."""
    # All topics are asked for: asking by name would make a missing one where the cluster has
    # auto.create.topics.enable, with the wrong number of partitions.
    try:
        topics = await admin.describe_topics()
    except KafkaError as error:
        logger.debug("metadata: %s", error)
        await asyncio.sleep(_RETRY_S)
        topics = await admin.describe_topics()
    return {
        topic["topic"]: [
            _Partition(part["leader"], len(part["isr"]), len(part["replicas"]))
            for part in topic["partitions"]
        ]
        for topic in topics
        if topic["topic"] in wanted and topic["partitions"]
    }


def _check_partitions(
    wanted: Mapping[str, TopicSpec], present: Mapping[str, Sequence[_Partition]]
) -> None:
    for name, parts in present.items():
        needs = wanted[name].partitions
        if len(parts) != needs:
            message = (
                f"topic {name} has {len(parts)} partitions and needs {needs}: set "
                f"HEADRACE_PARTITIONS={len(parts)}, or delete the topic to have it made anew"
            )
            raise TopicError(message)


async def _create(
    admin: AIOKafkaAdminClient, missing: Sequence[TopicSpec], replication_factor: int
) -> None:
    topics = [_new_topic(spec, replication_factor) for spec in missing]
    while topics:
        answer = await admin.create_topics(topics)
        again: set[str] = set()
        for name, code, *text in answer.topic_errors:
            error = for_code(code)
            if code == 0:
                continue
            if error is TopicAlreadyExistsError:  # by somebody else just now; or not for our eyes
                await _refuse_hidden(admin, name)
                continue
            if not error.retriable:
                reason = (text and text[0]) or error.description or error.__name__
                message = f"the broker refuses to create topic {name}: {reason}"
                raise TopicError(message)
            again.add(name)
        topics = [topic for topic in topics if topic.name in again]
        if topics:
            await asyncio.sleep(_RETRY_S)


async def _refuse_hidden(admin: AIOKafkaAdminClient, name: str) -> None:
    """Raise AccessDeniedError for a topic that exists, if this user may not even describe it."""
    [topic] = await admin.describe_topics([name])
    if for_code(topic["error_code"]) is TopicAuthorizationFailedError:
        message = (
            f"Kafka denies this user what it needs (topic {name} exists, and it may not describe "
            "it): docs/security.md lists the ACLs"
        )
        raise AccessDeniedError(message)


def _new_topic(spec: TopicSpec, replication_factor: int) -> NewTopic:
    topic = NewTopic(spec.name, spec.partitions, 1, topic_configs=dict(spec.config))
    topic.replication_factor = replication_factor  # aiokafka refuses -1: the cluster's default
    return topic


def _without_leader(
    wanted: Mapping[str, TopicSpec], present: Mapping[str, Sequence[_Partition]], new: set[str]
) -> list[str]:
    """Return the topics that cannot be written to yet, as `name` or `name-partition`."""
    found = []
    for name in wanted:
        if name not in present:
            found.append(name)
            continue
        for number, part in enumerate(present[name]):
            # Two in sync satisfy the usual min.insync.replicas of a new topic. An older topic may
            # live on fewer: a broker that is down must not keep a worker from starting.
            enough = min(2, part.replicas) if name in new else 1
            if part.leader < 0 or part.in_sync < enough:
                found.append(f"{name}-{number}")
    return found


async def _leaders_answer(client_options: Mapping[str, Any], specs: Iterable[TopicSpec]) -> None:
    """Return when the leader of every partition has answered a request of its own.

    The metadata names a leader a moment before that broker has opened the partition.
    """
    partitions = [TopicPartition(s.name, number) for s in specs for number in range(s.partitions)]
    consumer = AIOKafkaConsumer(**client_options)
    try:
        await consumer.start()
        await know_topics(consumer, partitions)
        await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()
