"""How an application declares its topics, tables and flows; the engine works from these alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any, Final, Generic, Literal, Protocol, Self, TypeAlias, TypeVar, cast
from zlib import crc32

import msgspec
from aiokafka.partitioner import murmur2

from streams.engine.errors import DefinitionError
from streams.operators import windows
from streams.operators.panes import PaneAggregation
from streams.operators.timed import Fired
from streams.operators.windows import TumblingWindows

V = TypeVar("V")
WindowKey: TypeAlias = tuple[str, int]
"""A key and the start of one of its windows, ms (inclusive)."""


class Event(Protocol):
    """What the engine needs of every event, read or derived."""

    @property
    def event_id(self) -> str: ...
    @property
    def timestamp(self) -> int:
        """Event time, ms since 1970 UTC."""


KeyHash: TypeAlias = Literal["crc32", "murmur2"]
"""librdkafka's, and so most languages'; and that of Java's and aiokafka's producers."""
# Murmur2 is Python, and takes 4.7 µs a key: known keys, as most are, 0.1.
_HASHES: Final[Mapping[KeyHash, Callable[[bytes], int]]] = {
    "crc32": crc32,
    "murmur2": lru_cache(1 << 16)(lambda key: murmur2(key) & 0x7FFF_FFFF),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic, the events it may hold (tagged msgspec Structs), and the key that each must have.

    `keeps_last`: what a flow emits to it are changes of a table, or updates, of which each replaces the one
    before of its key: of those of one commit the last of each key alone is sent, as to a changelog.
    """

    name: str
    events: tuple[type[Any], ...]
    key: Callable[[Any], str]
    keeps_last: bool = field(default=False, kw_only=True)

    def of(self, application_id: str) -> "Topic":
        """Return the topic as an application knows it."""
        del application_id
        return self


@dataclass(frozen=True, slots=True)
class RepartitionTopic(Topic):
    """A topic between two flows of an application, by another key than that of the input.

    One flow emits to it and another reads it, in a task of its own: so its records of one key come to one
    task, whichever partition of the input they come from. It is the application's own, named `<application
    id>-<name>-repartition`; its records are deleted once they are processed (decision 0031).
    """

    application_id: str = ""
    hashed_by: KeyHash = "crc32"
    """As producers of an input hash their keys with which its records are to meet."""

    def of(self, application_id: str) -> "RepartitionTopic":
        """Return the topic as an application knows it."""
        if self.application_id == application_id:
            return self
        name = f"{application_id}-{self.name}-repartition"
        return replace(self, name=name, application_id=application_id)

    def partition_of(self, key: bytes, partitions: int) -> int:
        """Return the partition of a key: the same in every process, and with every release."""
        return _HASHES[self.hashed_by](key) % partitions


@dataclass(frozen=True, slots=True)
class Columnar(Generic[V]):
    """How the rows of a table are kept in columns; see streams/operators/columns.py.

    `row` is a msgspec Struct of int and bool fields, whose defaults a new row has. `encode` takes a list
    for each field, and returns each row as Table's `encode` does.
    """

    row: type[V]
    encode: Callable[..., list[bytes]]

    def __post_init__(self) -> None:
        """Raise DefinitionError for a field that is no int or bool, or has no default."""
        for field_ in msgspec.structs.fields(cast("Any", self.row)):
            if field_.type not in {int, bool} or type(field_.default) is not field_.type:
                msg = (
                    f"{self.row.__name__}.{field_.name}: rows in columns have fields of int and bool, "
                    f"each with a default"
                )
                raise DefinitionError(msg)


@dataclass(frozen=True, slots=True)
class Table(Generic[V]):
    """A keyed table: text key, immutable row; kept in RocksDB and in a compacted changelog topic.

    `encode` and `decode` turn a row into the changelog's JSON value and back without loss. With
    `columns`, rules get many rows at once instead of a mapping.
    """

    name: str
    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    columns: Columnar[V] | None = field(default=None, kw_only=True)

    def key_text(self, key: Any) -> str:
        """Return a rule's key as changelog and disk have it."""
        text: str = key
        return text

    def key_of(self, text: str) -> Any:
        """Return the key that a rule uses for a text."""
        return text

    def changelog(self, application_id: str) -> str:
        """Return the name of the topic that holds this table's changes."""
        return f"{application_id}-{self.name}-changelog"


@dataclass(frozen=True, slots=True)
class WindowedTable(Table[V]):
    """A table with a row for each key and window: `(key, window start)` to rules, `key@start` as text.

    A row lives until its window is gone; see streams/operators/windows.py.
    """

    windows: TumblingWindows

    def key_text(self, key: WindowKey) -> str:
        """Return a rule's key as changelog and disk have it."""
        return windows.key_text(*key)

    def key_of(self, text: str) -> WindowKey:
        """Return the key that a rule uses for a text."""
        return windows.key_and_start_ms(text)


@dataclass(frozen=True, slots=True)
class TimedTable(Table[V]):
    """A table whose rows have something due at a time; see streams/operators/timed.py.

    `due_ms` tells from a row's JSON when that is. `in_order_ms`: events of several inputs may be given
    to the rule one input after the other as long as none is behind stream time by more than that, and on
    ties the flow's inputs have their turns as it names them; None: in any order.
    """

    due_ms: Callable[[bytes], int]
    in_order_ms: int | None = None


