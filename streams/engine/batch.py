"""A batch on its way through the agents, and what each agent sees of it."""

import asyncio
from collections import defaultdict
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from streams.engine.definitions import Event, Flow, Table, Topic
from streams.engine.errors import DefinitionError, TooLargeError
from streams.engine.outgoing import Source
from streams.engine.pane_part import PanePart
from streams.engine.records import Outgoing, Reason
from streams.engine.table import Turn
from streams.engine.timed_part import TimedPart
from streams.engine.turns import Slice, stretches, turns_of
from streams.errors import HeadraceError

E = TypeVar("E")


class Failure(NamedTuple):
    """A rule raised, or one of its outputs cannot be sent."""

    flow: Flow
    error: Exception
    reason: Reason = Reason.RULE_FAILED

    @property
    def text(self) -> str:
        """Return the error in one line; a rule's error may fail even at that."""
        try:
            return repr(self.error)
        except Exception:  # noqa: BLE001 - it is foreign code, and only a text
            return type(self.error).__name__


class Prepared(Generic[E]):
    """What a rule is given instead of events: made of those of one type, once for all agents of a topic."""

    __slots__ = ("event_type", "make")

    def __init__(self, event_type: type[E], make: Callable[[Sequence[E]], Any]) -> None:
        self.event_type = event_type
        self.make = make


class Workplace(Protocol):
    """What a batch needs of its task."""

    def part_for(self, flow: Flow, table: Table[Any], turn: Turn) -> Any:
        """Return the task's part of a table as `flow` may use it, at `turn` of its rule's loop.

        Raises DefinitionError.
        """

    def meets_others(self, flow: Flow) -> bool:
        """Tell whether what the flow's rule sees of tables, or others see of its table, hangs on turns."""

    def timed_part(self, flow: Flow) -> TimedPart[Any] | PanePart[Any] | None:
        """Return the task's part of the table that a flow keeps, if stream time closes something of it."""

    def encode(
        self, flow: Flow, events: Iterable[Event], source: Source | None
    ) -> dict[str, list[Outgoing]]:
        """Return derived events, and those passed on, as records, by topic. Raises TooLargeError."""


