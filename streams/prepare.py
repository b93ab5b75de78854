"""The topics that an application needs: made where they are missing, refused where they do not fit."""

from collections.abc import Mapping
from typing import Any

from streams.engine.admin import TopicSpec, ensure_topics, partition_counts
from streams.engine.definitions import Topology
from streams.engine.layout import EVENT_CONFIG, own_topics
from streams.errors import TopicError

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
    do not fit together, BrokerUnreachableError where no broker answers.
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
    configs = {**dict.fromkeys(inputs, EVENT_CONFIG), **own}
    await ensure_topics(
        client_options,
        [TopicSpec(name, partitions, config) for name, config in configs.items()],
        replication_factor=replication_factor,
        create=create,
        timeout_s=_TIMEOUT_S,
    )
    return partitions
