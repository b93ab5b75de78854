"""Whether the inputs are still what the committed offsets were counted in (decision 0019)."""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple

from streams.engine import changelogs
from streams.engine.cluster import (
    Bounds,
    Cluster,
    Committed,
    TopicState,
    are_different,
    out_of_range,
)
from streams.engine.errors import KafkaUnavailableError, StateMismatchError
from streams.engine.notes import noted
from streams.engine.records import TopicPartition
from streams.engine.task import Task
from streams.errors import AccessDeniedError

log = logging.getLogger(__name__)

# Offsets of a topic that was made anew may look plausible for as long as nobody looks.
_LOOK_EACH_S: Final = 2.0
ANSWER: Final = "`headrace worker --reset` goes on with what there is, and keeps the tables"


class Positions(NamedTuple):
    """Where a task goes on."""

    bounds: dict[TopicPartition, Bounds]
    """From where each input is read, and its present end."""
    resets: dict[TopicPartition, int]
    """The offsets of those inputs that go on elsewhere than committed: to be committed at once."""


async def look_at_inputs(task: Task, partitions: int) -> dict[str, str]:
    """Return the ids of the task's input topics; no id where the brokers do not tell.

    Raises KafkaUnavailableError where one is missing: who watches them knows whether it stays so.
    """
    topics = await task.cluster.topics([tp.topic for tp in task.inputs])
    for tp in task.inputs:
        if tp.topic not in topics:
            msg = f"no broker knows topic {tp.topic}"
            raise KafkaUnavailableError(msg)
        if topics[tp.topic].partitions != partitions:
            raise _other_partitions(tp.topic, topics[tp.topic].partitions, partitions)
    return {name: state.topic_id for name, state in topics.items() if state.topic_id}


async def refuse_twins(task: Task, committed: Collection[TopicPartition], partitions: int) -> None:
    """Raise StateMismatchError if the group has read a twin of an input of which this task has read nothing.

    The tables hold the twin's records, and would count them again; its offsets say nothing of the input.
    Of any partition: members that are set up differently would each read another topic of the two.
    """
    twins = {
        TopicPartition(twin.name, partition): topic.name
        for topic, twin in task.subtopology.twins
        if TopicPartition(topic.name, task.partition) not in committed
        for partition in range(partitions)
    }
    if not twins:
        return
    try:
        read = await task.cluster.committed(twins)
    except AccessDeniedError:  # who may not see a topic has not read it
        return
    for source in read:
        raise StateMismatchError(
            f"group {task.config.application_id} has read {source.topic} so far, and is to read "
            f"{twins[source]} in its place: its tables hold the records of the one, and would count those of "
            f"the other again; nothing was changed. Let it read {source.topic}; or start afresh with another "
            f"HEADRACE_APP_ID"
        )


def positions(
    task: Task,
    committed: Mapping[TopicPartition, Committed],
    bounds: Mapping[TopicPartition, Bounds],
    topic_ids: Mapping[str, str],
) -> Positions:
    """Return from where each input is read on.

    Raises StateMismatchError where that would lose records, or take records of a topic that was made
    anew for the old one's; a task that may be reset goes on with what there is, and says so.
    """
    newest = noted(committed.values())
    found: dict[TopicPartition, Bounds] = {}
    resets: dict[TopicPartition, int] = {}
    for source in task.inputs:
        begin, end = bounds[source]
        at = committed.get(source)
        # A topic takes its offsets with it when it is deleted: then another input's note remembers it.
        known = (newest if at is None else noted([at])).topics.get(source.topic, "")
        is_new = are_different(known, topic_ids.get(source.topic, ""))
        if is_new:
            wrong = _made_anew(source, task.config.application_id)
        elif at is not None and not begin <= at.offset <= end:
            wrong = out_of_range(source, at.offset, Bounds(begin, end))
        else:
            found[source] = Bounds(begin if at is None else at.offset, end)
            continue
        if not task.config.reset:
            raise wrong
        # Above the end of the very same topic, the brokers have lost what was read: it is not read again.
        is_cut = at is not None and known and not is_new and at.offset > end
        resets[source] = end if is_cut else begin
        found[source] = Bounds(resets[source], end)
        why, _, _ = str(wrong).partition(";")
        log.warning("reset to offset %d of %s-%d: %s", resets[source], *source, why)
    return Positions(found, resets)


async def watch_inputs(
    cluster: Cluster, names: Collection[str], tasks: Callable[[], Iterable[Task]], partitions: int
) -> None:
    """Look at inputs and changelogs again and again. Raises StateMismatchError once they are others.

    Seen twice in a row: a broker that has just started may not know yet what the others know.
    """
    suspicion = ""
    while True:
        await asyncio.sleep(_LOOK_EACH_S)
        seen = changelogs.watched(tasks())
        try:
            topics = await cluster.topics([*names, *seen])
        except (KafkaUnavailableError, TimeoutError):
            continue
        wrong = _difference(names, topics, tasks(), partitions)
        wrong = wrong or changelogs.difference(seen, topics)
        if wrong is not None and str(wrong) == suspicion:
            raise wrong
        suspicion = str(wrong or "")


def _difference(
    names: Collection[str], topics: Mapping[str, TopicState], tasks: Iterable[Task], partitions: int
) -> StateMismatchError | None:
    for name in names:
        if name not in topics:
            return StateMismatchError(
                f"topic {name} was deleted while it was read; nothing more is processed. Make it again: "
                f"{ANSWER}; or start afresh with another HEADRACE_APP_ID"
            )
        if topics[name].partitions != partitions:
            return _other_partitions(name, topics[name].partitions, partitions)
    for task in tasks:
        for source in task.inputs:
            known = task.topic_ids.get(source.topic, "")
            if are_different(known, topics[source.topic].topic_id):
                return _made_anew(source, task.config.application_id)
    return None


def _other_partitions(name: str, found: int, expected: int) -> StateMismatchError:
    return StateMismatchError(
        f"topic {name} has {found} partitions, and had {expected} when this worker started: equal keys "
        f"lie in several now, and some in none that is read; what was read is safe. Start afresh with "
        f"another HEADRACE_APP_ID, and as many partitions in every topic"
    )


def _made_anew(source: TopicPartition, group: str) -> StateMismatchError:
    return StateMismatchError(
        f"topic {source.topic} was deleted and made anew since group {group} read it: the offset of "
        f"partition {source.partition} belongs to the old one; nothing was changed. {ANSWER}; or start "
        f"afresh with another HEADRACE_APP_ID"
    )
