"""How far the group is behind its inputs: records and seconds, by task and by member."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from commands.asking import ANSWER_TIMEOUT_S
from commands.group_members import described, web_address
from commands.reading import bounds_of, reader
from streams.engine.admin import connected, partition_counts
from streams.engine.cluster import Bounds, Committed
from streams.engine.definitions import Topology
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.layout import Subtopology, subtopologies
from streams.engine.records import TopicPartition
from streams.errors import TopicError

_POLL_MS = 200
# Of each partition one record is wanted; Kafka sends a larger batch, too, if it is the first.
_FETCH_BYTES = 16_384
_UUID = re.compile(r"-([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


class PartitionLag(msgspec.Struct, kw_only=True):
    """An input partition: what is committed (None: nothing yet), its end, and what lies between."""

    topic: str
    partition: int
    committed: int | None
    end: int
    records: int
    seconds: float | None
    """How long ago the oldest unread record came to Kafka; 0 if there is none, None if not known."""


class TaskLag(msgspec.Struct, kw_only=True):
    """A task, the id of the member that has it (None: nobody), and its inputs."""

    task: str
    member_id: str | None
    records: int
    seconds: float | None
    partitions: list[PartitionLag]


class MemberLag(msgspec.Struct, kw_only=True):
    """A member of the group, and what its tasks are behind together."""

    member_id: str
    client_id: str
    host: str
    web: str
    """`host:port` of its web view, by which `tables list` names it; empty if it has none."""
    tasks: list[str]
    records: int
    seconds: float | None

    @property
    def label(self) -> str:
        """The web address, by which people know it; without one the id, shortened."""
        return self.web or _UUID.sub(r"-\1", self.member_id)


class GroupLag(msgspec.Struct, kw_only=True):
    """The group as its coordinator sees it (state: Kafka's word), and how far it is behind."""

    group: str
    state: str
    records: int
    seconds: float | None
    members: list[MemberLag]
    tasks: list[TaskLag]


class LagReader:
    """Asks for the lag of one group as often as wanted."""

    def __init__(
        self,
        topology: Topology,
        cluster: KafkaCluster,
        admin: AIOKafkaAdminClient,
        consumer: AIOKafkaConsumer,
        partitions: int,
    ) -> None:
        self._tasks = [
            (subtopology, partition)
            for subtopology in subtopologies(topology)
            for partition in range(partitions)
        ]
        self._cluster = cluster
        self._admin = admin
        self._consumer = consumer

    async def look(self) -> GroupLag:
        """Return how things stand now. Raises KafkaError or KafkaUnavailableError."""
        inputs = [tp for each, number in self._tasks for tp in each.partitions(number)]
        committed = await self._cluster.committed(inputs)
        bounds = await bounds_of(self._consumer, inputs)
        behind = await self._behind(committed, bounds)
        group = await described(self._admin, self._cluster.options.group)
        owners = {tp: m["member_id"] for m in group["members"] for tp in _assigned(m)}
        tasks = [_task_lag(each, number, behind, owners) for each, number in self._tasks]
        return GroupLag(
            group=self._cluster.options.group,
            state=group["state"],
            records=sum(task.records for task in tasks),
            seconds=_longest(tasks),
            members=[_member_lag(member, tasks) for member in group["members"]],
            tasks=tasks,
        )

    async def _behind(
        self, committed: Mapping[TopicPartition, Committed], bounds: Mapping[TopicPartition, Bounds]
    ) -> dict[TopicPartition, PartitionLag]:
        nexts = {
            tp: max(committed[tp].offset, each.begin) if tp in committed else each.begin
            for tp, each in bounds.items()
        }
        unread = {tp: offset for tp, offset in nexts.items() if offset < bounds[tp].end}
        oldest = await self._oldest(unread, bounds)
        now_ms = time.time_ns() // 1_000_000
        found = {}
        for tp, each in bounds.items():
            # Between what is committed and the end there may be markers of transactions alone.
            records = max(0, each.end - nexts[tp]) if tp in oldest else 0
            found[tp] = PartitionLag(
                topic=tp.topic,
                partition=tp.partition,
                committed=committed[tp].offset if tp in committed else None,
                end=each.end,
                records=records,
                seconds=_age_s(oldest[tp], now_ms) if tp in oldest else 0.0,
            )
        return found

    async def _oldest(
        self, begins: Mapping[TopicPartition, int], bounds: Mapping[TopicPartition, Bounds]
    ) -> dict[TopicPartition, int]:
        """Return Kafka's timestamp of the first record from each begin on, where there is one."""
        found: dict[TopicPartition, int] = {}
        waiting = set(begins)
        if not waiting:
            return found
        self._consumer.assign(list(waiting))
        for tp, begin in begins.items():
            self._consumer.seek(tp, begin)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while waiting:
                read = await self._consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=1)
                found |= {tp: records[0].timestamp for tp, records in read.items() if records}
                for tp in list(waiting):
                    if tp in found or await self._consumer.position(tp) >= bounds[tp].end:
                        waiting.discard(tp)
                        self._consumer.pause(tp)
        return found


