"""The only wiring: settings, topology, Kafka, engine and Faust's app made into one worker."""

import asyncio
import gc
import logging
from pathlib import Path
from typing import Any, Protocol

from streams.engine.cluster import Cluster
from streams.engine.config import EngineConfig
from streams.engine.definitions import Topology
from streams.engine.engine import Engine
from streams.engine.faust_app import App
from streams.engine.layout import subtopologies
from streams.engine.store import StoreMemory

log = logging.getLogger(__name__)


class Settings(Protocol):
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
    def kafka_rebalance_timeout_ms(self) -> int: ...


class Worker:
    """One worker: a Faust app whose agents are fed by an engine.

    `app` is what Faust's own Worker runs. The topics must exist; `partitions` is their number.
    """

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        cluster: Cluster,
        *,
        partitions: int,
        memory: StoreMemory | None = None,
        **engine_options: Any,
    ) -> None:
        subtopologies(topology)  # what cannot be is refused before anything starts
        self.cluster = cluster
        self.partitions = partitions
        self.config = EngineConfig(
            application_id=settings.app_id,
            data_dir=settings.data_dir,
            exactly_once=settings.exactly_once,
            commit_interval_ms=settings.commit_interval_ms,
            max_ahead_ms=settings.max_ahead_ms,
            rebalance_timeout_ms=settings.kafka_rebalance_timeout_ms,
            **engine_options,
        )
        self.topology = topology
        self.memory = memory
        self.engine: Engine | None = None
        self.app = App(topology, settings.app_id, settings)
        self.app.when_agents_ready = self._start_engine
        self.app.before_stop = self._stop_engine

    async def _start_engine(self) -> None:
        """Begin to work: called when every agent waits for its first batch."""
        await self.app.open_lanes({t.name: self.partitions for t in self.topology.inputs})
        self.engine = engine = Engine(
            self.topology,
            self.cluster,
            self.config,
            self.app.deliver,
            partitions=self.partitions,
            memory=self.memory,
        )
        self.app.agent_error = engine.fail
        engine.failed.add_done_callback(self._engine_failed)
        await engine.start()

    def _engine_failed(self, failed: "asyncio.Future[None]") -> None:
        if not failed.cancelled() and (error := failed.exception()) is not None:
            self._crashing = asyncio.ensure_future(self.app.crash(error))

    async def _stop_engine(self) -> None:
        if self.engine is not None:
            await self.engine.stop()


def tune_collector() -> None:
    """Spare the garbage collector long walks over millions of live rows: worth 10 % (decision 0005)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
