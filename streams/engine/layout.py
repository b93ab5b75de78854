"""What follows from a topology: subtopologies, tasks, their names, and the topics that must exist."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from streams.engine.definitions import (
    Flow,
    PaneTable,
    RepartitionTopic,
    Table,
    TimedTable,
    Topic,
    Topology,
    WindowedTable,
)
from streams.engine.errors import DefinitionError
from streams.engine.notes import LONGEST, longest_note
from streams.engine.records import TopicPartition

CHANGELOG_CONFIG: Final = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
# A dead letter is its source record plus headers, compressed anew: what came to the broker as 1 MB of
# zstd can take several times as much. Kafka's largest request (100 MB) is well above this.
DEAD_LETTER_CONFIG: Final = {"max.message.bytes": str(64 << 20), "retention.ms": "-1"}
# Kafka deletes by the record's timestamp, and backfills bring old ones.
EVENT_CONFIG: Final = {"retention.ms": "-1"}
# What is processed is deleted, which frees whole segments: small ones, and no time that deletes what is not.
REPARTITION_CONFIG: Final = {"retention.ms": "-1", "segment.bytes": str(50 << 20)}


@dataclass(frozen=True, slots=True)
class Subtopology:
    """Flows that share inputs or tables: what moves between workers together.

    Its name is its alphabetically first input, so that adding flows elsewhere does not rename it. Twins
    of inputs count: whichever of two is read, tasks have the same names, and fence each other.
    """

    name: str
    flows: tuple[Flow, ...]
    inputs: tuple[Topic, ...]
    tables: tuple[Table[Any], ...]
    joined: tuple[Table[Any], ...] = ()
    """Those of the tables that a flow joins."""
    twins: tuple[tuple[Topic, Topic], ...] = ()
    """Inputs, each with the topic that may be read in its place."""

    @property
    def between(self) -> tuple[RepartitionTopic, ...]:
        """Return the repartition topics that its flows emit to."""
        topics = dict.fromkeys(topic for flow in self.flows for topic in flow.outputs)
        return tuple(topic for topic in topics if isinstance(topic, RepartitionTopic))

    @property
    def purged(self) -> tuple[RepartitionTopic, ...]:
        """Return the repartition topics that it reads: what it has processed of them is deleted."""
        return tuple(topic for topic in self.inputs if isinstance(topic, RepartitionTopic))

    @property
    def global_tables(self) -> tuple[Table[Any], ...]:
        """Return the global tables that its flows look things up in."""
        return tuple(dict.fromkeys(table for flow in self.flows for table in flow.global_tables))

    @property
    def in_order_ms(self) -> int | None:
        """Return from which lateness of an event on the order of the inputs shows, ms; None: never.

        What a flow does that reads several inputs shows in which order they came, at any lateness,
        unless its timed table says more.
        """
        found: list[int] = []
        for flow in self.flows:
            if len(flow.reads) > 1:
                table = flow.keeps
                at_ms = _in_order_ms(table)
                found += [] if at_ms is None else [at_ms]
        return min(found, default=None)

    @property
    def interleaves(self) -> bool:
        """Tell whether a step of several inputs is one of all, rules being called as turns have it.

        So it is where a flow shows in which order its inputs came, and all tables are plain ones.
        """
        are_plain = all(
            table.columns is None and not isinstance(table, WindowedTable | TimedTable)
            for table in self.tables
        )
        return self.in_order_ms == 0 and are_plain and not self.joined

    @property
    def overlaps(self) -> bool:
        """Tell whether steps are to end where windows have closed: for flows whose windows overlap."""
        tables = self.tables
        return any(isinstance(t, PaneTable) and t.aggregation.has_overlaps for t in tables)

    def task_id(self, partition: int) -> str:
        """Return the id of this subtopology's task for a partition: `orders-3`."""
        return f"{self.name}-{partition}"

    def partitions(self, partition: int) -> list[TopicPartition]:
        """Return the input partitions that the task for `partition` reads, tables' inputs first."""
        return [TopicPartition(topic.name, partition) for topic in self.inputs]

    def readers(self, topic: str) -> tuple[Flow, ...]:
        """Return the flows that read a topic, in topology order."""
        return tuple(flow for flow in self.flows if topic in {t.name for t in flow.reads})


def subtopologies(topology: Topology) -> tuple[Subtopology, ...]:
    """Return the topology cut where nothing is shared. Raises DefinitionError if it cannot be."""
    check(topology)
    groups: list[tuple[set[str], list[Flow]]] = []
    for flow in topology.flows:
        names, flows = _touches(flow), [flow]
        for group in [g for g in groups if g[0] & names]:
            groups.remove(group)
            names, flows = names | group[0], group[1] + flows
        groups.append((names, flows))
    return tuple(_subtopology(topology, flows) for _, flows in groups)


