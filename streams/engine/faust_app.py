"""Faust's app, agents and streams, fed with batches by this engine instead of with single events.

Faust's per-event path costs 270 µs an event, and its tables and commits cannot be exactly-once
(decision 0001). So the app starts agents and Faust's conductor, which hands each batch to the agents
of its topic as one event; consumer, tables, recovery and commits are the engine's. What leans on
Faust's inner parts stands in this module alone; tests/unit/engine/test_faust_app.py fails where a new
version has changed them.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, cast
from weakref import WeakSet

import faust
from faust.app import BootStrategy
from faust.tables import TableManager
from faust.types import TP, ConsumerMessage
from mode import Service

from streams.engine.batch import Batch, agent_batches
from streams.engine.definitions import Flow, Topic, Topology
from streams.engine.errors import AgentFailedError, DefinitionError
from streams.engine.records import TopicPartition

Agent = Callable[[Any], Awaitable[None]]
# One generation for all batches: Faust silently drops a message whose generation is not the app's.
_GENERATION: Final = 1
# Mode names a service's logger after its module: its chatter belongs with Faust's.
_LOGGER: Final = logging.getLogger("faust.headrace")


class _NoTables(TableManager):
    """Faust's table manager without its one-second wait and its recovery: it has no tables."""

    logger = _LOGGER

    async def on_start(self) -> None:
        self._tables_finalized.set()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        """There is nothing to stop."""


class _Boot(BootStrategy):
    """What is started: the engine in the consumer's place, agents, conductor, tables' empty manager."""

    def server(self) -> Iterable[Any]:
        return self._chain(
            self.sensors(), [self.app.consumer], self.agents(), [self.app.topics], self.tables()
        )

    def tables(self) -> Iterable[Any]:
        return [self.app.tables]


