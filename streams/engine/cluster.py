"""What the engine needs of Kafka: aiokafka's kind is kafka.py, the driver's streams/memory_cluster.py.

Both pass the same suite, tests/broker/test_cluster_contract.py. Every method may raise
KafkaUnavailableError; a producer's may also raise FencedError and CommitFailedError.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from streams.engine.errors import CommitFailedError, StateMismatchError
from streams.engine.records import Outgoing, Run, TopicPartition


class Committed(NamedTuple):
    """A committed position: the next offset to read, and what the committer noted beside it."""

    offset: int
    metadata: str = ""


class Bounds(NamedTuple):
    """Where a partition begins, and the offset behind its last readable record (read_committed)."""

    begin: int
    end: int


class Extent(NamedTuple):
    """How far a partition is read and how far it goes, as the last fetch told."""

    position: int
    """The next offset to be fetched."""
    stable_end: int
    """The offset behind the last one that may be read: an open transaction begins there, or nothing."""
    end: int
    """The offset behind the last record, readable or not."""


class TopicState(NamedTuple):
    """A topic as the brokers know it."""

    partitions: int
    topic_id: str = ""
    """Another one when the topic is made anew; empty where the brokers tell none (before Kafka 2.8)."""


def are_different(known: str, found: str) -> bool:
    """Tell whether two topic ids are those of different topics; one that is not told counts as right."""
    return bool(known and found) and known != found


def out_of_range(
    tp: TopicPartition, offset: int, bounds: Bounds | None = None
) -> StateMismatchError:
    """Return the error for a position below a partition's beginning or above its end."""
    held = "" if bounds is None else f" (it has {bounds.begin} to {bounds.end})"
    return StateMismatchError(
        f"{tp.topic}-{tp.partition} holds no offset {offset}{held}: records that were not read yet are "
        f"gone, or the topic was made anew; nothing was changed. `headrace worker --reset` goes on with "
        f"what there is, and keeps the tables; or start afresh with another HEADRACE_APP_ID"
    )


def refused_size(topic: str, records: Sequence[Outgoing]) -> CommitFailedError:
    """Return the error for records of which one is above what the topic takes."""
    largest = max(len(key or b"") + len(value or b"") for key, value, _ in records)
    return CommitFailedError(
        f"topic {topic} refuses records of this size (the largest has {largest} bytes): raise its "
        f"max.message.bytes; the task stands still until then, and nothing is lost"
    )


class Producer(Protocol):
    """Sends for one task. With a transactional id everything between begin and commit is one transaction."""

    async def start(self) -> None:
        """Fence all earlier producers of the same transactional id; on return their transactions are over."""

    async def begin(self) -> None:
        """Begin a transaction."""

    async def send(
        self, partition: int, records: Mapping[str, Sequence[Outgoing]]
    ) -> dict[str, int]:
        """Send records by topic; on return all are acknowledged. Tells the offset behind the last of each."""

    async def send_offsets(self, offsets: Mapping[TopicPartition, Committed]) -> None:
        """Make the group's offsets part of the transaction; without transactions: commit them now."""

    async def commit(self) -> None:
        """End the transaction: on return it is decided, and readers see it within moments.

        If it raises, whether the commit happened is not known.
        """

    async def abort(self) -> None:
        """End an open transaction without what was sent in it; one that is being ended, ends as it does."""

    def abandon(self) -> None:
        """Stop using this producer, now, without waiting for anything and without ending its transaction."""

    async def close(self) -> None:
        """Close an idle producer."""


