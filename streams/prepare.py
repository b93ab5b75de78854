"""The topics that an application needs: made where they are missing, refused where they do not fit."""

from collections.abc import Collection, Mapping
from typing import Any

from streams.engine.admin import TopicSpec, ensure_topics, partition_counts
from streams.engine.changelogs import deleted
from streams.engine.definitions import Topology
from streams.engine.errors import KafkaUnavailableError
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.layout import EVENT_CONFIG, own_topics
from streams.engine.notes import noted
from streams.engine.records import TopicPartition
from streams.errors import AccessDeniedError, TopicError

# A broker that is not there is said after so long: longer than one takes to start beside the worker.
_TIMEOUT_S = 15.0


async def prepare_topics(
    topology: Topology,
    client_options: Mapping[str, Any],
    *,
    application_id: str,
    default_partitions: int,
    replication_factor: int,
    create: bool,
) -> int:
    """Have every topic of the topology ready for use; return their number of partitions.

    That is the inputs' where they exist, else `default_partitions`. Raises TopicError where topics
    do not fit together, BrokerUnreachableError where no broker answers, StateMismatchError for a
    changelog that is gone though offsets are committed that belong to its rows.
    """
    inputs = [topic.name for topic in topology.inputs]
    own = own_topics(topology, application_id)
    present = await partition_counts(client_options, [*inputs, *own], timeout_s=_TIMEOUT_S)
    found = {name: present[name] for name in inputs if name in present}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in found.items())
        raise TopicError(
            f"topics that are processed together need the same number of partitions: {told}"
        )
    partitions = next(iter(found.values()), default_partitions)
    for name in own:
        if present.get(name, partitions) != partitions:
            raise TopicError(
                f"topic {name} has {present[name]} partitions, but {inputs[0]} has {partitions}: what "
                f"was written under HEADRACE_APP_ID={application_id} belongs to another number; give "
                f"{inputs[0]} {present[name]} partitions again, or start afresh with another id"
            )
    if found and create:
        of_tables = {t.name: t.changelog(application_id) for t in topology.tables}
        gone = {table: name for table, name in of_tables.items() if name not in present}
        inputs_now = [TopicPartition(name, n) for name in found for n in range(partitions)]
        await _refuse_if_needed(gone, client_options, application_id, inputs_now)
    configs = {**dict.fromkeys(inputs, EVENT_CONFIG), **own}
    await ensure_topics(
        client_options,
        [TopicSpec(name, partitions, config) for name, config in configs.items()],
        replication_factor=replication_factor,
        create=create,
        timeout_s=_TIMEOUT_S,
    )
    return partitions


async def _refuse_if_needed(
    gone: Mapping[str, str],
    client_options: Mapping[str, Any],
    group: str,
    inputs: Collection[TopicPartition],
) -> None:
    """Raise StateMismatchError for a changelog, by table, that the group's offsets say had been there.

    Made anew it would be empty, and so would the table. Where the offsets cannot be read, whoever
    takes a task finds it out.
    """
    if not gone:
        return
    cluster = KafkaCluster(KafkaOptions(client=client_options, group=group))
    await cluster.start()
    try:
        committed = await cluster.committed(inputs)
    except (AccessDeniedError, KafkaUnavailableError):
        return
    finally:
        await cluster.stop()
    for found in committed.values():
        for table in noted([found]).changelogs.keys() & gone.keys():
            raise deleted(gone[table], group)