def check(topology: Topology) -> None:
    """Raise DefinitionError for a topology that cannot be."""
    _check_names(topology)
    keepers: dict[str, Flow] = {}
    for flow in topology.flows:
        if not flow.reads:
            msg = f"flow {flow.name} reads no topic"
            raise DefinitionError(msg)
        if flow.keeps and (other := keepers.setdefault(flow.keeps.name, flow)) is not flow:
            msg = f"table {flow.keeps.name} is written by two flows, {other.name} and {flow.name}"
            raise DefinitionError(msg)
        if isinstance(flow.keeps, TimedTable) is not (flow.fires is not None):
            msg = f"flow {flow.name}: who keeps a timed table has `fires`, and nobody else has"
            raise DefinitionError(msg)
        if isinstance(flow.keeps, PaneTable) is not (flow.tells is not None):
            msg = f"flow {flow.name}: who keeps a table of panes has `tells`, and nobody else has"
            raise DefinitionError(msg)
    for flow in topology.flows:
        _check_looked_up(flow, keepers)
    _check_last_kept(topology)
    _check_topics(topology)
    _check_between(topology)
    _ = topology.inputs  # raises where joins go in a circle


def _check_names(topology: Topology) -> None:
    """Raise DefinitionError for two flows of one name."""
    known: dict[str, Flow] = {}
    for flow in topology.flows:
        if flow.name in known:
            msg = f"two flows are called {flow.name}"
            for topic in {*flow.outputs}.intersection(known[flow.name].outputs):
                if isinstance(topic, RepartitionTopic):
                    msg += f", which emit to repartition topic {topic.name}: merge streams before key_by"
            raise DefinitionError(msg)
        known[flow.name] = flow


def _check_looked_up(flow: Flow, keepers: Mapping[str, Flow]) -> None:
    """Raise DefinitionError for a table that a flow cannot join, or look things up in."""
    for table in (*flow.joins, *flow.global_tables):
        keeper = keepers.get(table.name)
        if keeper is not None and keeper.keeps != table:
            msg = (
                f"flow {flow.name} looks things up in table {table.name}, and flow {keeper.name} keeps "
                f"another one of that name: they would not read its rows the same"
            )
            raise DefinitionError(msg)
    for table in flow.joins:
        _check_join(flow, table, keepers)
    for table in flow.global_tables:
        _check_global(flow, table, keepers)


def _check_last_kept(topology: Topology) -> None:
    """Raise DefinitionError for a topic that keeps the last of each key and has that of two flows."""
    emitters: dict[str, Flow] = {}
    for flow in topology.flows:
        for topic in flow.outputs:
            if topic.keeps_last and (other := emitters.setdefault(topic.name, flow)) is not flow:
                msg = (
                    f"flows {other.name} and {flow.name} emit to topic {topic.name}, which keeps the last of "
                    f"each key: one flow alone can"
                )
                raise DefinitionError(msg)


def _check_topics(topology: Topology) -> None:
    """Raise DefinitionError for two topics of one name: one would be read, or written, as the other."""
    known: dict[str, tuple[Flow, Topic]] = {}
    for flow in topology.flows:
        for topic in (*flow.reads, *flow.outputs):
            other, same_name = known.setdefault(topic.name, (flow, topic))
            if same_name != topic:
                msg = (
                    f"topic {topic.name} of flow {flow.name} has other events or another key than that of "
                    f"flow {other.name}: name one of them otherwise, or let both use one Topic"
                )
                raise DefinitionError(msg)


def _check_between(topology: Topology) -> None:
    """Raise DefinitionError for a repartition topic that does not lie between two tasks."""
    read = {t for flow in topology.flows for t in flow.reads if isinstance(t, RepartitionTopic)}
    written = {
        t for flow in topology.flows for t in flow.outputs if isinstance(t, RepartitionTopic)
    }
    if alone := sorted(topic.name for topic in read ^ written):
        msg = (
            f"repartition topic {alone[0]}: one flow of the group emits to it, and another reads it"
        )
        raise DefinitionError(msg)
    before: dict[Topic, set[Topic]] = {topic: set() for topic in written}
    for flow in topology.flows:
        for topic in flow.outputs:
            if topic in written:
                before[topic] |= written.intersection(flow.reads)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        circle = " and ".join(sorted({topic.name for topic in error.args[1]}))
        msg = f"repartition topics {circle} feed each other: a record would never come to an end"
        raise DefinitionError(msg) from error


