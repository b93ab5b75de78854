"""What a task's commit writes beside its offsets, for whoever takes the task next (decision 0011)."""

from collections.abc import Iterable
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

import msgspec

from streams.engine.cluster import Committed
from streams.engine.errors import StateMismatchError

if TYPE_CHECKING:
    from streams.engine.task import Task

LONGEST: Final = 4_096
"""How many characters Kafka takes beside an offset, unless `offset.metadata.max.bytes` says otherwise."""
FORMAT: Final = 2
"""The highest that this release reads (decision 0018). It writes that where it tells of `telling`, else 1."""
_ID_LENGTH: Final = 8
# An offset after 30 years of a million records a second, and the year 33658 in milliseconds.
_LARGEST: Final = 10**15 - 1
_ID: Final = str(UUID(int=0))


class Stand(NamedTuple):
    """How far a table's changelog went before a commit, and the beginning of its topic's id."""

    end: int = 0
    topic: str = ""


class Telling(NamedTuple):
    """How far a closing has got: windows before a start were told, and so many rows of the one from there."""

    start_ms: int = 0
    rows: int = 0


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is committed beside the offsets."""

    stream_times: dict[str, int] = {}
    """Of windowed and timed tables, ms (law 6)."""
    commit: int = 0
    """The number of the task's commit: state that has it and the same offsets is the same state."""
    topics: dict[str, str] = {}
    """The ids of the topics to which the task's offsets belong (decision 0019)."""
    changelogs: dict[str, Stand] = {}
    """By table: what must at least be there of the rows that belong to the offsets (decision 0018)."""
    telling: dict[str, Telling] = {}
    """Of tables of panes of which more has closed than was told. Of others all that has closed was told."""
    format: int = 1


class _Format(msgspec.Struct, frozen=True):
    """What a note of any release tells."""

    format: int = 1


def note(task: "Task") -> str:
    """Return the text that the task's next commit writes beside its offsets."""
    times = {part.table.name: part.stream_time_ms for part in task.time_bound_parts()}
    position = task.position
    stands = {
        table: Stand(end, short_id(position.topics.get(table, "")))
        for table, end in position.changelogs.items()
    }
    found = {part.table.name: part.telling for part in task.pane_parts()}
    telling = {name: at for name, at in found.items() if at is not None}
    format_ = FORMAT if telling else 1
    noted = Note(times, position.commit + 1, task.topic_ids, stands, telling, format_)
    return msgspec.json.encode(noted).decode()


def longest_note(
    inputs: Iterable[str],
    tables: Iterable[str],
    windowed: Iterable[str],
    told: Iterable[str] = (),
) -> int:
    """Return how many characters a task's note may ever have.

    `windowed` are the tables with a stream time, `told` those of panes.
    """
    stands = dict.fromkeys(tables, Stand(_LARGEST, short_id(_ID)))
    times = dict.fromkeys(windowed, _LARGEST)
    ids = dict.fromkeys(inputs, _ID)
    telling = dict.fromkeys(told, Telling(_LARGEST, _LARGEST))
    return len(msgspec.json.encode(Note(times, _LARGEST, ids, stands, telling, FORMAT)))


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
