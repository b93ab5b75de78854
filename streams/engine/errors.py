"""What can go wrong in the engine, by what the engine does about it."""

from streams.errors import HeadraceError


class FencedError(Exception):
    """Another producer has this task's transactional id: this owner is over (law 4)."""


class CommitFailedError(Exception):
    """A commit did not, or may not, have happened: the task must be taken anew (law 4)."""


class KafkaUnavailableError(Exception):
    """Kafka did not answer in time; trying again may help."""


class TooLargeError(Exception):
    """A derived event or a row is above what the broker takes."""


class UnwritableRowError(Exception):
    """A table's row cannot be encoded, or is too large: the task looks for the record that made it."""


class StoreError(HeadraceError):
    """The local state cannot be read or written."""


class StoreLockedError(StoreError):
    """Another process holds the task's folder."""


class StoreCorruptError(StoreError):
    """The local state is damaged; the changelog has all of it."""


class StoreFormatError(StoreError):
    """The local state is of a newer release: not ours to read, and not ours to throw away."""


class StateMismatchError(HeadraceError):
    """State, changelog, offsets or partition counts contradict each other; going on would lose or double."""


class CauselessFailureError(HeadraceError):
    """A batch raised, and no single record of it does: not the input's fault."""


class GlobalTableDamagedError(HeadraceError):
    """The copy of global tables cannot be read: tasks that look things up wait until it is rebuilt."""


class GlobalRestoreError(HeadraceError):
    """A global table's changelog gives nothing, and is not read to where it must be."""


class OwnershipError(HeadraceError):
    """Somebody else keeps taking a task that the group says is ours."""


class AgentFailedError(HeadraceError):
    """An agent raised outside `batch.run`, or ended."""


class UnexpectedEndError(HeadraceError):
    """A part of the engine stopped without an error: going on would be standing still silently."""


class DefinitionError(HeadraceError):
    """The topology, or an agent's use of it, cannot be."""
