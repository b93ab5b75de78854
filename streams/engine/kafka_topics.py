"""Kafka's answer to what a topic is, its id among it: aiokafka asks in a version that tells none."""

from io import BytesIO
from typing import Any, Final, TypeAlias
from uuid import UUID

from aiokafka import errors as kafka_errors
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from streams.engine.cluster import TopicState

_NO_ID: Final = UUID(int=0)
_ID_BYTES: Final = 16


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(_ID_BYTES))


class MetadataResponse_v10(Response):  # type: ignore[misc] # noqa: N801 - aiokafka's way to name versions
    """KIP-516: with topic ids."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequest_v10(RequestStruct):  # type: ignore[misc] # noqa: N801 - likewise
    """KIP-516: with topic ids."""

    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("topic", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


_Versions: TypeAlias = MetadataRequest_v5 | MetadataRequest_v10


class TopicsRequest(Request[_Versions]):  # type: ignore[misc]
    """Asks what topics are, and never has one made."""

    API_KEY = 3

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Versions]) -> _Versions:
        """Return the request in the newest version that the broker knows; none before Kafka 1.0."""
        if request_struct_class is MetadataRequest_v5:
            return MetadataRequest_v5(self._names, False)
        wanted: list[Any] = [(_NO_ID, name, {}) for name in self._names]
        return MetadataRequest_v10(wanted, False, False, False, {})


def topic_states(answer: Any) -> dict[str, TopicState]:
    """Return the topics that exist. Raises KafkaError if the broker tells of another error."""
    found = {}
    for topic in answer.to_object()["topics"]:
        code = topic["error_code"]
        if code == kafka_errors.UnknownTopicOrPartitionError.errno:
            continue
        if code:
            raise kafka_errors.for_code(code)
        topic_id = topic.get("topic_id", _NO_ID)
        known = "" if topic_id == _NO_ID else str(topic_id)
        found[topic["topic"]] = TopicState(len(topic["partitions"]), known)
    return found
