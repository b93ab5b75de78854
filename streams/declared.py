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
that are there for flows written by hand. Functions that are given take one event, and are pure.
"""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import numpy as np

from streams.engine.api import App, Batch
from streams.engine.definitions import (
    Event,
    Flow,
    PaneTable,
    RepartitionTopic,
    Table,
    TimedTable,
    Topic,
)
from streams.operators.aggregates import Aggregate, several
from streams.operators.columns import Integers
from streams.operators.panes import PaneAggregation, PaneRows
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import (
    Aggregation,
    Emits,
    HoppingWindows,
    Open,
    WindowAggregation,
    Windowed,
    open_codec,
)
from streams.operators.windows import TumblingWindows

E = TypeVar("E")
F = TypeVar("F")
V = TypeVar("V")
Windows: TypeAlias = TumblingWindows | HoppingWindows | SlidingWindows | SessionWindows
_Parts: TypeAlias = Mapping[str, Any]
"""A flow's tables by name, as its rule sees them."""
_Step: TypeAlias = Callable[[Iterable[Any], _Parts], Iterable[Any]]
_Keep: TypeAlias = Callable[[Any], bool]


def stream(topic: Topic, event_type: type[E]) -> "Stream[E]":
    """Return the events of a type in a topic, as they come."""
    if event_type not in topic.events:
        raise ValueError(f"topic {topic.name} holds no {event_type.__name__}")
    return Stream(topic, event_type)


@dataclass(frozen=True)
class Stream(Generic[E]):
    """Events of one topic on their way, each by itself."""

    topic: Topic
    event_type: type[Any]
    keeps: tuple[_Keep, ...] = ()
    """What all of the topic's events are asked that are to go on, as long as they are nothing else."""
    steps: tuple[_Step, ...] = ()
    joins: tuple[Table[Any], ...] = ()
    global_tables: tuple[Table[Any], ...] = ()
    before: tuple[Flow, ...] = ()
    """The flows that bring the events to the topic."""

    def where(self, keep: Callable[[E], bool]) -> "Stream[E]":
        """Leave out the events for which `keep` is false."""
        step = _each(lambda events: filter(keep, events))
        if self.steps:
            return replace(self, steps=(*self.steps, step))
        return replace(self, keeps=(*self.keeps, keep))

    def map(self, make: Callable[[E], F]) -> "Stream[F]":
        """Go on with what `make` makes of each event."""
        return self._then(_each(lambda events: map(make, events)))

    def flat_map(self, make: Callable[[E], Iterable[F]]) -> "Stream[F]":
        """Go on with all that `make` makes of each event: none, one or more."""
        return self._then(_each(lambda events: chain.from_iterable(map(make, events))))

    def join(
        self,
        table: Table[V],
        make: Callable[[E, V | None], F],
        *,
        key: Callable[[E], Any],
        kind: Literal["inner", "left"] = "inner",
    ) -> "Stream[F]":
        """Go on with what `make` makes of each event and the row of its key, as of the event's turn.

        Without a row an inner join leaves the event out, a left one gives None. Another flow of the group
        keeps the table, from another topic with the same keys.
        """
        return replace(self._joined(table, make, key, kind), joins=(*self.joins, table))

    def look_up(
        self,
        table: Table[V],
        make: Callable[[E, V | None], F],
        *,
        key: Callable[[E], Any],
        kind: Literal["inner", "left"] = "inner",
    ) -> "Stream[F]":
        """Do what `join` does, with a global table: by any key, and with the row that is there now."""
        made = self._joined(table, make, key, kind)
        return replace(made, global_tables=(*self.global_tables, table))

    def key_by(self, topic: RepartitionTopic, event_type: type[F]) -> "Stream[F]":
        """Send the events on by the key of a repartition topic, which holds their type.

        What follows is a flow of its own, in a task that has all events of a key.
        """
        name = topic.name.replace("-", "_")
        flows = self.to(name, topic)
        return replace(stream(topic, event_type), before=flows)

    def window(self, windows: Windows, *, key: Callable[[E], str]) -> "WindowedStream[E]":
        """Gather the events by key and window. Raise ValueError behind what makes other events of them."""
        if self.steps:
            raise ValueError(
                "windows gather events of a topic: send what was made of them on with key_by first"
            )
        return WindowedStream(self, windows, key)

    def to(self, name: str, topic: Topic) -> tuple[Flow, ...]:
        """Send the events to a topic, in a flow of this name; return it and those before it."""
        steps: list[_Step] = [_each(_filter(keep)) for keep in self.keeps]
        steps += self.steps
        tables = (*self.joins, *self.global_tables)

        def rule(events: Iterable[E], *parts: Any) -> Iterable[Any]:
            by_name = {table.name: part for table, part in zip(tables, parts, strict=True)}
            made: Iterable[Any] = events
            for step in steps:
                made = step(made, by_name)
            return made

        register = _agent(name, self.topic, self.event_type, rule, tables)
        flow = Flow(
            register,
            name,
            (self.topic,),
            joins=self.joins,
            emits=topic,
            global_tables=self.global_tables,
        )
        return (*self.before, flow)

    def _joined(
        self,
        table: Table[Any],
        make: Callable[[Any, Any], Any],
        key: Callable[[Any], Any],
        kind: Literal["inner", "left"],
    ) -> "Stream[Any]":
        def joined(events: Iterable[Any], parts: _Parts) -> Iterator[Any]:
            rows = parts[table.name]
            for event in events:
                row = rows.get(key(event))
                if row is not None or kind == "left":
                    yield make(event, row)

        return self._then(joined)

    def _then(self, step: _Step) -> "Stream[Any]":
        return replace(self, steps=(*self.steps, step))


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
        columns = self._in_columns() if emits == "final" else None

        def made(results: Sequence[Windowed[Any]], *tables: Mapping[str, Any]) -> list[Event]:
            return [make(each, *(table.get(each.key) for table in tables)) for each in results]

        if columns is not None:
            flow = _told(name, gathered, columns, made)
        else:
            flow = _fired(self, name, self._in_rows(emits), made)
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


