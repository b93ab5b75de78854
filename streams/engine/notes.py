"""What a task's commit writes beside its offsets, for whoever takes the task next (decision 0011)."""

from collections.abc import Iterable
from operator import attrgetter
from typing import Final, NamedTuple

import msgspec

from streams.engine.cluster import Committed
from streams.engine.errors import StateMismatchError
from streams.engine.task import Task

FORMAT: Final = 1
"""What this release writes, and the highest that it reads (decision 0018)."""
_ID_LENGTH: Final = 8


class Stand(NamedTuple):
    """How far a table's changelog went before a commit, and the beginning of its topic's id."""

    end: int = 0
    topic: str = ""


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is committed beside the offsets."""

    stream_times: dict[str, int] = {}
    """Of windowed tables, ms (law 6)."""
    commit: int = 0
    """The number of the task's commit: state that has it and the same offsets is the same state."""
    topics: dict[str, str] = {}
    """The ids of the topics to which the task's offsets belong (decision 0019)."""
    changelogs: dict[str, Stand] = {}
    """By table: what must at least be there of the rows that belong to the offsets (decision 0018)."""
    format: int = 1


class _Format(msgspec.Struct, frozen=True):
    """What a note of any release tells."""

    format: int = 1


def note(task: Task) -> str:
    """Return the text that the task's next commit writes beside its offsets."""
    times = {part.table.name: part.stream_time_ms for part in task.windowed_parts()}
    position = task.position
    stands = {
        table: Stand(end, short_id(position.topics.get(table, "")))
        for table, end in position.changelogs.items()
    }
    noted = Note(times, position.commit + 1, task.topic_ids, stands, FORMAT)
    return msgspec.json.encode(noted).decode()


def short_id(topic_id: str) -> str:
    """Return the beginning of a topic's id: the note's length is bounded, and chance is one in 2**32."""
    return topic_id[:_ID_LENGTH]


def noted(committed: Iterable[Committed]) -> Note:
    """Return the newest note: a commit writes it beside the offsets that it moved alone.

    What somebody else wrote there, as a tool that moves offsets may, counts as nothing. Raises
    StateMismatchError for a note of a newer release.
    """
    return max(map(_note_of, committed), key=attrgetter("commit"), default=Note())


def _note_of(committed: Committed) -> Note:
    try:
        if (found := msgspec.json.decode(committed.metadata, type=_Format).format) > FORMAT:
            raise StateMismatchError(
                f"the group's offsets were committed by a newer release (notes of format {found}, this "
                f"one reads up to {FORMAT}); nothing was changed. Run that release"
            )
        return msgspec.json.decode(committed.metadata, type=Note)
    except msgspec.MsgspecError:
        return Note()
