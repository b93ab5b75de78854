"""A task: what moves between workers as one, and what a batch does to it.

It owns its part of every table, its positions, its transactional producer and its stream times. How
it is taken stands in taking.py, how it commits in committing.py.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum, auto
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from streams.engine import dead_letters, late_records
from streams.engine.batch import Batch, Failure, Interleaved
from streams.engine.clock import Clock
from streams.engine.cluster import Cluster, Producer
from streams.engine.codec import Codec
from streams.engine.column_part import (
    ColumnPart,
    WindowedColumnPart,
)
from streams.engine.config import RECORD_OVERHEAD_BYTES, EngineConfig
from streams.engine.definitions import Event, Flow, Table
from streams.engine.epoch import Counts, Epoch
from streams.engine.errors import (
    DefinitionError,
    TooLargeError,
)
from streams.engine.global_tables import GlobalPart
from streams.engine.layout import Subtopology
from streams.engine.meters import Meters
from streams.engine.outgoing import Source, derived_records, encoded_rows
from streams.engine.pane_part import PanePart
from streams.engine.parts import Part, TimeBoundPart
from streams.engine.progress import Restoring
from streams.engine.records import Outgoing, Reason, Run, TopicPartition
from streams.engine.store import Position, Store, discard
from streams.engine.table import JoinedPart, TablePart, Turn, TurnedPart, WindowedPart
from streams.engine.timed_part import TimedPart
from streams.engine.turns import Slice, Turns, pieces, singles, whole

_event_time_ms: Final = attrgetter("timestamp")
# A row holds what so many records told, at most: five for `users`. Those of a larger row are small.
_LARGE_RECORDS_A_ROW: Final = 8


class State(Enum):
    """Where a task is in its life."""

    TAKING = auto()
    RUNNING = auto()
    SUSPENDED = auto()
    """Revoked, or failed: nothing is processed until it has been taken again."""


class Task:
    """One subtopology's share of one partition number."""

    heard_s = 0.0
    """When something was fetched last, or the task was taken."""
    asked_s = 0.0
    """When Kafka was asked last whether it is quiet."""
    careful = False
    """Whether each batch's rows are tried at once: since a row could not be written."""

    def __init__(
        self,
        subtopology: Subtopology,
        partition: int,
        *,
        config: EngineConfig,
        cluster: Cluster,
        clock: Clock,
        dead_letters_topic: str,
        late_records_topic: str,
        meters: Meters,
        global_parts: Mapping[str, GlobalPart[Any]] = MappingProxyType({}),
    ) -> None:
        self.id = subtopology.task_id(partition)
        self.subtopology = subtopology
        self.partition = partition
        self.config = config
        self.cluster = cluster
        self.clock = clock
        self.dead_letters_topic = dead_letters_topic
        self.late_records_topic = late_records_topic
        self.meters = meters
        self._global_parts = global_parts

        self.inputs = subtopology.partitions(partition)
        self.state = State.TAKING
        self.producer: Producer | None = None
        self.store: Store | None = None
        self.position = Position(partitions=0)
        self.topic_ids: dict[str, str] = {}
        """Of its input topics, as it was taken; what it commits belongs to these."""
        self.parts: dict[str, Part] = {}
        self.epoch = Epoch()
        self.commit: asyncio.Task[None] | None = None
        """The commit in flight: at most one, of the epoch before `epoch`."""
        self.undecided: Epoch | None = None
        """The epoch whose commit has begun and is not known to have ended; see counting.py."""
        self.transaction_since_s: float | None = None
        """When the transaction was begun that may be open."""
        self.commit_due_s = 0.0
        self.retakes = 0
        """How often it was taken anew with no commit between: each time after a longer wait."""
        self.fences = 0
        """How often another producer had its id with no commit between: a row of that is a quarrel."""
        self.restoring: dict[str, Restoring] = {}
        """While its tables are read from their changelogs: how far each is."""
        self.restored_records = 0
        """How many records were read from changelogs since this worker owns the task."""
        self.counts = {flow.name: Counts() for flow in subtopology.flows}
        self._codecs = {t.name: Codec(t, config.max_ahead_ms) for t in subtopology.inputs}
        self.longest = config.max_record_bytes - RECORD_OVERHEAD_BYTES
        self._fetched: dict[TopicPartition, deque[Run]] = {tp: deque() for tp in self.inputs}
        self._turns = Turns(
            self.inputs,
            in_order_ms=None if subtopology.interleaves else subtopology.in_order_ms,
            until=self._until_told if subtopology.overlaps else None,
        )

    @property
    def path(self) -> Path:
        """Return the folder of the task's store."""
        return self.config.data_dir / self.config.application_id / self.id

    @property
    def transactional_id(self) -> str:
        """Return the id that fences this task's owners (law 4)."""
        return f"{self.config.application_id}-{self.id}"

    def changelog(self, table: Table[Any]) -> TopicPartition:
        """Return the partition that holds this task's changes of a table."""
        return TopicPartition(table.changelog(self.config.application_id), self.partition)

    def time_bound_parts(self) -> Iterator[TimeBoundPart]:
        """Yield the task's parts of windowed and timed tables."""
        for part in self.parts.values():
            if isinstance(part, WindowedPart | WindowedColumnPart | TimedPart):
                yield part

    def timed_parts(self) -> Iterator[TimedPart[Any] | PanePart[Any]]:
        """Yield the task's parts of tables of which stream time closes something."""
        return (part for part in self.parts.values() if isinstance(part, TimedPart | PanePart))

    def fired_parts(self) -> Iterator[TimedPart[Any]]:
        """Yield those of them whose rows are fired."""
        return (part for part in self.parts.values() if isinstance(part, TimedPart))

    def pane_parts(self) -> Iterator[PanePart[Any]]:
        """Yield those of them whose windows are told."""
        return (part for part in self.parts.values() if isinstance(part, PanePart))

    def timed_part(self, flow: Flow) -> TimedPart[Any] | PanePart[Any] | None:
        """Return this task's part of the table that a flow keeps, if it is such a table."""
        part = self.parts.get(flow.keeps.name) if flow.keeps else None
        return part if isinstance(part, TimedPart | PanePart) else None

    def looked_up(self, flow: Flow) -> list[GlobalPart[Any]]:
        """Return the global tables that a flow looks things up in."""
        return [self._global_parts[table.name] for table in flow.global_tables]

    def has_to_commit(self) -> bool:
        """Tell whether there is anything that the next commit would change."""
        return bool(self.epoch.positions) or any(p.has_expired for p in self.time_bound_parts())

    def is_full(self) -> bool:
        """Tell whether the open epoch is so large that it is to be committed before it grows further."""
        config, epoch = self.config, self.epoch
        return (
            epoch.records >= config.max_epoch_records
            or epoch.output_bytes >= config.max_epoch_output_bytes
        )

    # -- input ----------------------------------------------------------------------------------

    def offer(self, source: TopicPartition, run: Run) -> None:
        """Queue a fetched run. It is decoded a piece at a time, when the piece's turn is near.

        A fetch brings up to 15,000 records: decoded at once they would have left the processor's
        caches before the first agent saw them.
        """
        self.heard_s = self.clock.monotonic_s()
        self._fetched[source].extend(pieces(run, self.config.max_batch_records))

    def wants(self, source: TopicPartition) -> bool:
        """Tell whether more of an input should be fetched: one that is ahead of the others waits."""
        return not self._fetched[source]

    def next_step(self, may_come: Any) -> list[tuple[TopicPartition, Slice]]:
        """Return what is to be processed next, if anything is: all of it before a commit (law 9)."""
        for source, fetched in self._fetched.items():
            if fetched and not self._turns.waiting(source):
                run = fetched.popleft()
                piece = whole(run, self._codecs[source.topic].decode(run))
                for part in singles(piece) if self._is_large(run) else [piece]:
                    self._turns.offer(source, part)
        for table in self.subtopology.joined:
            self.parts[table.name].begin_step()
        return self._turns.take(may_come, self.config.max_batch_records)

    def _until_told(self, source: TopicPartition, events: Sequence[Event]) -> int:
        """Return how many of an input's next events may come before windows are told that have closed."""
        parts = map(self.timed_part, self.subtopology.readers(source.topic))
        found = (part.until_told(events) for part in parts if isinstance(part, PanePart))
        return min(found, default=len(events))

    def _is_large(self, run: Run) -> bool:
        """Tell whether rows must be tried event by event, for their size.

        A row is encoded when its epoch is committed: one that is too large for a moment would count or
        not as epochs are cut. A few large records can make it so.
        """
        largest = max(map(len, filter(None, run.values)), default=0)
        return largest * _LARGE_RECORDS_A_ROW > self.longest

    def batch(
        self, source: TopicPartition, piece: Slice, together: Interleaved | None = None
    ) -> Batch:
        """Return a slice's events as a batch for the agents that read its topic.

        `together`: with those of other inputs, whose turns come in between.
        """
        flows = self.subtopology.readers(source.topic)
        [topic] = [topic for topic in self.subtopology.inputs if topic.name == source.topic]
        return Batch(topic, self.partition, piece, flows, self, together)

    def begin(self) -> None:
        """Go on from what was committed: the parts are there, and know their stream times."""
        self.heard_s = self.clock.monotonic_s()
        self.begin_turns()

    def begin_turns(self) -> None:
        """Have the inputs' turns go on from the stream times."""
        self._turns.reached_ms = max((p.stream_time_ms for p in self.timed_parts()), default=0)

    def oldest_ms(self, source: TopicPartition) -> int | None:
        """Return Kafka's timestamp of the first record of an input that was fetched and is not committed."""
        for epoch in (self.undecided, self.epoch):
            if epoch is not None and source in epoch.oldest_ms:
                return epoch.oldest_ms[source]
        if (piece := self._turns.first(source)) is not None and piece.begin < piece.end:
            return piece.run.timestamps_ms[piece.begin]
        return next((r.timestamps_ms[0] for r in self._fetched[source] if r.timestamps_ms), None)

    # -- what a batch needs ---------------------------------------------------------------------

    def meets_others(self, flow: Flow) -> bool:
        """Tell whether what the flow's rule sees of tables, or others see of its table, hangs on turns."""
        return bool(flow.joins) or flow.keeps in self.subtopology.joined

    def part_for(self, flow: Flow, table: Table[Any], turn: Turn) -> Any:
        """Return this task's part of a table as `flow` may use it. Raises DefinitionError."""
        part = self.parts.get(table.name)
        if isinstance(part, PanePart) and flow.keeps is table:
            return part
        if isinstance(part, ColumnPart) and flow.keeps is table:
            return part.columns
        if isinstance(part, TablePart) and flow.keeps is table:
            return TurnedPart(part, turn) if table in self.subtopology.joined else part
        if isinstance(part, TablePart) and table in flow.joins:
            return JoinedPart(flow.name, part, turn)
        if table in flow.global_tables:
            return self._global_parts[table.name]
        msg = f"flow {flow.name} uses table {table.name}, but topology.py says neither keeps nor joins"
        raise DefinitionError(msg)

    def encode(
        self, flow: Flow, events: Iterable[Event], source: Source | None = None
    ) -> dict[str, list[Outgoing]]:
        """Return derived events, and those passed on, as records, by topic. Raises TooLargeError."""
        return derived_records(flow, list(events), self.longest, source)

    # -- how a batch ends -----------------------------------------------------------------------

    def accept(self, source: TopicPartition, piece: Slice, batch: Batch | None) -> None:
        """Make a processed slice part of the open epoch: changes, outputs, dead letters, position."""
        flows = self.subtopology.readers(source.topic)
        late = {part.table.name: part.late for part in self.time_bound_parts()}
        self._tell_late(source, piece, flows)
        for part in self.parts.values():
            part.accept_batch()
        self._reach(piece, flows)
        if batch is not None:
            for flow in flows:
                self.emit(flow, batch.outputs.get(flow.name, {}))
        rejects = piece.rejects
        if rejects:
            now_ms = self.clock.wall_ms()
            letters = [dead_letters.rejected(source, piece.run, r, now_ms) for r in rejects]
            self.epoch.emit(self.dead_letters_topic, letters)
        self._advance(source, piece, Counts(processed=len(piece.events), dead=len(rejects)), late)

    def drop(self, source: TopicPartition, piece: Slice, failure: Failure) -> None:
        """Dead-letter the one event of a slice; nothing that it did stays."""
        self.undo()
        self._reach(piece, self.subtopology.readers(source.topic))
        index = piece.indexes[0]
        now_ms = self.clock.wall_ms()
        letters = {r.at: dead_letters.rejected(source, piece.run, r, now_ms) for r in piece.rejects}
        letters[index] = dead_letters.failed(source, piece.run, index, failure, now_ms)
        self.epoch.emit(self.dead_letters_topic, [letters[at] for at in sorted(letters)])
        self._advance(source, piece, Counts(dead=1 + len(piece.rejects)), {})

    def has_due(self) -> bool:
        """Tell whether something may be due still, and so no next step may be taken."""
        return any(part.has_due for part in self.timed_parts())

    def emit(self, flow: Flow, records: Mapping[str, list[Outgoing]]) -> None:
        """Add a flow's records, by topic, to what the open epoch sends."""
        last = {topic.name for topic in flow.outputs if topic.keeps_last}
        for topic, of_topic in records.items():
            if topic in last:
                self.epoch.replace(topic, of_topic)
            else:
                self.epoch.emit(topic, of_topic)
                self.epoch.written[topic, flow.name] += len(of_topic)

    def _reach(self, piece: Slice, flows: Iterable[Flow]) -> None:
        """Move the stream times of what it closes on: events that a rule dropped count as well."""
        reached_ms: int | None = None
        for flow in flows:
            if piece.events and (part := self.timed_part(flow)) is not None:
                if reached_ms is None:
                    times_ms = piece.own_turns_ms[-1:] or map(_event_time_ms, piece.events)
                    reached_ms = max(times_ms)
                part.reached(reached_ms)

    def _tell_late(self, source: TopicPartition, piece: Slice, flows: Iterable[Flow]) -> None:
        """Send what came too late for a flow's windows to the late records, as it was read."""
        for flow in flows:
            part = self.timed_part(flow)
            if part is not None and part.late_events:
                at = {id(event): i for event, i in zip(piece.events, piece.indexes, strict=True)}
                if not all(id(late.event) in at for late in part.late_events):
                    msg = f"flow {flow.name} tells of a late event that is none of the batch's"
                    raise DefinitionError(msg)
                records = [
                    late_records.record(source, piece.run, at[id(late.event)], flow, late)
                    for late in part.late_events
                ]
                self.epoch.emit(self.late_records_topic, records)

    def unwritable(self, piece: Slice) -> Failure | None:
        """Return what is wrong with a row that the running batch wrote, where that is looked at.

        In large slices, and in a careful task: where encoding failed at the commit, the epoch is
        processed again, each batch's rows are tried, and the record that spoils one is found.
        """
        if not (self.careful or piece.is_large):
            return None
        for flow in self.subtopology.flows:
            table = flow.keeps
            if table is None:
                continue
            for key, row in self.parts[table.name].batch_changes().items():
                try:
                    encoded_rows(table, {key: row}, self.longest)
                except TooLargeError as error:
                    return Failure(flow, error, Reason.TOO_LARGE)
                except Exception as error:  # noqa: BLE001 - whatever encoding a row raises
                    return Failure(flow, error)
        return None

    def undo(self) -> None:
        """Take back what the running batch changed in the tables."""
        for part in self.parts.values():
            part.undo_batch()

    def _advance(
        self, source: TopicPartition, piece: Slice, ended: Counts, late: Mapping[str, int]
    ) -> None:
        """Count how a slice's records ended, and what of them was late for which table; move on."""
        read = piece.end - piece.begin
        ended.skipped = read - ended.processed - ended.dead
        for flow in self.subtopology.readers(source.topic):
            of_flow = late.get(flow.keeps.name, 0) if flow.keeps is not None else 0
            for counts in (self.counts[flow.name], self.epoch.counts[source.topic, flow.name]):
                counts.add(ended)
                counts.late += of_flow
                counts.processed -= of_flow
        if read:
            self.epoch.oldest_ms.setdefault(source, piece.run.timestamps_ms[piece.begin])
        self.epoch.positions[source] = piece.next_offset
        self.epoch.records += read

    def rewind(self) -> None:
        """Drop what is queued and what a batch left: it is fetched again from the committed offsets."""
        for fetched in self._fetched.values():
            fetched.clear()
        self._turns.clear()
        self.undo()

    def drop_open(self) -> None:
        """Drop the open epoch: what was done and is not committed."""
        if self.has_to_commit():
            self.epoch = Epoch()
            for part in self.parts.values():
                part.reset()

    def forget(self) -> None:
        """Drop everything that is not committed: the task must be taken again before it goes on."""
        self.state = State.SUSPENDED
        self.restoring = {}
        self.rewind()
        self.epoch = Epoch()
        for part in self.parts.values():
            part.reset()
        if self.producer is not None:
            self.producer.abandon()
            self.producer = None

    def discard_store(self) -> None:
        """Delete the task's damaged store: the changelog has all of it."""
        self.parts = {}
        if self.store is not None:
            self.store.close()
            self.store = None
        discard(self.path)

    def give_store(self) -> Store | None:
        """Let go of the task, but not of its open store: return that, if there is one."""
        self.parts = {}
        store, self.store = self.store, None
        self.close()
        return store

    def close(self) -> None:
        """Let go of the task: its store is free for another owner."""
        self.forget()
        self.parts = {}
        if self.store is not None:
            self.store.close()
            self.store = None


def first_failure(flows: Iterable[Flow], failures: Mapping[str, Failure]) -> Failure | None:
    """Return the failure of the first flow in topology order, if any failed."""
    return next((failures[flow.name] for flow in flows if flow.name in failures), None)