class Listener(Protocol):
    """Hears of the group's assignments. Neither call may take long: no heartbeat leaves meanwhile."""

    async def on_revoked(self) -> None:
        """Everything assigned is about to be taken away; it may come back."""

    async def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Take note: these, and no others, are assigned now."""


class Member(NamedTuple):
    """What a group member tells the leader."""

    tasks: Mapping[str, int]
    """How far each task on its disk is restored."""
    web: str = ""
    """Where its web view is."""
    owned: Sequence[str] = ()
    """The tasks that it owned until now."""
    disk: str = ""
    """A name of the disk that it writes to, if it can follow tasks that it does not own."""


class Owner(NamedTuple):
    """A member as all others hear of it: where its web view is, and which tasks it was given."""

    web: str
    tasks: Sequence[str]


class Assignment(NamedTuple):
    """The leader's decision: each member's partitions, by member id, and what every member is told."""

    partitions: Mapping[str, Sequence[TopicPartition]]
    owners: Sequence[Owner]
    standbys: Mapping[str, Sequence[str]]
    """The tasks that a member follows without owning them, by member id; no entry: none."""


class Grouping(Protocol):
    """Assigns partitions to members; see assignor.py."""

    def describe(self) -> Member:
        """Return what this member tells the leader."""

    def assign(self, members: Mapping[str, Member]) -> Assignment:
        """Decide for all, as the group's leader."""

    def hear(self, owners: Sequence[Owner], standbys: Sequence[str] = ()) -> None:
        """Hear who owns what and what to follow, before the listener hears of its own partitions.

        Empty where the leader does not tell: one of an earlier version.
        """


class Source(Protocol):
    """A member of the consumer group, reading read_committed. Assigned partitions begin paused."""

    async def start(self) -> None:
        """Join the group; assignments arrive at the listener from now on."""

    async def stop(self) -> None:
        """Leave the group."""

    def check(self) -> None:
        """Raise KafkaUnavailableError where joining or staying failed; on return it is tried again.

        Raises HeadraceError if it never will be. `fetch` does the same; who fetches nothing must ask.
        """

    async def fetch(
        self, partitions: Collection[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, Run]:
        """Return what came for these partitions, a run each; nothing after `timeout_s` without any.

        Raises StateMismatchError for a position that the partition does not hold.
        """

    def seek(self, partition: TopicPartition, offset: int, end: int) -> None:
        """Read on from `offset`; `end` is known to be readable already (see `backlog`)."""

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more from these."""

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch from these again."""

    def backlog(self, partition: TopicPartition) -> int:
        """Return how many offsets lie between the position and the furthest end told by a seek or fetch."""

    def extent(self, partition: TopicPartition) -> Extent | None:
        """Return how far a partition goes; None as long as no fetch has told."""

    def rejoin(self) -> None:
        """Leave the present generation and join anew."""


class Heard(NamedTuple):
    """Where a partition ended (read_committed), and when Kafka said so (wall time, ms)."""

    offset: int
    at_ms: int


class Follower(Protocol):
    """Reads partitions outside of the group, read_committed, on and on."""

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    def read_from(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions and no others from now on, each from its offset on."""

    async def fetch(self, timeout_s: float) -> dict[TopicPartition, Run]:
        """Return a bounded portion of what came, a run a partition; nothing after `timeout_s` without any.

        Raises StateMismatchError for a position that the partition does not hold.
        """

    def heard(self, partition: TopicPartition) -> Heard | None:
        """Return where a partition ended when it was last asked; None as long as it was not."""


class Cluster(Protocol):
    """A Kafka cluster, as one application's group sees it."""

    async def start(self) -> None:
        """Connect. Raises HeadraceError, in one line, where there is nobody."""

    async def stop(self) -> None:
        """Disconnect."""

    def producer(self, transactional_id: str | None) -> Producer:
        """Return a new producer, not started."""

    def source(self, topics: Collection[str], listener: Listener, grouping: Grouping) -> Source:
        """Return the group's member of this process, not started."""

    async def committed(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, Committed]:
        """Return the group's committed offsets, of those partitions that have one."""

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Return begin and end of each partition."""

    async def topics(self, names: Collection[str]) -> dict[str, TopicState]:
        """Return what those topics are that exist; asking makes none."""

    async def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Delete the records below these offsets, none of them beyond what may be read."""

    async def tombstones_kept_ms(self, topic: str) -> int | None:
        """Return for how long a compacted topic tells of a removed key; None where nobody may know."""

    def read(self, partition: TopicPartition, bounds: Bounds) -> AsyncIterator[Run]:
        """Yield the committed records from `bounds.begin` on until everything below `bounds.end` was read."""

    def follower(self) -> Follower:
        """Return a new follower, not started."""