class Batch:
    """Decoded events of one topic-partition. All agents of the topic get this same object.

    An agent is done with a batch when it asks for the next one; when all are done, `finished` is set
    and nothing of the batch is in flight (the barrier).
    """

    __slots__ = (
        "_by_type", "_own_turns_ms", "_prepared", "_running", "_source", "_together",
        "_turns_ms", "_workplace", "events", "failures", "fatal", "finished", "outputs", "partition", "topic",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - its task alone makes one
        self,
        topic: Topic,
        partition: int,
        piece: Slice,
        flows: Sequence[Flow],
        workplace: Workplace,
        together: "Interleaved | None" = None,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.events = piece.events
        self._turns_ms = piece.turns_ms
        self._own_turns_ms = piece.own_turns_ms
        self.finished = asyncio.get_running_loop().create_future()
        self.failures: dict[str, Failure] = {}
        self.fatal: BaseException | None = None
        self.outputs: dict[str, dict[str, list[Outgoing]]] = {}
        """What flows derived, by flow and topic."""
        self._running = {flow.name for flow in flows}
        self._by_type: dict[type[Any], Sequence[Any]] = {}
        self._prepared: dict[tuple[type[Any], Callable[..., Any]], Any] = {}
        self._workplace = workplace
        self._together = together
        self._source: Source | None = Source(topic, piece.events, piece.indexes, piece.run)

    def of(self, event_type: type[E]) -> Sequence[E]:
        """Return the events of exactly this type, in their order."""
        if event_type not in self._by_type:
            kinds = set(map(type, self.events))
            self._by_type[event_type] = (
                self.events
                if kinds == {event_type}
                else [event for event in self.events if type(event) is event_type]
            )
        return self._by_type[event_type]

    def run(
        self,
        flow: Flow,
        rule: Callable[..., Iterable[Event] | None],
        events: Sequence[Any] | Prepared[Any],
        *tables: Table[Any],
        **params: Any,
    ) -> None:
        """Run a flow's rule: its changes and outputs stay in the batch until the batch is accepted."""
        turn = Turn(flow.name)
        with self.blames(flow):
            parts = [self._workplace.part_for(flow, table, turn) for table in tables]
            given: Any = events
            if self._together is not None and len(flow.reads) > 1:
                if isinstance(events, Prepared):  # as a failure does, it has the step cut by turn
                    msg = f"flow {flow.name} reads several topics: no rule over columns goes by their turns"
                    raise TypeError(msg)
                turns_ms = self._turns_of(flow, events, self._turns_ms)
                called = partial(_call, rule, parts, params)
                self._together.note(_Noted(self, flow, called, events, turns_ms))
                return
            if (timed := self._workplace.timed_part(flow)) is not None:
                self._begin(timed, flow, events)
            if isinstance(events, Prepared):
                given = self._made(flow, events)
            # In every batch of theirs: what a rule may do must not hang on where it is cut.
            elif self._workplace.meets_others(flow):
                turns_ms = self._turns_of(flow, events, self._turns_ms)
                given = turn.through(events, turns_ms) if turns_ms else turn.at_once(events)
            self.derive(flow, rule(given, *parts, **params))

    def derive(self, flow: Flow, events: Iterable[Event] | None, of: "Batch | None" = None) -> None:
        """Keep what a flow's rule has derived of a batch, this one by default, until this is accepted."""
        if events is not None:
            source = (self if of is None else of)._source  # noqa: SLF001 - it is of this class
            of_flow = self.outputs.setdefault(flow.name, {})
            for topic, records in self._workplace.encode(flow, events, source).items():
                of_flow.setdefault(topic, []).extend(records)

    @contextmanager
    def blames(self, flow: Flow) -> Iterator[None]:
        """Keep what a flow's rule raises, until the batch is done."""
        try:
            yield
        except TooLargeError as error:
            self.failures.setdefault(flow.name, Failure(flow, error, Reason.TOO_LARGE))
        except HeadraceError as error:  # the engine's own: no record is to blame
            self.fatal = self.fatal or error
        except Exception as error:  # noqa: BLE001 - whatever a rule raises, a record may be the cause
            self.failures.setdefault(flow.name, Failure(flow, error))

    def _made(self, flow: Flow, of: Prepared[Any]) -> Any:
        if self._workplace.meets_others(flow):
            msg = f"flow {flow.name} uses a joined table: its rule goes through events, not columns"
            raise DefinitionError(msg)
        key = of.event_type, of.make
        if key not in self._prepared:
            self._prepared[key] = of.make(self.of(of.event_type))
        return self._prepared[key]

    def _begin(
        self,
        timed: TimedPart[Any] | PanePart[Any],
        flow: Flow,
        events: Sequence[Any] | Prepared[Any],
    ) -> None:
        """Tell a part at which turns the events come that its rule is given."""
        alone = not self._turns_ms
        if alone and events is self.events and isinstance(timed, PanePart):
            timed.begin_batch(len(self.events))
        else:
            timed.begin_rule(self._times_of(flow, events), alone=alone)

    def _times_of(self, flow: Flow, events: Sequence[Any] | Prepared[Any]) -> Sequence[int]:
        """Return the turn of each of these events, also where no other input's turn comes in between."""
        if isinstance(events, Prepared):
            msg = f"flow {flow.name} keeps a timed table: its rule goes through events, not columns"
            raise DefinitionError(msg)
        if self._turns_ms:
            return self._turns_of(flow, events, self._turns_ms)
        if not self._own_turns_ms:
            self._own_turns_ms = turns_of(self.events)
        return self._turns_of(flow, events, self._own_turns_ms)

    def _turns_of(
        self, flow: Flow, events: Sequence[Any], turns_ms: Sequence[int]
    ) -> Sequence[int]:
        """Return the turn of each of these events, which must be of this batch and in its order.

        None at all where no other input's turn comes in between.
        """
        if events is self.events or not turns_ms:
            return turns_ms
        all_turns = zip(self.events, turns_ms, strict=True)
        found_ms = [
            next((at_ms for other, at_ms in all_turns if other is event), None) for event in events
        ]
        if None in found_ms:
            msg = (
                f"flow {flow.name} uses a joined or timed table, and gives its rule other events than "
                f"those of the batch, or in another order"
            )
            raise DefinitionError(msg)
        return cast("list[int]", found_ms)

    def release(self) -> None:
        """Let go of the events while they are still in the processor's caches.

        Faust's streams hold the last batch until the next one comes: freed then, the events cost
        twice the time. And it holds what holds it: the collector would find that long after.
        """
        self._together = None
        self.events = ()
        self._source = None
        self._by_type.clear()
        self._prepared.clear()
        self.outputs.clear()

    def done(self, flow: Flow) -> None:
        """Say that a flow's agent has finished this batch."""
        self._running.discard(flow.name)
        if not self._running and not self.finished.done():
            self.finished.set_result(None)


class _Noted(NamedTuple):
    """A rule that an agent runs, over events at their turns."""

    batch: Batch
    flow: Flow
    call: Callable[[Sequence[Any]], Iterable[Event] | None]
    events: Sequence[Any]
    turns_ms: Sequence[int]


class Interleaved:
    """Batches of several inputs, one of each, for flows that show in which order their inputs came.

    What such a flow's agents run over the batches is noted. Once all of them are done, the rules are called
    turn by turn: a batch a turn would cost many times what a call does (decision 0034).
    """

    def __init__(self) -> None:
        self._noted: defaultdict[str, list[_Noted]] = defaultdict(list)

    def note(self, noted: _Noted) -> None:
        """Have a rule called by `run`."""
        self._noted[noted.flow.name].append(noted)

    def run(self) -> None:
        """Call the rules. What one raises, the first of the flow's batches has."""
        for of_flow in self._noted.values():
            with of_flow[0].batch.blames(of_flow[0].flow):
                self._run(of_flow)

    @staticmethod
    def _run(of_flow: Sequence[_Noted]) -> None:
        first, flow = of_flow[0].batch, of_flow[0].flow
        passed_on = {each for topic in flow.reads for each in topic.events}
        passes_on = any(not passed_on.isdisjoint(topic.events) for topic in flow.outputs)
        derived: list[Event] = []
        for rank, begin, end in stretches([noted.turns_ms for noted in of_flow]):
            noted = of_flow[rank]
            made = noted.call(noted.events[begin:end])
            if passes_on:  # byte by byte, as its own batch has them
                first.derive(flow, made, noted.batch)
            elif made is not None:
                derived += made
        first.derive(flow, derived)


def _call(
    rule: Callable[..., Iterable[Event] | None],
    parts: Sequence[Any],
    params: Mapping[str, Any],
    events: Sequence[Any],
) -> Iterable[Event] | None:
    return rule(events, *parts, **params)


class AgentBatch:
    """A batch as one agent sees it (streams/engine/api.py tells agents' authors about it)."""

    __slots__ = ("_batch", "_flow")

    def __init__(self, batch: Batch, flow: Flow) -> None:
        self._batch = batch
        self._flow = flow

    def __len__(self) -> int:
        return len(self._batch.events)

    @property
    def partition(self) -> int:
        """Return the partition that the events came from."""
        return self._batch.partition

    def all(self) -> Sequence[Any]:
        """Return the batch's events of every type, in their order."""
        return self._batch.events

    def of(self, event_type: type[E]) -> Sequence[E]:
        """Return the batch's events of exactly this type, in their order."""
        return self._batch.of(event_type)

    def columns(self, event_type: type[E], make: Callable[[Sequence[E]], Any]) -> Prepared[E]:
        """Have `run` give its rule what `make` makes of the events of a type; all agents share it."""
        return Prepared(event_type, make)

    def run(
        self,
        rule: Callable[..., Iterable[Event] | None],
        events: Sequence[Any] | Prepared[Any],
        *tables: Table[Any],
        **params: Any,
    ) -> None:
        """Call `rule(events, *parts, **params)`: tables become this task's parts; it yields derived events.

        If it raises, all that the batch changed is undone, and the batch comes again in smaller
        pieces until the one record that makes it raise is found and dead-lettered.
        """
        self._batch.run(self._flow, rule, events, *tables, **params)


async def agent_batches(stream: AsyncIterable[Any], flow: Flow) -> AsyncIterator[AgentBatch]:
    """Yield a Faust stream's batches to an agent; asking for the next one ends the one before.

    Faust's acknowledgements prove nothing: it acks the event of an agent that raised, too.
    """
    async for batch in stream:
        if not isinstance(batch, Batch):
            msg = f"agent {flow.name} got {type(batch).__name__}: only this engine's topics carry batches"
            raise DefinitionError(msg)
        yield AgentBatch(batch, flow)
        batch.done(flow)