@dataclass(frozen=True, slots=True)
class PaneTable(WindowedTable[V]):
    """A table of what windows hold that are told when they close, in columns; see streams/operators/panes.py.

    It has a row for each key and pane, which lives until the last window with that pane was told.
    """

    aggregation: PaneAggregation[Any, Any]

    @classmethod
    def of(cls, name: str, aggregation: PaneAggregation[Any, Any]) -> Self:
        """Return the table that keeps an operator's rows."""
        row_type, encode = aggregation.row_type, aggregation.encode
        return cls(
            name,
            msgspec.json.Encoder().encode,
            aggregation.decode,
            aggregation.panes,
            aggregation,
            columns=Columnar(row_type, encode),
        )


Fires: TypeAlias = Callable[..., Fired[Any, Any]]
"""A Fire, which is given the flow's global tables behind its own arguments."""
Tell: TypeAlias = Callable[..., Iterable[Event]]
"""Derives events of the results of windows that have closed, a sequence; the same goes for it."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One agent and what it touches: topics read, the table kept (written), tables joined, topics out.

    `register` hangs the agent on the application; `name` is the agent's name in errors and metrics. Of
    several topics to emit to, an event goes to the one that may hold its type. `fires` closes what is
    due of a row of the TimedTable that the flow keeps, and derives events of that; `tells` derives events of
    windows of the PaneTable that it keeps. `global_tables` are those of other flows, with all partitions,
    in which rules, `fires` and `tells` look things up as this worker knows them at that moment.
    """

    register: Callable[[Any], None]
    name: str
    reads: tuple[Topic, ...]
    keeps: Table[Any] | None = None
    joins: tuple[Table[Any], ...] = ()
    emits: Topic | tuple[Topic, ...] | None = None
    global_tables: tuple[Table[Any], ...] = ()
    fires: Fires | None = None
    tells: Tell | None = None

    @property
    def outputs(self) -> tuple[Topic, ...]:
        """Return the topics that the flow emits to."""
        if self.emits is None:
            return ()
        return self.emits if isinstance(self.emits, tuple) else (self.emits,)

    def of(self, application_id: str) -> "Flow":
        """Return the flow with its topics as an application knows them."""
        reads = tuple(topic.of(application_id) for topic in self.reads)
        emits = tuple(topic.of(application_id) for topic in self.outputs)
        if (reads, emits) == (self.reads, self.outputs):
            return self
        return replace(self, reads=reads, emits=emits)


@dataclass(frozen=True, slots=True)
class Topology:
    """The flows of one group: what one application id processes in one transaction a task.

    `twins` are pairs of topics that hold the same events, of which the group reads one or the other: that
    which its flows say, unless `reading` says otherwise. Agents name the one that flows say.
    """

    flows: tuple[Flow, ...]
    dead_letters: str
    late_records: str = "late-records"
    twins: tuple[tuple[Topic, Topic], ...] = ()
    tables: tuple[Table[Any], ...] = field(init=False)
    global_tables: tuple[Table[Any], ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tables", _unique(f.keeps for f in self.flows))
        looked_up = _unique(table for f in self.flows for table in f.global_tables)
        object.__setattr__(self, "global_tables", looked_up)

    def of(self, application_id: str) -> "Topology":
        """Return the flows as an application runs them: with the names of its repartition topics."""
        flows = tuple(flow.of(application_id) for flow in self.flows)
        return self if flows == self.flows else replace(self, flows=flows)

    def twin(self, topic: Topic) -> Topic | None:
        """Return the topic that may be read in place of this one, if there is one."""
        for one, other in self.twins:
            if topic in {one, other}:
                return other if topic == one else one
        return None

    def reading(self, *names: str) -> "Topology":
        """Return the topology that reads the topics of these names where a flow reads their twins."""

        def chosen(topic: Topic) -> Topic:
            twin = self.twin(topic)
            return topic if twin is None or twin.name not in names else twin

        flows = tuple(replace(flow, reads=tuple(map(chosen, flow.reads))) for flow in self.flows)
        return self if flows == self.flows else replace(self, flows=flows)

    @property
    def tells_late(self) -> bool:
        """Tell whether there is a flow whose late records go to their topic."""
        return any(isinstance(table, TimedTable | PaneTable) for table in self.tables)

    @property
    def inputs(self) -> tuple[Topic, ...]:
        """Return every topic read; each before those that are joined with a table that is kept from it.

        And as a flow names them that sees their order by its timed table's `in_order_ms`. In this order
        they take their turns on ties (law 9). Raises DefinitionError if there is no such.
        """
        keepers = {flow.keeps.name: flow for flow in self.flows if flow.keeps}
        before: dict[Topic, list[Topic]] = {t: [] for flow in self.flows for t in flow.reads}
        for flow in self.flows:
            if isinstance(flow.keeps, TimedTable) and flow.keeps.in_order_ms is not None:
                for earlier, later in pairwise(flow.reads):
                    before[later].append(earlier)
            for table in flow.joins:
                for topic in flow.reads:
                    before[topic] += keepers[table.name].reads if table.name in keepers else ()
        try:
            return tuple(TopologicalSorter(before).static_order())
        except CycleError as error:
            circle = " and ".join(sorted({topic.name for topic in error.args[1]}))
            msg = (
                f"inputs {circle} are each joined with a table that is kept from another of them, or named "
                f"behind it by a flow that sees their order"
            )
            raise DefinitionError(msg) from error


def _unique(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(item for item in items if item is not None))
