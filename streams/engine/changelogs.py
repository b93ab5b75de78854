"""Whether the changelogs are still what offsets were counted in (decision 0018)."""

from collections.abc import Iterable, Mapping
from typing import Final

from streams.engine.cluster import Bounds, TopicState, are_different
from streams.engine.errors import KafkaUnavailableError, StateMismatchError
from streams.engine.notes import Note, Stand, short_id
from streams.engine.records import TopicPartition
from streams.engine.task import Task

AFRESH: Final = (
    "Start afresh with another HEADRACE_APP_ID; the inputs are read from their beginnings then"
)


async def look_at_changelogs(task: Task) -> dict[str, str]:
    """Return the ids of the task's changelogs, by table; empty where the brokers tell none.

    Raises KafkaUnavailableError where one is missing: who watches them knows whether it stays so.
    """
    names = {table.name: task.changelog(table).topic for table in task.subtopology.tables}
    topics = await task.cluster.topics(list(names.values()))
    for name in names.values():
        if name not in topics:
            msg = f"no broker knows changelog {name}"
            raise KafkaUnavailableError(msg)
    return {table: topics[name].topic_id for table, name in names.items()}


def check_noted(
    task: Task, newest: Note, ids: Mapping[str, str], bounds: Mapping[TopicPartition, Bounds]
) -> None:
    """Raise StateMismatchError for a changelog that is not the one that was committed to, or shorter."""
    for table in task.subtopology.tables:
        changelog = task.changelog(table)
        stood = newest.changelogs.get(table.name, Stand())
        if are_different(stood.topic, short_id(ids[table.name])):
            raise made_anew(changelog.topic, task.config.application_id)
        if stood.end > bounds[changelog].end:
            msg = (
                f"changelog {changelog.topic}-{changelog.partition} ends at offset {bounds[changelog].end}, "
                f"and group {task.config.application_id} has committed up to {stood.end} of it: rows are "
                f"gone; nothing was changed. {AFRESH}"
            )
            raise StateMismatchError(msg)


def watched(tasks: Iterable[Task]) -> dict[str, tuple[Task, str]]:
    """Return the changelogs of tasks that were taken: whose each is, and its id then."""
    return {
        task.changelog(table).topic: (task, task.position.topics[table.name])
        for task in tasks
        for table in task.subtopology.tables
        if table.name in task.position.topics
    }


def difference(
    seen: Mapping[str, tuple[Task, str]], topics: Mapping[str, TopicState]
) -> StateMismatchError | None:
    """Return what is wrong with watched changelogs, by what the brokers know."""
    for name, (task, known) in seen.items():
        if name not in topics:
            return deleted(name, task.config.application_id)
        if are_different(known, topics[name].topic_id):
            return made_anew(name, task.config.application_id)
    return None


def deleted(name: str, group: str) -> StateMismatchError:
    """Return the error for a changelog that is not there."""
    return StateMismatchError(
        f"changelog {name} was deleted, and group {group} has committed offsets that belong to its "
        f"rows: what was counted is gone; it is not made anew, and nothing was changed. {AFRESH}"
    )


def made_anew(name: str, group: str) -> StateMismatchError:
    """Return the error for a changelog that is another topic of the same name."""
    return StateMismatchError(
        f"changelog {name} is not the one that group {group} wrote to, but was made anew: its rows are "
        f"gone; nothing was changed. {AFRESH}"
    )
