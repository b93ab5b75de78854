"""What streams that are declared become: rules and agents over the events of topics, with their tables."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import repeat
from operator import or_
from typing import Any, TypeAlias

import numpy as np

from streams.engine.api import App, Batch
from streams.engine.definitions import Event, Flow, PaneTable, Table, TimedTable, Topic
from streams.operators.aggregates import Aggregate
from streams.operators.columns import Integers
from streams.operators.panes import PaneAggregation, PaneRows
from streams.operators.suppression import Suppressed, Suppression, suppressed_codec
from streams.operators.timed import Fired, TimedRows
from streams.operators.windowing import Aggregation, Open, open_codec

Parts: TypeAlias = Mapping[str, Any]
"""A flow's tables by name, as its rule sees them."""
Step: TypeAlias = Callable[[Iterable[Any], Parts], Iterable[Any]]
Keep: TypeAlias = Callable[[Any], bool]
Made: TypeAlias = Callable[..., list[Event]]
"""Makes events of windows' results, with global tables to look things up in."""
Make: TypeAlias = Callable[[Any], Event]
Rule: TypeAlias = Callable[..., Iterable[Event] | None]
Register: TypeAlias = Callable[[App[object]], None]


@dataclass(frozen=True)
class Path:
    """What becomes of the events of one type in a topic, each by itself."""

    topic: Topic
    event_type: type[Any]
    keeps: tuple[Keep, ...] = ()
    """What all of the topic's events are asked that are to go on, as long as they are nothing else."""
    steps: tuple[Step, ...] = ()

    def fits(self, event: Any) -> bool:
        """Tell whether an event of the topic is on this path."""
        return type(event) is self.event_type and all(keep(event) for keep in self.keeps)

    def through(self, events: Iterable[Any], parts: Parts) -> Iterable[Any]:
        """Return what becomes of events of its type, lazily: each is looked at when it is asked for."""
        for keep in self.keeps:
            events = filter(keep, events)
        for step in self.steps:
            events = step(events, parts)
        return events


@dataclass(frozen=True)
class Paths:
    """Those of a flow: of one stream, or of several that were merged."""

    paths: tuple[Path, ...]
    by_topic: Mapping[Topic, tuple[Path, ...]] = field(init=False)

    def __post_init__(self) -> None:
        topics = dict.fromkeys(path.topic for path in self.paths)
        of = {t: tuple(path for path in self.paths if path.topic == t) for t in topics}
        object.__setattr__(self, "by_topic", of)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Return the topics that the flow reads."""
        return tuple(self.by_topic)

    @property
    def in_order_ms(self) -> int | None:
        """Return what a timed table says of their order: of several inputs, it shows; see TimedTable."""
        return 0 if len(self.topics) > 1 else None

    @property
    def row_type(self) -> Any:
        """Return the type of their events, as rows are read."""
        return reduce(or_, dict.fromkeys(path.event_type for path in self.paths))

    def given(self, topic: Topic) -> type[Any] | None:
        """Return the type of which a topic's events are on a path, None if there are several."""
        types = {path.event_type for path in self.by_topic[topic]}
        return types.pop() if len(types) == 1 else None

    def fitting(self, topic: Topic) -> Callable[[Any], int] | None:
        """Return what tells on how many paths an event of a topic is; None: each that is given on one."""
        paths = self.by_topic[topic]
        if len(paths) == 1:
            return paths[0].fits if paths[0].keeps else None
        return lambda event: sum([path.fits(event) for path in paths])


def sent_on(
    name: str, paths: Paths, joins: tuple[Table[Any], ...], global_tables: tuple[Table[Any], ...]
) -> Flow:
    """Return the flow that sends on what the paths lead to."""
    tables = (*joins, *global_tables)

    def rule_of(of_topic: tuple[Path, ...]) -> Rule:
        def rule(events: Iterable[Any], *parts: Any) -> Iterable[Any]:
            by_name = {table.name: part for table, part in zip(tables, parts, strict=True)}
            if len(of_topic) == 1:
                return of_topic[0].through(events, by_name)
            return (
                made
                for event in events
                for path in of_topic
                if type(event) is path.event_type
                for made in path.through((event,), by_name)
            )

        return rule

    register = _agents(name, paths, rule_of, tables)
    return Flow(register, name, paths.topics, joins=joins, global_tables=global_tables)


def told(
    name: str,
    paths: Paths,
    operator: PaneAggregation[Any, Any],
    made: Made,
) -> Flow:
    """Return the flow that keeps windows in columns, and tells each when it closes."""
    table: PaneTable[Any] = PaneTable.of(name, operator)

    def rule_of(of_topic: tuple[Path, ...]) -> Rule:
        fits = paths.fitting(of_topic[0].topic)

        def rule(events: Sequence[Any], rows: PaneRows) -> None:
            if fits is None:
                operator.add(events, rows)
                return
            kept = [at for at, event in enumerate(events) for _ in range(fits(event))]
            times_ms = np.array([event.timestamp for event in events], np.int64)
            of_kept = _KeptPanes(rows, rows.turns_ms(times_ms)[kept])
            operator.add([events[at] for at in kept], of_kept)

        return rule

    register = _agents(name, paths, rule_of, (table,))
    return Flow(register, name, paths.topics, keeps=table, tells=made)


