"""Makes the application's topics, or a named one; what is there stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from commands.asking import ANSWER_TIMEOUT_S
from commands.groups import every_group
from commands.topic_facts import kind_of_other, kinds
from streams.engine.admin import TopicSpec, ensure_topics, partition_counts
from streams.engine.layout import EVENT_CONFIG, own_topics
from streams.errors import TopicError
from streams.prepare import prepare_topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from config.settings import Settings
    from streams.engine.definitions import Topology


class Made(msgspec.Struct, kw_only=True):
    """A topic that there is now, and whether it was missing before."""

    topic: str
    kind: str
    partitions: int
    made: bool


async def make_topics(
    settings: Settings, client: dict[str, Any], name: str | None, *, is_exact: bool
) -> list[Made]:
    """Make what is missing of the application's topics, or the named one; return what there is now.

    With `is_exact` the settings' number of partitions was asked for, and topics with another are
    refused: TopicError. Else that of the inputs counts, where they exist.
    """
    groups = every_group(settings)
    known = kinds(groups)
    names = list(known) if name is None else [name]
    before = await partition_counts(client, [*known, *names], timeout_s=ANSWER_TIMEOUT_S)
    partitions = settings.partitions
    if is_exact:
        _refuse_others(before, names, partitions)
        if name in known:
            _refuse_unlike(before, known, name, partitions)
    elif names[0] in known:
        inputs = [
            before[each] for each, kind in known.items() if kind == "input" and each in before
        ]
        partitions = inputs[0] if inputs else partitions
    if name is None:
        for own, topology in groups:
            partitions = await prepare_topics(
                topology,
                client,
                application_id=own.app_id,
                default_partitions=partitions,
                replication_factor=settings.kafka_replication_factor,
                create=True,
            )
    else:
        partitions = before.get(name, partitions)
        await ensure_topics(
            client,
            [TopicSpec(name, partitions, _config(groups, name))],
            replication_factor=settings.kafka_replication_factor,
            timeout_s=ANSWER_TIMEOUT_S,
        )
    return [
        Made(
            topic=n,
            kind=known.get(n) or kind_of_other(n),
            partitions=partitions,
            made=n not in before,
        )
        for n in names
    ]


def _refuse_others(before: Mapping[str, int], names: Iterable[str], wanted: int) -> None:
    """Raise TopicError for the first of these topics that has another number of partitions."""
    for name in names:
        if before.get(name, wanted) != wanted:
            raise TopicError(
                f"topic {name} is there with {before[name]} partitions, not {wanted}: leave out "
                "--partitions to use it as it is, or delete it to have it made anew"
            )


def _refuse_unlike(before: Mapping[str, int], known: Iterable[str], name: str, wanted: int) -> None:
    """Raise TopicError where another of the application's topics has another number of partitions."""
    for other in known:
        if before.get(other, wanted) != wanted:
            raise TopicError(
                f"topic {name} must have as many partitions as {other} ({before[other]}), not {wanted}: "
                "leave out --partitions"
            )


def _config(groups: Iterable[tuple[Settings, Topology]], name: str) -> Mapping[str, str]:
    """Return the configuration of a topic that is made: the cluster's own for one that is not ours."""
    configs: dict[str, Mapping[str, str]] = {}
    for settings, topology in groups:
        configs |= {topic.name: EVENT_CONFIG for topic in topology.inputs}
        configs |= own_topics(topology, settings.app_id)
    return configs.get(name, {})
