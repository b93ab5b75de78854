"""What the cluster says of its topics, and what they are to the application."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from commands.asking import ANSWER_TIMEOUT_S
from commands.reading import bounds_of, reader
from streams.engine.admin import connected
from streams.engine.cluster import Bounds
from streams.engine.definitions import RepartitionTopic, Topology
from streams.errors import TopicError

if TYPE_CHECKING:
    from config.settings import Settings

_DEFAULT_CONFIG = 5
"""The source of a setting that nobody set (DescribeConfigs' config_source)."""

_INTERNAL = ("__consumer_offsets", "__transaction_state", "__share_group_state")
"""Kafka's own topics."""

_SOURCES = {1: "topic", 2: "broker", 3: "all brokers", 4: "broker's file"}


class PartitionFacts(msgspec.Struct, kw_only=True):
    """A partition: node ids (leader below 0: none), and what it holds: offsets begin to end."""

    partition: int
    leader: int
    replicas: list[int]
    in_sync: list[int]
    begin: int | None = None
    end: int | None = None


class TopicFacts(msgspec.Struct, kw_only=True):
    """A topic and what it is to the application; without partitions it is missing."""

    topic: str
    kind: str
    partitions: list[PartitionFacts] = []

    @property
    def records(self) -> int | None:
        """Offsets between begin and end: compaction and commit markers make it more than records."""
        spans = [
            p.end - p.begin for p in self.partitions if p.begin is not None and p.end is not None
        ]
        return sum(spans) if spans else None


class ConfigEntry(NamedTuple):
    """A setting of a topic that is not Kafka's default, and where it was set."""

    name: str
    value: str
    source: str


def kinds(groups: Iterable[tuple[Settings, Topology]]) -> dict[str, str]:
    """Return what each topic of the application's groups is; of each group, inputs first."""
    found: dict[str, str] = {}
    for settings, topology in groups:
        derived = [topic.name for flow in topology.flows for topic in flow.outputs]
        changelogs = [table.changelog(settings.app_id) for table in topology.tables]
        between = [t.name for t in topology.inputs if isinstance(t, RepartitionTopic)]
        for names, kind in (
            (between, "repartition"),
            ([topic.name for topic in topology.inputs], "input"),
            (derived, "derived"),
            ([topology.dead_letters], "dead letters"),
            ([topology.late_records] * topology.tells_late, "late records"),
            (changelogs, "changelog"),
        ):
            for name in names:
                found.setdefault(name, kind)
    return found


def kind_of_other(name: str) -> str:
    """Return what a topic is that is none of the application's."""
    return "internal" if name in _INTERNAL else "other"


async def topic_facts(
    client: Mapping[str, Any], known: Mapping[str, str], *, others: bool = False
) -> list[TopicFacts]:
    """Return the known topics, missing ones too, and with `others` all that the cluster has."""
    present = await _present(client)
    names = [*known, *(sorted(present.keys() - known.keys()) if others else ())]
    facts = [present.get(name) or TopicFacts(topic=name, kind="") for name in names]
    for topic in facts:
        topic.kind = known.get(topic.topic, topic.kind)
    await _add_offsets(client, facts)
    return facts


async def one_topic(client: Mapping[str, Any], known: Mapping[str, str], name: str) -> TopicFacts:
    """Return a topic's facts, offsets included. Raises TopicError if there is none of the name."""
    topic = (await _present(client)).get(name)
    if topic is None:
        raise missing(name)
    topic.kind = known.get(name, topic.kind)
    await _add_offsets(client, [topic])
    return topic


async def partitions_of(client: Mapping[str, Any], name: str) -> list[TopicPartition]:
    """Return a topic's partitions. Raises TopicError if there is none of the name."""
    topic = (await _present(client)).get(name)
    if topic is None:
        raise missing(name)
    return [TopicPartition(name, each.partition) for each in topic.partitions]


def missing(name: str) -> TopicError:
    """Return the error to raise for a topic that is not there."""
    return TopicError(
        f"there is no topic {name}, or this user may not see it: `headrace topics list --all` shows "
        "all that there are, `headrace topics create` makes the application's"
    )


async def changed_config(client: Mapping[str, Any], name: str) -> list[ConfigEntry]:
    """Return the topic's settings that are not Kafka's defaults."""
    resource = ConfigResource(ConfigResourceType.TOPIC, name)
    async with connected(client, timeout_s=ANSWER_TIMEOUT_S) as admin:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            [answer] = await admin.describe_configs([resource])
    [(code, text, _, _, entries)] = answer.resources
    if code:
        raise for_code(code)(text or "")
    return [
        ConfigEntry(setting, "(hidden)" if sensitive else str(value), _SOURCES.get(source, "-"))
        for setting, value, _, source, sensitive, *_ in entries
        if source != _DEFAULT_CONFIG
    ]


async def _present(client: Mapping[str, Any]) -> dict[str, TopicFacts]:
    """Return every topic that the cluster shows, without offsets."""
    async with connected(client, timeout_s=ANSWER_TIMEOUT_S) as admin:
        # All are asked for: asking by name makes a missing one where the cluster allows it.
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            topics = await admin.describe_topics()
    return {
        topic["topic"]: TopicFacts(
            topic=topic["topic"],
            kind="internal" if topic["is_internal"] else "other",
            partitions=_partitions(topic["partitions"]),
        )
        for topic in topics
        if topic["partitions"]
    }


def _partitions(described: Iterable[Mapping[str, Any]]) -> list[PartitionFacts]:
    found = [
        PartitionFacts(
            partition=each["partition"],
            leader=each["leader"],
            replicas=each["replicas"],
            in_sync=each["isr"],
        )
        for each in described
    ]
    return sorted(found, key=lambda each: each.partition)


async def _add_offsets(client: Mapping[str, Any], topics: Sequence[TopicFacts]) -> None:
    """Fill in begin and end of all partitions that have a leader to tell them."""
    led = {
        TopicPartition(topic.topic, each.partition): each
        for topic in topics
        for each in topic.partitions
        if each.leader >= 0
    }
    if not led:
        return
    async with reader(client, isolation_level="read_uncommitted") as consumer:
        bounds: Mapping[TopicPartition, Bounds] = await bounds_of(consumer, led)
    for tp, each in led.items():
        each.begin, each.end = bounds[tp]
