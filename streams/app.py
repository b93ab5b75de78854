"""The only wiring: settings, topology, Kafka, engine and Faust's app made into one worker."""

import asyncio
import dataclasses
import gc
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from config.kafka_client import kafka_client_options
from config.settings import Settings
from streams.engine import failpoints
from streams.engine.cluster import Cluster
from streams.engine.config import EngineConfig
from streams.engine.definitions import Topology
from streams.engine.engine import Engine
from streams.engine.faust_app import App
from streams.engine.kafka import KafkaCluster, KafkaOptions
from streams.engine.layout import subtopologies
from streams.engine.meters import Meters
from streams.engine.metrics import BUILD_INFO
from streams.engine.store import StoreMemory, ensure_writable
from streams.prepare import prepare_topics
from streams.topology import TOPOLOGY
from tables.web.server import WebView


class WorkerSettings(Protocol):
    """What the wiring itself reads of the application's settings; agents read theirs."""

    @property
    def app_id(self) -> str: ...
    @property
    def data_dir(self) -> Path: ...
    @property
    def exactly_once(self) -> bool: ...
    @property
    def commit_interval_ms(self) -> int: ...
    @property
    def max_ahead_ms(self) -> int: ...
    @property
    def idle_timeout_ms(self) -> int | None: ...
    @property
    def kafka_rebalance_timeout_ms(self) -> int: ...
    @property
    def standby_replicas(self) -> int: ...


class Worker:
    """One worker: a Faust app whose agents are fed by an engine. `app` is what Faust starts.

    `when_connected` is called with the number of partitions before the worker joins the group.
    """

    def __init__(
        self,
        topology: Topology,
        settings: WorkerSettings,
        cluster: Cluster,
        *,
        partitions: int | Callable[[], Awaitable[int]],
        memory: StoreMemory | None = None,
        web: WebView | None = None,
        **engine_options: Any,
    ) -> None:
        """`partitions` is every topic's number of them, or makes the topics and tells it."""
        topology = topology.of(settings.app_id)
        subtopologies(topology)  # what cannot be is refused before anything starts
        self.cluster = cluster
        self.config = EngineConfig(
            application_id=settings.app_id,
            data_dir=settings.data_dir,
            exactly_once=settings.exactly_once,
            commit_interval_ms=settings.commit_interval_ms,
            max_ahead_ms=settings.max_ahead_ms,
            idle_timeout_ms=settings.idle_timeout_ms,
            rebalance_timeout_ms=settings.kafka_rebalance_timeout_ms,
            standby_replicas=settings.standby_replicas,
            **engine_options,
        )
        self.topology = topology
        self.memory = memory
        guarantee = "exactly_once" if settings.exactly_once else "at_least_once"
        self.meters = Meters()
        self.meters.watch(
            lambda: [(BUILD_INFO, (version("headrace"), settings.app_id, guarantee), 1)]
        )
        self.web = web
        self.engine: Engine | None = None
        self.app = App(topology, settings.app_id, settings, datadir=str(settings.data_dir))
        self.app.before_start = self._connect
        self.app.when_agents_ready = self._start_engine
        self.app.before_stop = self._stop_engine
        self.when_connected: Callable[[int], None] = _nothing_to_tell
        self._partitions = partitions

    async def start(self) -> None:
        """Start the app. Raises what kept it from starting: an agent's failure, by its name."""
        try:
            await self.app.start()
        except Exception as error:
            raise self.app.failure or error from error

    async def _connect(self) -> None:
        """Reach Kafka and have the topics; what fails here fails the start, in one line."""
        # Now, not with the first task: a worker that joins takes tasks from those that can do them.
        ensure_writable(self.config.data_dir)
        if self.web is not None:  # the group is told where it is
            self.config = dataclasses.replace(self.config, web_address=self.web.listen())
            await self.web.answer(self.meters)
        if callable(self._partitions):
            self._partitions = await self._partitions()
        await self.cluster.start()
        self.when_connected(self._partitions)

    async def _start_engine(self) -> None:
        """Begin to work: called when every agent waits for its first batch."""
        assert isinstance(self._partitions, int)  # noqa: S101 - _connect has seen to it
        await self.app.open_lanes({t.name: self._partitions for t in self.topology.inputs})
        self.engine = engine = Engine(
            self.topology,
            self.cluster,
            self.config,
            self.app.deliver,
            partitions=self._partitions,
            memory=self.memory,
            meters=self.meters,
        )
        self.app.agent_error = engine.fail
        engine.failed.add_done_callback(self._engine_failed)
        if self.web is not None:
            self.web.serve(engine)
        await engine.start()

    def _engine_failed(self, failed: "asyncio.Future[None]") -> None:
        if not failed.cancelled() and (error := failed.exception()) is not None:
            self._crashing = asyncio.ensure_future(self.app.crash(error))

    async def _stop_engine(self) -> None:
        try:
            if self.engine is not None:
                await self.engine.stop()
            await self.cluster.stop()
        finally:
            if self.web is not None:
                await self.web.stop()


def _nothing_to_tell(_partitions: int) -> None:
    """Nobody listens."""


def create_worker(
    settings: Settings, topology: Topology = TOPOLOGY, *, reset: bool = False
) -> Worker:
    """Return a worker on the Kafka that the settings name. Raises HeadraceError in one line.

    `reset`: where a committed offset is of no use any more, it goes on with what the input holds.
    """
    topology = topology.of(settings.app_id)
    client = kafka_client_options(settings)
    options = KafkaOptions(
        client=client,
        group=settings.app_id,
        compression=settings.compression_type,
        session_timeout_ms=settings.kafka_session_timeout_ms,
        heartbeat_interval_ms=settings.kafka_heartbeat_interval_ms,
        rebalance_timeout_ms=settings.kafka_rebalance_timeout_ms,
        instance_id=settings.instance_id,
    )
    topics = partial(
        prepare_topics,
        topology,
        client,
        application_id=settings.app_id,
        default_partitions=settings.partitions,
        replication_factor=settings.kafka_replication_factor,
        create=settings.kafka_auto_create_topics,
    )
    web = WebView(settings.app_id, settings.web_host, settings.web_port, settings.kafka_brokers)
    return Worker(
        topology, settings, KafkaCluster(options), partitions=topics, web=web, reset=reset
    )


async def serve(worker: Worker, until: asyncio.Event, environment: "dict[str, str]") -> None:
    """Run a worker until `until` is set, then commit and leave. Raises what made it fail."""
    failpoints.arm_from_environment(environment)
    tune_collector()
    app = worker.app
    crashed = asyncio.ensure_future(app.wait_until_stopped())
    stop = asyncio.ensure_future(until.wait())
    try:
        await worker.start()
        await asyncio.wait({crashed, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in (crashed, stop):
            waiting.cancel()
        await app.stop()
    if worker.engine is not None and worker.engine.failed.done():
        await worker.engine.failed
    if app.failure is not None:
        raise app.failure


def tune_collector() -> None:
    """Spare the garbage collector long walks over millions of live rows (decision 0005)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