def _in_order_ms(table: Table[Any] | None) -> int | None:
    if isinstance(table, PaneTable):
        return None  # numbers do not tell in which order events came
    return table.in_order_ms if isinstance(table, TimedTable) else 0


def _check_join(flow: Flow, table: Table[Any], keepers: Mapping[str, Flow]) -> None:
    if table.name not in keepers:
        msg = f"flow {flow.name} joins table {table.name}, which no flow keeps"
        raise DefinitionError(msg)
    if isinstance(table, WindowedTable):
        msg = f"flow {flow.name} joins table {table.name}, which is windowed: a key has no one row in it"
        raise DefinitionError(msg)
    if isinstance(table, TimedTable):
        msg = (
            f"flow {flow.name} joins table {table.name}, which is timed: its flow alone can read it"
        )
        raise DefinitionError(msg)
    if table.columns is not None:
        msg = (
            f"flow {flow.name} joins table {table.name}, which is kept in columns: nobody can look up a "
            f"row as of a turn"
        )
        raise DefinitionError(msg)
    # Agents take a batch one after the other: a join would see its end, wherever that was cut.
    if shared := {t.name for t in flow.reads} & {t.name for t in keepers[table.name].reads}:
        msg = (
            f"flow {flow.name} joins table {table.name}, which another flow keeps from the same "
            f"input {min(shared)}: let one flow do both"
        )
        raise DefinitionError(msg)


def _check_global(flow: Flow, table: Table[Any], keepers: Mapping[str, Flow]) -> None:
    if table.name not in keepers:
        msg = (
            f"flow {flow.name} looks up global table {table.name}, which no flow of the group keeps"
        )
        raise DefinitionError(msg)
    if table is flow.keeps or table in flow.joins:
        msg = (
            f"flow {flow.name} looks up global table {table.name}, which it keeps or joins: that has the "
            f"rows of its keys as of their turn"
        )
        raise DefinitionError(msg)
    if isinstance(table, TimedTable | PaneTable):
        msg = (
            f"flow {flow.name} looks up global table {table.name}, which holds what is open until event time "
            f"closes it: its flow alone can read it"
        )
        raise DefinitionError(msg)


def own_topics(topology: Topology, application_id: str) -> dict[str, Mapping[str, str]]:
    """Return the topics that the application writes, with their configurations."""
    topics: dict[str, Mapping[str, str]] = {}
    for flow in topology.flows:
        for topic in flow.outputs:
            is_between = isinstance(topic, RepartitionTopic)
            topics[topic.name] = REPARTITION_CONFIG if is_between else EVENT_CONFIG
    topics[topology.dead_letters] = DEAD_LETTER_CONFIG
    if topology.tells_late:
        topics[topology.late_records] = DEAD_LETTER_CONFIG
    for table in topology.tables:
        topics[table.changelog(application_id)] = CHANGELOG_CONFIG
    return topics


def _touches(flow: Flow) -> set[str]:
    tables = (*flow.joins, *((flow.keeps,) if flow.keeps else ()))
    return {f"topic {t.name}" for t in flow.reads} | {f"table {t.name}" for t in tables}


def _subtopology(topology: Topology, flows: Iterable[Flow]) -> Subtopology:
    ordered = tuple(flow for flow in topology.flows if flow in tuple(flows))
    inputs = tuple(t for t in topology.inputs if any(t in flow.reads for flow in ordered))
    tables = tuple(t for t in topology.tables if any(flow.keeps is t for flow in ordered))
    joined = tuple(t for t in tables if any(t in flow.joins for flow in ordered))
    twins = tuple((t, twin) for t in inputs if (twin := topology.twin(t)) is not None)
    name = min(t.name for t in (*inputs, *(twin for _, twin in twins)))
    made = Subtopology(name, ordered, inputs, tables, joined, twins)
    _check_note(made)
    return made


def _check_note(made: Subtopology) -> None:
    """Raise DefinitionError where Kafka would refuse commits: what each notes grows with the names."""
    windowed = [t.name for t in made.tables if isinstance(t, WindowedTable | TimedTable)]
    inputs, tables = [t.name for t in made.inputs], [t.name for t in made.tables]
    told = [t.name for t in made.tables if isinstance(t, PaneTable)]
    if (length := longest_note(inputs, tables, windowed, told)) > LONGEST:
        msg = (
            f"the {len(inputs)} inputs and {len(tables)} tables that move together with input {made.name} "
            f"are too many: what a commit notes of them may get {length:,} characters, and Kafka takes "
            f"{LONGEST:,}. Shorten their names, or have fewer flows that share inputs or tables"
        )
        raise DefinitionError(msg)
