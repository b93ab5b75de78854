"""What a task's commit writes beside its offsets, for whoever takes the task next (decision 0011)."""

from collections.abc import Iterable
from operator import attrgetter

import msgspec

from streams.engine.cluster import Committed
from streams.engine.task import Task


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is committed beside the offsets."""

    stream_times: dict[str, int] = {}
    """Of windowed tables, ms (law 6)."""
    commit: int = 0
    """The number of the task's commit: state that has it and the same offsets is the same state."""
    topics: dict[str, str] = {}
    """The ids of the topics to which the task's offsets belong (decision 0019)."""


def note(task: Task) -> str:
    """Return the text that the task's next commit writes beside its offsets."""
    times = {part.table.name: part.stream_time_ms for part in task.windowed_parts()}
    return msgspec.json.encode(Note(times, task.position.commit + 1, task.topic_ids)).decode()


def noted(committed: Iterable[Committed]) -> Note:
    """Return the newest note: a commit writes it beside the offsets that it moved alone.

    What somebody else wrote there, as a tool that moves offsets may, counts as nothing.
    """
    return max(map(_note_of, committed), key=attrgetter("commit"), default=Note())


def _note_of(committed: Committed) -> Note:
    try:
        return msgspec.json.decode(committed.metadata, type=Note)
    except msgspec.MsgspecError:
        return Note()