@contextlib.asynccontextmanager
async def lag_reader(
    topology: Topology, client: Mapping[str, Any], group: str
) -> AsyncIterator[LagReader]:
    """Yield a reader of this group's lag. Raises TopicError where an input is missing."""
    names = [topic.name for topic in topology.inputs]
    counts = await partition_counts(client, names, timeout_s=ANSWER_TIMEOUT_S)
    if absent := [name for name in names if name not in counts]:
        raise TopicError(
            f"missing topics: {', '.join(absent)}; `headrace topics create` makes them, and so does "
            "the first worker"
        )
    cluster = KafkaCluster(KafkaOptions(client=client, group=group))
    fetch = {"max_partition_fetch_bytes": _FETCH_BYTES}
    await cluster.start()
    try:
        async with (
            connected(client, timeout_s=ANSWER_TIMEOUT_S) as admin,
            reader(client, **fetch) as consumer,
        ):
            yield LagReader(topology, cluster, admin, consumer, min(counts.values()))
    finally:
        await cluster.stop()


def _task_lag(
    subtopology: Subtopology,
    number: int,
    behind: Mapping[TopicPartition, PartitionLag],
    owners: Mapping[TopicPartition, str],
) -> TaskLag:
    inputs = subtopology.partitions(number)
    partitions = [behind[tp] for tp in inputs]
    return TaskLag(
        task=subtopology.task_id(number),
        member_id=owners.get(inputs[0]),
        records=sum(each.records for each in partitions),
        seconds=_longest(partitions),
        partitions=partitions,
    )


def _member_lag(member: dict[str, Any], tasks: Sequence[TaskLag]) -> MemberLag:
    own = [task for task in tasks if task.member_id == member["member_id"]]
    return MemberLag(
        member_id=member["member_id"],
        client_id=member["client_id"],
        host=member["client_host"].removeprefix("/"),
        web=web_address(member),
        tasks=[task.task for task in own],
        records=sum(task.records for task in own),
        seconds=_longest(own),
    )


def _assigned(member: Mapping[str, Any]) -> list[TopicPartition]:
    """Return a member's partitions: none while the group rebalances."""
    if not member["member_assignment"]:
        return []
    decoded = ConsumerProtocolMemberAssignment.decode(member["member_assignment"])
    return [
        TopicPartition(topic, number) for topic, numbers in decoded.assignment for number in numbers
    ]


def _longest(parts: Sequence[PartitionLag | TaskLag]) -> float | None:
    """Return the largest number of seconds; None if what is behind does not tell any."""
    known = [part.seconds for part in parts if part.seconds is not None]
    return max(known, default=0.0) if known or not parts else None


def _age_s(time_ms: int, now_ms: int) -> float | None:
    return None if time_ms < 0 else max(0, now_ms - time_ms) / 1_000