class _Consumer(Service):
    """Stands where Faust expects its consumer; the conductor calls `subscribe` when agents are ready."""

    logger = _LOGGER

    def __init__(self, app: "App", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.app = app
        self._unacked_messages: WeakSet[Any] = WeakSet()  # Faust's streams look at it

    async def subscribe(self, _topics: Iterable[str]) -> None:
        await self.app.on_agents_ready()

    def assignment(self) -> set[TP]:
        return set()

    def ack(self, _message: Any) -> bool:
        return True

    def on_buffer_full(self, _tp: TP) -> None:
        """Nothing is buffered: the barrier lets one batch in at a time."""

    def on_buffer_drop(self, _tp: TP) -> None:
        """See on_buffer_full."""

    def close(self) -> None:
        """Do nothing: the engine closes what it opened."""


class _Batches(faust.Schema[Any, Any]):
    """Faust's schema for topics of batches: what arrives is decoded already."""

    def loads_key(self, app: Any, message: Any, **_options: Any) -> None:  # noqa: ARG002
        return None

    def loads_value(self, app: Any, message: Any, **_options: Any) -> Any:  # noqa: ARG002
        return message.value


class App(faust.App):
    """A Faust app whose agents get batches. `settings` is the application's own settings object."""

    BootStrategy = _Boot
    logger = _LOGGER

    def __init__(
        self, topology: Topology, application_id: str, settings: Any, **options: Any
    ) -> None:
        super().__init__(
            application_id,
            # Faust never connects: the address, with its password, stays out of its banner and logs.
            broker="kafka://",
            store="memory://",
            autodiscover=False,
            agent_supervisor="mode.supervisors.CrashingSupervisor",
            web_enabled=False,
            stream_wait_empty=False,
            topic_disable_leader=True,
            TableManager=_NoTables,
            **options,
        )
        self.settings = settings
        self.topology = topology
        self.agent_error: Callable[[BaseException], None] | None = None
        self._agent_failure: BaseException | None = None
        self.when_agents_ready: Callable[[], Awaitable[None]] | None = None
        self.before_start: Callable[[], Awaitable[None]] | None = None
        self.before_stop: Callable[[], Awaitable[None]] | None = None
        self._application_id = application_id
        self._flows = {flow.name: flow for flow in topology.flows}
        self._batch_topics: dict[str, Any] = {}
        self.consumer = cast("Any", _Consumer(self, beacon=self.beacon))
        self.consumer_generation_id = _GENERATION
        for flow in topology.flows:
            flow.register(self)
        self._check_agents()

    def agent(  # type: ignore[override]
        self, channel: Any = None, **options: Any
    ) -> Callable[[Agent], Any]:
        """Register the agent of a flow: `@app.agent(ORDERS)` over `async def name(batches)`.

        Its function's name says which flow of the topology it is; of a flow that reads several topics
        it is registered for each. Raises DefinitionError otherwise.
        """
        if not isinstance(channel, Topic):
            msg = f"@app.agent takes a Topic of streams/topics.py, not {channel!r}"
            raise DefinitionError(msg)

        def register(function: Agent) -> Any:
            named = channel.of(self._application_id)
            flow = self._flow_of(function, named)
            topic = self._read_by(flow, named)

            @functools.wraps(function)
            async def reading(stream: Any) -> None:
                stream.enable_acks = False  # the barrier is ours: see agent_batches
                await function(agent_batches(stream, flow))
                if not self.should_stop:
                    msg = f"agent {flow.name} ended; it must read batches as long as there are any"
                    raise AgentFailedError(msg)

            name = _agent_name(flow, topic)
            return super(App, self).agent(self._topic(topic), name=name, **options)(reading)

        return register

    @property
    def failure(self) -> BaseException | None:
        """What made the app crash, if it did: an agent's failure before what Faust made of it."""
        return self._agent_failure or self.crash_reason

    async def deliver(self, source: TopicPartition, batch: Batch) -> None:
        """Hand a batch to every agent of its topic."""
        message = ConsumerMessage(
            topic=source.topic, partition=source.partition, offset=0, timestamp=0.0,
            timestamp_type=0, headers=[], key=None, value=cast("Any", batch), checksum=None,
            serialized_key_size=0, serialized_value_size=0, tp=TP(*source),
            generation_id=_GENERATION,
        )  # fmt: skip
        await self.topics.on_message(message)

    async def on_agents_ready(self) -> None:
        """Begin to feed: Faust's conductor calls it once all agents wait for their first batch."""
        if self.when_agents_ready is not None:
            await self.when_agents_ready()

    async def open_lanes(self, inputs: Mapping[str, int]) -> None:
        """Make the conductor accept batches of these topics, with so many partitions each."""
        lanes = {
            TP(topic, partition) for topic, count in inputs.items() for partition in range(count)
        }
        await self.topics.on_partitions_assigned(lanes)
        self.flow_control.resume()

    async def on_start(self) -> None:
        """Do what must be done before any agent starts; an error here ends the start."""
        await super().on_start()
        if self.before_start is not None:
            await self.before_start()

    def _create_directories(self) -> None:
        """Faust's own data folder stays unmade: tables are the engine's."""

    async def on_stop(self) -> None:
        """Stop the engine while its agents still run, then the rest."""
        if self.before_stop is not None:
            await self.before_stop()
        await super().on_stop()

    async def _on_agent_error(self, agent: Any, error: BaseException) -> None:
        """Stop the engine: Faust would ack the event of an agent that raised, and restart it."""
        if not isinstance(error, AgentFailedError):
            cause = f"agent {agent.name} raised outside batch.run: {error!r}"
            final = AgentFailedError(cause)
            final.__cause__ = error
            error = final
        self._agent_failure = error
        if self.agent_error is None:  # before the engine has started
            await self.crash(error)
        else:
            self.agent_error(error)

    def _topic(self, topic: Topic) -> Any:
        if topic.name not in self._batch_topics:
            self._batch_topics[topic.name] = self.topic(
                topic.name, schema=_Batches(), value_serializer="raw"
            )
        return self._batch_topics[topic.name]

    def _flow_of(self, function: Agent, topic: Topic) -> Flow:
        name = getattr(function, "__name__", repr(function))
        flow = self._flows.get(name)
        if flow is None:
            msg = f"agent {name} is no flow of streams/topology.py, which has {', '.join(self._flows)}"
            raise DefinitionError(msg)
        if self._read_by(flow, topic) not in flow.reads:
            msg = f"agent {name} reads {topic.name}, but streams/topology.py says otherwise"
            raise DefinitionError(msg)
        return flow

    def _read_by(self, flow: Flow, topic: Topic) -> Topic:
        """Return what a flow reads where its agent names a topic: that, or its twin."""
        twin = self.topology.twin(topic)
        return twin if twin is not None and twin in flow.reads else topic

    def _check_agents(self) -> None:
        for flow in self._flows.values():
            for topic in flow.reads:
                if _agent_name(flow, topic) not in self.agents:
                    msg = (
                        f"flow {flow.name} registered no agent called {flow.name} for {topic.name}"
                    )
                    raise DefinitionError(msg)


def _agent_name(flow: Flow, topic: Topic) -> str:
    """Return the name of a flow's agent of a topic: Faust has one agent a name."""
    return flow.name if len(flow.reads) == 1 else f"{flow.name} of {topic.name}"