# -- what they become ------------------------------------------------------------------------------


def _told(
    name: str,
    gathered: Stream[Any],
    operator: PaneAggregation[Any, Any],
    made: Callable[..., list[Event]],
) -> Flow:
    table: PaneTable[Any] = PaneTable.of(name, operator)
    keeps = gathered.keeps

    def rule(events: Sequence[Any], rows: PaneRows) -> None:
        if not keeps:
            operator.add(events, rows)
            return
        kept = [at for at, event in enumerate(events) if all(keep(event) for keep in keeps)]
        times_ms = np.array([event.timestamp for event in events], np.int64)
        of_kept = _KeptPanes(rows, rows.turns_ms(times_ms)[kept])
        operator.add([events[at] for at in kept], of_kept)

    register = _agent(name, gathered.topic, gathered.event_type, rule, (table,))
    return Flow(register, name, (gathered.topic,), keeps=table, tells=made)


def _fired(
    aggregated: AggregatedStream[Any],
    name: str,
    operator: Aggregation[Any, Any, Any],
    made: Callable[..., list[Event]],
) -> Flow:
    gathered = aggregated.windowed.stream
    table: TimedTable[Any] = TimedTable(name, *open_codec(aggregated.aggregate))
    keeps = gathered.keeps

    def rule(events: Sequence[Any], rows: TimedRows[Open[Any]], *looked_up: Any) -> Iterable[Event]:
        told = operator.add(events, _KeptRows(rows, keeps) if keeps else rows)
        return made(told, *looked_up)

    def fire(key: str, row: Open[Any], now_ms: int, *looked_up: Any) -> Fired[Open[Any], Event]:
        left, closed = operator.fire(key, row, now_ms)
        return left, made(closed, *looked_up)

    tables = (table, *aggregated.global_tables)
    register = _agent(name, gathered.topic, gathered.event_type, rule, tables)
    return Flow(register, name, (gathered.topic,), keeps=table, fires=fire)


class _KeptPanes:
    """Rows of panes for some of the events that a rule was given: their turns are known already."""

    def __init__(self, rows: PaneRows, turns_ms: Integers) -> None:
        self.rows = rows.rows
        self.is_late = rows.is_late
        self._turns_ms = turns_ms

    def turns_ms(self, _times_ms: Integers) -> Integers:
        return self._turns_ms


class _KeptRows:
    """Rows whose turns are those of the events that are kept."""

    def __init__(self, rows: TimedRows[Any], keeps: Sequence[_Keep]) -> None:
        self._rows = rows
        self._keeps = keeps
        self.get = rows.get
        self.is_late = rows.is_late
        self.update = rows.update

    def __setitem__(self, key: str, row: Any) -> None:
        self._rows[key] = row

    def __delitem__(self, key: str) -> None:
        del self._rows[key]

    def turns(self, events: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        return (
            turned
            for turned in self._rows.turns(events)
            if all(keep(turned[0]) for keep in self._keeps)
        )


def _each(of: Callable[[Iterable[Any]], Iterable[Any]]) -> _Step:
    """Return a step that looks at no table."""
    return lambda events, _: of(events)


def _filter(keep: _Keep) -> Callable[[Iterable[Any]], Iterable[Any]]:
    return lambda events: filter(keep, events)


def _agent(
    name: str,
    topic: Topic,
    event_type: type[Any],
    rule: Callable[..., Iterable[Event] | None],
    tables: tuple[Table[Any], ...],
) -> Callable[[App[object]], None]:
    """Return what hangs the agent of a flow on the application."""

    def register(app: App[object]) -> None:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.of(event_type), *tables)

        agent.__name__ = name
        app.agent(topic)(agent)

    return register
