"""Flows in ten lines, for who wants no rules of their own: what a stream of events becomes, declared.

    FLOWS = (
        stream(ORDERS, OrderCreated)
        .where(lambda order: order.data.amount >= 100)
        .flat_map(lines_of)
        .key_by(ORDER_LINES, OrderLine)
        .window(HoppingWindows(size_ms=300_000, advance_ms=60_000, grace_ms=60_000), key=product_of)
        .aggregate(lines=count(), cents=total(cents_of))
        .to("product_sales", PRODUCT_SALES, sold)
    )

They are flows like any other (streams/engine/definitions.py): rules, tables and agents of the same operators
that are there for flows written by hand (streams/declared_flows.py makes them). Functions that are given
take one event, and are pure.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, starmap
from typing import Any, Generic, TypeAlias, TypeVar

from streams.declared_flows import Parts, Path, Paths, Step, fired, sent_on, suppressed, told
from streams.declared_foreign_key import ForeignKeyFlows, Side
from streams.engine.definitions import Event, Flow, KeyHash, RepartitionTopic, Table, Topic
from streams.operators.aggregates import Aggregate, several
from streams.operators.panes import PaneAggregation
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.stream_table import StreamTableJoin, TableJoinKind, check_kind
from streams.operators.suppression import Suppression
from streams.operators.table_table import Change
from streams.operators.windowing import (
    Aggregation,
    Emits,
    HoppingWindows,
    WindowAggregation,
    Windowed,
)
from streams.operators.windows import TumblingWindows

E = TypeVar("E")
F = TypeVar("F")
V = TypeVar("V")
Windows: TypeAlias = TumblingWindows | HoppingWindows | SlidingWindows | SessionWindows


def stream(topic: Topic, event_type: type[E]) -> "Stream[E]":
    """Return the events of a type in a topic, as they come."""
    if event_type not in topic.events:
        raise ValueError(f"topic {topic.name} holds no {event_type.__name__}")
    return Stream((Path(topic, event_type),))


def together(*flows: tuple[Flow, ...]) -> tuple[Flow, ...]:
    """Return the flows of several streams, for a Topology: those that come before more than one, once."""
    return tuple(dict.fromkeys(chain.from_iterable(flows)))


def _never(_event: Any) -> bool:
    return False


@dataclass(frozen=True)
class Stream(Generic[E]):
    """Events on their way, each by itself: of one topic, or of several streams that were merged."""

    paths: tuple[Path, ...]
    joins: tuple[Table[Any], ...] = ()
    global_tables: tuple[Table[Any], ...] = ()
    before: tuple[Flow, ...] = ()
    """The flows that bring the events to their topics."""

    def where(self, keep: Callable[[E], bool]) -> "Stream[E]":
        """Leave out the events for which `keep` is false."""
        step = _each(lambda events: filter(keep, events))
        paths = [
            replace(path, steps=(*path.steps, step))
            if path.steps
            else replace(path, keeps=(*path.keeps, keep))
            for path in self.paths
        ]
        return replace(self, paths=tuple(paths))

    def map(self, make: Callable[[E], F]) -> "Stream[F]":
        """Go on with what `make` makes of each event."""
        return self._then(_each(lambda events: map(make, events)))

    def flat_map(self, make: Callable[[E], Iterable[F]]) -> "Stream[F]":
        """Go on with all that `make` makes of each event: none, one or more."""
        return self._then(_each(lambda events: chain.from_iterable(map(make, events))))

    def branch(self, *tests: Callable[[E], bool]) -> "tuple[Stream[E], ...]":
        """Return a stream for each test, of the events for which it is the first that is true; and one more.

        The last is of those for which none is. Each goes on by itself, or nowhere. Tests are asked again
        in the flow of each branch.
        """
        firsts = [_first_true(tests[:n], test) for n, test in enumerate(tests)]
        return tuple(self.where(keep) for keep in [*firsts, _none_true(tests)])

    def merge(self, *others: "Stream[Any]") -> "Stream[Any]":
        """Go on with the events of other streams as well.

        In their topic's order; those of several topics in that of event time (law 9). An event that is in
        two of the streams comes twice.
        """
        all_ = [self, *others]
        return Stream(
            tuple(path for one in all_ for path in one.paths),
            tuple(dict.fromkeys(table for one in all_ for table in one.joins)),
            tuple(dict.fromkeys(table for one in all_ for table in one.global_tables)),
            together(*(one.before for one in all_)),
        )

    def join(
        self,
        table: Table[V],
        make: Callable[[E, V | None], F],
        *,
        key: Callable[[E], Any],
        kind: TableJoinKind = "inner",
    ) -> "Stream[F]":
        """Go on with what `make` makes of each event and the row of its key, as of the event's turn.

        Without a row, as without a key (None), an inner join leaves the event out, a left one gives None.
        Another flow of the group keeps the table, from another topic with the same keys.
        """
        joins = tuple(dict.fromkeys((*self.joins, table)))
        return replace(self._joined(table, make, key, kind), joins=joins)

    def look_up(
        self,
        table: Table[V],
        make: Callable[[E, V | None], F],
        *,
        key: Callable[[E], Any],
        kind: TableJoinKind = "inner",
    ) -> "Stream[F]":
        """Do what `join` does, with a global table: by any key, and with the row that is there now."""
        looked_up = tuple(dict.fromkeys((*self.global_tables, table)))
        return replace(self._joined(table, make, key, kind), global_tables=looked_up)

    def join_by_foreign_key(
        self,
        right: "Stream[F]",
        *,
        key: Callable[[E], str],
        foreign_key: Callable[[E], str | None],
        right_key: Callable[[F], str],
        deletes: Callable[[E], bool] = _never,
        right_deletes: Callable[[F], bool] = _never,
        kind: TableJoinKind = "inner",
        hashed_by: KeyHash = "crc32",
    ) -> "ForeignKeyStream[E, F]":
        """Take the events of both for tables' changes, and join left rows with the right ones they name.

        An event is its row's value, unless it deletes. A left row's events come from one partition, whichever
        that is; those of the right table from where its keys' hashes say. See ForeignKeyJoin. Raise
        ValueError behind what makes other events of them, and for a kind that there is not.
        """
        check_kind(kind, TableJoinKind)
        for one in (self, right):
            one._check_unmade("tables are told by events of a topic")  # noqa: SLF001 - one of its kind
        flows = ForeignKeyFlows(
            kind=kind,
            left=Side(Paths(self.paths), key, deletes),
            right=Side(Paths(right.paths), right_key, right_deletes),
            foreign_key=foreign_key,
            hashed_by=hashed_by,
        )
        return ForeignKeyStream(flows, together(self.before, right.before))

    def key_by(self, topic: RepartitionTopic, event_type: type[F]) -> "Stream[F]":
        """Send the events on by the key of a repartition topic, which holds their type.

        What follows is a flow of its own, in a task that has all events of a key.
        """
        name = topic.name.replace("-", "_")
        flows = self.to(name, topic)
        return replace(stream(topic, event_type), before=flows)

    def window(self, windows: Windows, *, key: Callable[[E], str]) -> "WindowedStream[E]":
        """Gather the events by key and window. Raise ValueError behind what makes other events of them."""
        self._check_unmade("windows gather events of a topic")
        return WindowedStream(self, windows, key)

    def suppress(self, limit_ms: int, *, key: Callable[[E], str]) -> "SuppressedStream[E]":
        """Take the events for a table's changes, and tell of each key at most one in `limit_ms`.

        That is the last one, as event time comes to the first of them + limit_ms; see Suppression. Raise
        ValueError for a limit below 1, and behind what makes other events of them.
        """
        self._check_unmade("what is suppressed is kept as an event of a topic")
        return SuppressedStream(self, Suppression(limit_ms=limit_ms, key=key))

    def to(self, name: str, topic: Topic) -> tuple[Flow, ...]:
        """Send the events to a topic, in a flow of this name; return it and those before it."""
        flow = sent_on(name, Paths(self.paths), self.joins, self.global_tables)
        return (*self.before, replace(flow, emits=topic))

    def _joined(
        self,
        table: Table[Any],
        make: Callable[[Any, Any], Any],
        key: Callable[[Any], Any],
        kind: TableJoinKind,
    ) -> "Stream[Any]":
        operator = StreamTableJoin[Any, Any](kind=kind, key=key)

        def joined(events: Iterable[Any], parts: Parts) -> Iterator[Any]:
            return starmap(make, operator.join(events, parts[table.name]))

        return self._then(joined)

    def _then(self, step: Step) -> "Stream[Any]":
        paths = [replace(path, steps=(*path.steps, step)) for path in self.paths]
        return replace(self, paths=tuple(paths))

    def _check_unmade(self, why: str) -> None:
        if any(path.steps for path in self.paths):
            raise ValueError(f"{why}: send what was made of them on with key_by first")


def _each(of: Callable[[Iterable[Any]], Iterable[Any]]) -> Step:
    """Return a step that looks at no table."""
    return lambda events, _: of(events)


def _first_true(
    earlier: Iterable[Callable[[E], bool]], test: Callable[[E], bool]
) -> Callable[[E], bool]:
    return lambda event: not any(is_so(event) for is_so in earlier) and test(event)


def _none_true(tests: Iterable[Callable[[E], bool]]) -> Callable[[E], bool]:
    return lambda event: not any(is_so(event) for is_so in tests)


@dataclass(frozen=True)
class WindowedStream(Generic[E]):
    """Events gathered by key and window."""

    stream: Stream[E]
    windows: Windows
    key: Callable[[E], str]

    def aggregate(self, **aggregates: Aggregate[E, Any, Any]) -> "AggregatedStream[E]":
        """Make results of the events of each window: a dict with the value of each aggregate, by name."""
        return AggregatedStream(self, several(**aggregates))


@dataclass(frozen=True)
class AggregatedStream(Generic[E]):
    """Results of windows."""

    windowed: WindowedStream[E]
    aggregate: Aggregate[E, Any, Any]
    global_tables: tuple[Table[Any], ...] = ()

    def look_up(self, table: Table[Any]) -> "AggregatedStream[E]":
        """Give `to`'s function, behind each result, the row of its key in a global table, or None."""
        return replace(self, global_tables=(*self.global_tables, table))

    def to(
        self,
        name: str,
        topic: Topic,
        make: Callable[..., Event],
        *,
        emits: Emits = "final",
    ) -> tuple[Flow, ...]:
        """Send an event to a topic for each result; return the flow of this name, and those before it.

        `make` gets a `Windowed`, and the rows that were looked up. The flow keeps a table of the same name.
        Windows that tumble or hop are kept in columns where the results are final and all aggregates are of
        numbers; it makes no other difference.
        """
        gathered = self.windowed.stream
        paths = Paths(gathered.paths)
        columns = self._in_columns() if emits == "final" else None

        def made(results: Sequence[Windowed[Any]], *tables: Mapping[str, Any]) -> list[Event]:
            return [make(each, *(table.get(each.key) for table in tables)) for each in results]

        if columns is not None:
            flow = told(name, paths, columns, made)
        else:
            operator = self._in_rows(emits)
            looked_up = self.global_tables
            flow = fired(name, paths, operator, self.aggregate, made, global_tables=looked_up)
        return (*gathered.before, replace(flow, emits=topic, global_tables=self.global_tables))

    def _in_columns(self) -> PaneAggregation[Any, Any] | None:
        windows, key = self.windowed.windows, self.windowed.key
        if not isinstance(windows, TumblingWindows | HoppingWindows):
            return None
        try:
            return PaneAggregation(windows, self.aggregate, key=key)
        except ValueError:  # it says which: rows hold anything
            return None

    def _in_rows(self, emits: Emits) -> Aggregation[Any, Any, Any]:
        windows, key, aggregate = self.windowed.windows, self.windowed.key, self.aggregate
        match windows:
            case SessionWindows():
                return SessionAggregation(windows, aggregate, key=key, emits=emits)
            case SlidingWindows():
                return SlidingAggregation(windows, aggregate, key=key, emits=emits)
        return WindowAggregation(windows, aggregate, key=key, emits=emits)


@dataclass(frozen=True)
class SuppressedStream(Generic[E]):
    """A table's changes, of which not all are told."""

    stream: Stream[E]
    operator: Suppression[E]

    def to(self, name: str, topic: Topic, make: Callable[[E], Event]) -> tuple[Flow, ...]:
        """Send an event to a topic for each change that is told; return the flow, and those before it.

        The flow keeps a table of the same name, with a row for each key that waits.
        """
        flow = suppressed(name, Paths(self.stream.paths), self.operator, make)
        return (*self.stream.before, replace(flow, emits=topic))


@dataclass(frozen=True)
class ForeignKeyStream(Generic[E, F]):
    """A table of rows joined with those that they name, told by its changes."""

    joined: ForeignKeyFlows
    before: tuple[Flow, ...]

    def to(
        self, name: str, topic: Topic, make: Callable[[Change[E, F]], Event]
    ) -> tuple[Flow, ...]:
        """Send an event to a topic for each change; return the flow of this name, and those before it.

        Of these, `<name>_lefts` sends left rows to where their foreign keys lie, and `<name>_joined` joins
        them there. A change's `event` has the `event_id` of what brought it about; with the key it tells
        changes apart.
        """
        return (*self.before, *self.joined.flows(name, topic, make))
