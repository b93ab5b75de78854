"""Workers with their web views, in this process, on the broker in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from config.settings import load_settings
from streams.app import Worker
from streams.engine.cluster import Bounds
from streams.engine.layout import own_topics
from streams.engine.records import Record, Run, TopicPartition
from streams.engine.store import StoreMemory
from streams.engine.task import State
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster
from streams.topology import TOPOLOGY
from tables.web.server import WebView
from tests.flows.stories import NOW_MS, KeyValue
from tests.waiting import until_true

APP_ID = "web"
PARTITIONS = 4


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class SlowCluster(MemoryCluster):
    """A connection that is not there, and whose restores wait, until they are let go."""

    connects: asyncio.Event | None = None
    restores: asyncio.Event | None = None

    async def start(self) -> None:
        if self.connects is not None:
            await self.connects.wait()

    async def read(self, partition: TopicPartition, bounds: Bounds) -> AsyncIterator[Run]:
        if self.restores is not None:
            await self.restores.wait()
        async for run in super().read(partition, bounds):
            yield run


class Application:
    """An application of some workers; each has a data folder of its own."""

    def __init__(self, folder: Path, partitions: int = PARTITIONS) -> None:
        self.folder = folder
        self.partitions = partitions
        self.kafka = MemoryKafka()
        self.workers: list[Worker] = []
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        for name in [*(t.name for t in TOPOLOGY.inputs), *own_topics(TOPOLOGY, APP_ID)]:
            self.kafka.create_topic(name, partitions)

    async def start(
        self,
        *,
        host: str = "127.0.0.1",
        connects: asyncio.Event | None = None,
        restores: asyncio.Event | None = None,
    ) -> str:
        """Start a worker that joins the group; return its address once the group has it."""
        settings = load_settings(
            app_id=APP_ID, data_dir=self.folder / f"{len(self.workers)}", commit_interval_ms=5
        )
        cluster = SlowCluster(self.kafka, APP_ID, lambda: NOW_MS)
        cluster.connects, cluster.restores = connects, restores
        web = WebView(APP_ID, host, 0, ["127.0.0.1:9092"])
        worker = Worker(
            TOPOLOGY,
            settings,
            cluster,
            partitions=self.partitions,
            memory=StoreMemory(block_cache_bytes=1 << 20, write_buffer_bytes=4 << 20),
            web=web,
        )
        self.workers.append(worker)
        cluster.enter()
        await worker.start()
        await until_true(lambda: worker.engine is not None and worker.engine.is_member)
        return web.address

    async def run(self, partition: int, records: Iterable[KeyValue], topic: str = "orders") -> None:
        """Have records of a partition processed and committed."""
        tp = TopicPartition(topic, partition)
        for key, value in records:
            self.kafka.append(tp, Record(key, value), NOW_MS)

        def is_done() -> bool:
            offset = self.kafka.offsets.get((APP_ID, tp))
            return offset is not None and offset.offset >= self.kafka.stable_end(tp)

        await until_true(is_done)
        await self.settled()

    async def settled(self) -> None:
        """Return when every task runs, and what it has committed is on its disk."""
        await until_true(
            lambda: (
                len(self.tasks()) == self.partitions
                and all(
                    t.state is State.RUNNING and t.commit is None for t in self.tasks().values()
                )
            )
        )

    def tasks(self) -> dict[str, Any]:
        """Return the tasks of all workers that live."""
        return {
            id_: task
            for worker in self.workers
            if worker.engine is not None and not self._cluster(worker).is_cut
            for id_, task in worker.engine.tasks.items()
        }

    def owner(self, task: str) -> str:
        """Return the address of the worker that has a task."""
        return next(
            w.web.address for w in self.workers if w.web and w.engine and task in w.engine.tasks
        )

    async def kill(self, address: str) -> None:
        """Kill a worker as kill -9 does: its port is closed, and the group does not know it yet."""
        worker = next(w for w in self.workers if w.web and w.web.address == address)
        self._cluster(worker).cut()
        worker.app.before_stop = None
        assert worker.engine is not None
        assert worker.web is not None
        await worker.engine.crash()
        await worker.web.stop()
        await worker.app.stop()

    async def notice(self) -> None:
        """Let the group notice who is gone."""
        await self.kafka.group(APP_ID).rejoin()

    async def ask(self, address: str, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask a worker; the path is sent as it stands."""
        url = URL(f"http://{address}{path}", encoded=True)
        async with self._session.request(method, url, headers=headers) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def stop(self) -> None:
        await self._session.close()
        for worker in self.workers:
            if not self._cluster(worker).is_cut:
                await worker.app.stop()

    @staticmethod
    def _cluster(worker: Worker) -> SlowCluster:
        assert isinstance(worker.cluster, SlowCluster)
        return worker.cluster


@asynccontextmanager
async def application(folder: Path, workers: int = 2) -> AsyncIterator[Application]:
    """Run an application with so many workers."""
    running = Application(folder)
    try:
        for _ in range(workers):
            await running.start()
        await running.settled()
        yield running
    finally:
        await running.stop()