def fired(
    name: str,
    paths: Paths,
    operator: Aggregation[Any, Any, Any],
    aggregate: Aggregate[Any, Any, Any],
    made: Made,
    *,
    global_tables: tuple[Table[Any], ...],
) -> Flow:
    """Return the flow that keeps windows in rows, and tells what the operator does of them."""
    table: TimedTable[Any] = TimedTable(name, *open_codec(aggregate), in_order_ms=paths.in_order_ms)

    def rule_of(of_topic: tuple[Path, ...]) -> Rule:
        fits = paths.fitting(of_topic[0].topic)

        def rule(
            events: Sequence[Any], rows: TimedRows[Open[Any]], *looked_up: Any
        ) -> Iterable[Event]:
            return made(operator.add(events, _kept_rows(rows, fits)), *looked_up)

        return rule

    def fire(key: str, row: Open[Any], now_ms: int, *looked_up: Any) -> Fired[Open[Any], Event]:
        left, closed = operator.fire(key, row, now_ms)
        return left, made(closed, *looked_up)

    register = _agents(name, paths, rule_of, (table, *global_tables))
    return Flow(register, name, paths.topics, keeps=table, fires=fire)


def suppressed(name: str, paths: Paths, operator: Suppression[Any], make: Make) -> Flow:
    """Return the flow that keeps changes, and tells of each key no more than one in a time."""
    codec = suppressed_codec(paths.row_type)
    table: TimedTable[Any] = TimedTable(name, *codec, in_order_ms=paths.in_order_ms)

    def rule_of(of_topic: tuple[Path, ...]) -> Rule:
        fits = paths.fitting(of_topic[0].topic)

        def rule(events: Sequence[Any], rows: TimedRows[Suppressed[Any]]) -> None:
            operator.add(events, _kept_rows(rows, fits))

        return rule

    def fire(key: str, row: Suppressed[Any], now_ms: int) -> Fired[Suppressed[Any], Event]:
        left, changes = operator.fire(key, row, now_ms)
        return left, list(map(make, changes))

    register = _agents(name, paths, rule_of, (table,))
    return Flow(register, name, paths.topics, keeps=table, fires=fire)


class _KeptPanes:
    """Rows of panes for some of the events that a rule was given: their turns are known already."""

    def __init__(self, rows: PaneRows, turns_ms: Integers) -> None:
        self.rows = rows.rows
        self.is_late = rows.is_late
        self._turns_ms = turns_ms

    def turns_ms(self, _times_ms: Integers) -> Integers:
        return self._turns_ms


class _KeptRows:
    """Rows whose turns are those of the events that are kept, each as often as it is on a path."""

    def __init__(self, rows: TimedRows[Any], fits: Callable[[Any], int]) -> None:
        self._rows = rows
        self._fits = fits
        self.get = rows.get
        self.is_late = rows.is_late
        self.update = rows.update

    def __setitem__(self, key: str, row: Any) -> None:
        self._rows[key] = row

    def __delitem__(self, key: str) -> None:
        del self._rows[key]

    def turns(self, events: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        for turned in self._rows.turns(events):
            yield from repeat(turned, self._fits(turned[0]))


def _kept_rows(rows: TimedRows[Any], fits: Callable[[Any], int] | None) -> TimedRows[Any]:
    return rows if fits is None else _KeptRows(rows, fits)


def _agents(
    name: str,
    paths: Paths,
    rule_of: Callable[[tuple[Path, ...]], Rule],
    tables: tuple[Table[Any], ...],
) -> Register:
    """Return what hangs the agents of a flow, one a topic, on the application."""
    rules = {topic: (paths.given(topic), rule_of(of)) for topic, of in paths.by_topic.items()}
    return agents(name, rules, tables)


def agents(
    name: str,
    rules: Mapping[Topic, tuple[type[Any] | None, Rule]],
    tables: tuple[Table[Any], ...],
    *,
    tells_partition: bool = False,
) -> Register:
    """Return what hangs a flow's agents on the application: a rule for each topic, and what it is given.

    That is the events of a type, or, for None, of all types, in the order in which they come. With
    `tells_partition` rules are told the partition as well.
    """

    def register(app: App[object]) -> None:
        for topic, (event_type, rule) in rules.items():
            app.agent(topic)(agent_of(event_type, rule))

    def agent_of(event_type: type[Any] | None, rule: Rule) -> Any:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                events = batch.all() if event_type is None else batch.of(event_type)
                params = {"partition": batch.partition} if tells_partition else {}
                batch.run(rule, events, *tables, **params)

        agent.__name__ = name
        return agent

    return register
