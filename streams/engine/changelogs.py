"""Whether the changelogs are still what offsets and stores were counted in (decision 0018)."""

from collections.abc import Iterable, Mapping

from streams.engine.cluster import Bounds, TopicState, are_different
from streams.engine.config import EngineConfig
from streams.engine.errors import KafkaUnavailableError, StateMismatchError
from streams.engine.notes import Note, Stand, short_id
from streams.engine.records import TopicPartition
from streams.engine.store import Position
from streams.engine.task import Task

_AFRESH = (
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
                f"gone; nothing was changed. {_AFRESH}"
            )
            raise StateMismatchError(msg)


def belongs(
    task: Task,
    position: Position,
    ids: Mapping[str, str],
    bounds: Mapping[TopicPartition, Bounds],
) -> bool:
    """Tell whether a store's rows are of this task and of these very changelogs.

    What a store of an earlier release does not tell counts as right.
    """
    return position.task in {"", task.id} and all(
        position.changelogs.get(table.name, 0) <= bounds[task.changelog(table)].end
        and not are_different(position.topics.get(table.name, ""), ids[table.name])
        for table in task.subtopology.tables
    )


def check_begins(task: Task, position: Position, bounds: Mapping[TopicPartition, Bounds]) -> None:
    """Raise StateMismatchError where a changelog lost what the store does not have.

    Compaction moves no beginning; what was deleted by age or by hand may have been a key's only row.
    """
    for table in task.subtopology.tables:
        changelog = task.changelog(table)
        stands_at, begin = position.changelogs.get(table.name, 0), bounds[changelog].begin
        if stands_at < begin:
            msg = (
                f"changelog {changelog.topic}-{changelog.partition} begins at offset {begin}, and local "
                f"state ends at {stands_at}: rows are gone (cleanup.policy must be compact alone); "
                f"nothing was changed. Bring back a HEADRACE_DATA_DIR that reaches so far, or: {_AFRESH}"
            )
            raise StateMismatchError(msg)


def store_lifetime_ms(config: EngineConfig, tombstones_kept_ms: Iterable[int | None]) -> int:
    """Return how old a store may be whose changelogs tell of removed rows for so long; None: not told.

    Of what was removed before that, they may tell nothing any more.
    """
    told = (kept_ms for kept_ms in tombstones_kept_ms if kept_ms is not None)
    return min([config.state_lifetime_ms, *told])


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
        f"rows: what was counted is gone; it is not made anew, and nothing was changed. {_AFRESH}"
    )


def made_anew(name: str, group: str) -> StateMismatchError:
    """Return the error for a changelog that is another topic of the same name."""
    return StateMismatchError(
        f"changelog {name} is not the one that group {group} wrote to, but was made anew: its rows are "
        f"gone; nothing was changed. {_AFRESH}"
    )
