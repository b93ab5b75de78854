"""The driver: the production topology, agents, engine and RocksDB, on a broker in memory.

    with Driver(TOPOLOGY, settings) as driver:
        driver.crash_at(Step.COMMIT_BEFORE_DISK)
        driver.pipe(ORDERS, records)
        driver.restart()
        assert driver.read(VIP_UPGRADES) == [...]

Everything is what a worker process runs, save Kafka itself (streams/memory.py) and the process: a
crash cuts the worker off from the broker in the midst of the step and drops all that it had in memory.
"""

import asyncio
import itertools
import shutil
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from streams.app import Worker, WorkerSettings
from streams.engine import failpoints
from streams.engine.clock import SystemClock
from streams.engine.definitions import Table, Topic, Topology
from streams.engine.engine import Engine
from streams.engine.failpoints import InjectedFailureError, Step
from streams.engine.layout import own_topics
from streams.engine.meters import Meters
from streams.engine.records import Record, TopicPartition
from streams.engine.store import GLOBAL_FOLDER, Position, Store, StoreMemory
from streams.engine.task import State, Task
from streams.memory import MemoryKafka
from streams.memory_cluster import MemoryCluster

T = TypeVar("T")
_DEADLINE_S = 20.0


class CrashedError(BaseException):
    """A worker of the driver was killed at a failpoint."""


class Sent(NamedTuple):
    """A record as a read_committed reader sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class _Running(NamedTuple):
    worker: Worker
    cluster: MemoryCluster


class Driver:
    """Runs workers of a topology without a broker. Not for use by several threads."""

    def __init__(
        self,
        topology: Topology,
        settings: WorkerSettings,
        *,
        partitions: int = 2,
        workers: int = 1,
        **engine_options: Any,
    ) -> None:
        self.topology = topology.of(settings.app_id)
        self.settings = settings
        self.partitions = partitions
        self._runner = asyncio.Runner()
        self._clock = SystemClock()
        self._engine_options = engine_options
        self._memory = StoreMemory(block_cache_bytes=1 << 20, write_buffer_bytes=4 << 20)
        self._workers: list[_Running] = []
        self._folders: dict[Path, None] = {settings.data_dir / settings.app_id: None}
        self._read: dict[str, int] = {}
        self._wanted = workers
        self.crashes = 0
        """How many workers were killed so far."""
        self.struck: list[Step] = []
        """The steps at which an armed crash or failure happened."""
        self.kafka = self._do(self._make_kafka())

    def __enter__(self) -> Self:
        try:
            for _ in range(self._wanted):
                self.start_worker()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        failpoints.disarm()
        try:
            while self._workers:
                self._do(self._kill(self._workers[-1]))
        finally:
            self._runner.close()

    # -- input and output ------------------------------------------------------------------------

    def pipe(
        self,
        topic: Topic,
        records: Iterable[tuple[bytes | None, bytes | None]],
        *,
        partition: int = 0,
        timestamp_ms: int | None = None,
        settle: bool = True,
    ) -> None:
        """Append (key, value) records to a topic's partition, and let the workers finish them."""
        now_ms = self._clock.wall_ms() if timestamp_ms is None else timestamp_ms
        for key, value in records:
            tp = TopicPartition(topic.of(self.settings.app_id).name, partition)
            self.kafka.append(tp, Record(key, value), now_ms)
        if settle:
            self.settle()

    def cut_input(self, run_lengths: Iterable[int]) -> None:
        """Cut the input into runs of these lengths from now on, repeated as long as there is input."""
        lengths = list(run_lengths)
        self.kafka.run_lengths = (
            itertools.cycle(lengths) if lengths else itertools.repeat(1_000_000)
        )

    def delay_answers(self, turns: Iterable[int]) -> None:
        """Let Kafka's answers take so many turns of the event loop each from now on, repeated."""
        self.kafka.delays = itertools.cycle(list(turns) or [1])

    def settle(self) -> None:
        """Run until all input is processed and committed, or the last worker has crashed.

        Raises what stopped a worker, if that was no crash.
        """
        self._do(self._settle())

    def sent(self, topic: str) -> list[Sent]:
        """Return all that a read_committed reader finds in a topic, by partition and offset."""
        found = []
        for partition in range(self.partitions):
            tp = TopicPartition(topic, partition)
            run = self.kafka.read(tp, 0, 1_000_000_000)
            for offset in run.offsets if run else ():
                record = self.kafka.logs[tp][offset].record
                assert record is not None  # noqa: S101 - control records are not read
                headers = tuple(record.headers)
                found.append(Sent(partition, offset, record.key, record.value, headers))
        return found

    def read(self, topic: Topic | str) -> list[Sent]:
        """Return what a read_committed reader finds in a topic that `read` has not returned before."""
        name = topic if isinstance(topic, str) else topic.of(self.settings.app_id).name
        found = self.sent(name)
        start = self._read.get(name, 0)
        self._read[name] = len(found)
        return found[start:]

    def changelog(self, table: Table[Any]) -> dict[str, bytes]:
        """Return the fold of a table's changelog: what a rebuilt table would hold."""
        rows: dict[str, bytes] = {}
        for record in self.sent(table.changelog(self.settings.app_id)):
            key = (record.key or b"").decode()
            if record.value is None:
                rows.pop(key, None)
            else:
                rows[key] = record.value
        return rows

    def table(self, table: Table[T]) -> dict[str, T]:
        """Return a table's committed rows as the running workers' stores have them."""
        return {
            key: table.decode(value)
            for worker, _ in self._workers
            if worker.engine is not None
            for task in worker.engine.tasks.values()
            if task.store is not None
            for key, value in task.store.scan(table.name)
        }

    def stored(self, table: Table[T]) -> dict[str, T]:
        """Return a table's rows as they lie on disk; no worker may run.

        Of a task that lies on several disks, those of the newest commit.
        """
        newest: dict[str, tuple[int, dict[str, T]]] = {}
        paths = sorted(path for folder in self._folders for path in _paths(folder))
        for path in paths:
            if path.name == GLOBAL_FOLDER:
                continue
            store = Store(path, self._memory)
            position = store.position() or Position(partitions=0)
            stands_at = sum(position.sources.values())
            if stands_at >= newest.get(path.name, (0, {}))[0]:
                rows = {key: table.decode(value) for key, value in store.scan(table.name)}
                newest[path.name] = stands_at, rows
            store.close()
        return {key: row for _, rows in newest.values() for key, row in rows.items()}

    def followed(self) -> list[tuple[str, Store]]:
        """Return id and store of each task that a running worker follows, as far as it is open."""
        engines = [r.worker.engine for r in self._workers if not r.cluster.is_cut]
        return [pair for engine in engines if engine for pair in engine.standbys.stores()]

    # -- faults ----------------------------------------------------------------------------------

    def crash_at(self, step: Step, visit: int = 1) -> None:
        """Kill the worker that reaches a step for the `visit`-th time from now."""
        failpoints.arm(step, failpoints.on_visit(visit, self._crash))

    def fail_at(self, step: Step, visit: int = 1) -> None:
        """Make a step fail with an ordinary error at the `visit`-th time from now."""
        failpoints.arm(step, failpoints.on_visit(visit, self._fail))

    def _crash(self, step: Step) -> None:
        name = step.value
        victim = next((r for r in self._workers if self._reached(r)), self._workers[0])
        victim.cluster.cut()
        self.crashes += 1
        self.struck.append(step)
        raise CrashedError(name)

    def _fail(self, step: Step) -> None:
        name = step.value
        self.struck.append(step)
        raise InjectedFailureError(name)

    @staticmethod
    def _reached(running: _Running) -> bool:
        """Tell whether the step that runs now belongs to this worker."""
        return running.cluster.is_current()

    # -- workers ---------------------------------------------------------------------------------

    def start_worker(self, settings: WorkerSettings | None = None) -> None:
        """Start one more worker, which joins the group; with settings of its own, if it has some."""
        self._do(self._start(settings or self.settings))

    def stop_worker(self, index: int = 0) -> None:
        """Stop a worker as SIGTERM does."""
        self._do(self._stop(self._workers[index]))

    def kill_worker(self, index: int = 0) -> None:
        """Kill a worker as kill -9 does; the group notices."""
        self._do(self._kill(self._workers[index]))

    def evict_worker(self, index: int = 0) -> None:
        """Let the group believe that a worker is gone, which does not know it: a zombie."""
        group = self.kafka.group(self.settings.app_id)
        self._do(group.evict(self._workers[index].cluster))

    def lose_disk(self) -> None:
        """Delete all local state; no worker may run."""
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def tasks(self) -> dict[str, Task]:
        """Return the tasks that running workers own, by id."""
        engines = [r.worker.engine for r in self._workers if not r.cluster.is_cut]
        return {id_: t for engine in engines if engine for id_, t in engine.tasks.items()}

    def meters(self) -> list[Meters]:
        """Return what the workers that run, or crashed and were not removed yet, count."""
        return [running.worker.meters for running in self._workers]

    def restart(self, *, settle: bool = True) -> None:
        """Kill what still runs and start as many workers as there were; then settle."""
        failpoints.disarm()
        for running in list(self._workers):
            self._do(self._kill(running))
        for _ in range(self._wanted):
            self.start_worker()
        if settle:
            self.settle()

    @property
    def workers(self) -> int:
        """Return how many workers run."""
        return sum(not running.cluster.is_cut for running in self._workers)

    @property
    def workers_started(self) -> int:
        """Return how many workers were started and neither stopped nor removed after a crash."""
        return len(self._workers)

    # -- inside ----------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _make_kafka(self) -> MemoryKafka:
        kafka = MemoryKafka()
        for topic in self.topology.inputs:
            kafka.create_topic(topic.name, self.partitions)
        for name in own_topics(self.topology, self.settings.app_id):
            kafka.create_topic(name, self.partitions)
        return kafka

    async def _start(self, settings: WorkerSettings) -> None:
        self._folders[settings.data_dir / settings.app_id] = None
        cluster = MemoryCluster(self.kafka, self.settings.app_id, self._clock.wall_ms)
        worker = Worker(
            self.topology,
            settings,
            cluster,
            partitions=self.partitions,
            memory=self._memory,
            **self._engine_options,
        )
        running = _Running(worker, cluster)
        self._workers.append(running)
        cluster.enter()
        await worker.start()
        await self._until(lambda: self._is_up(running))
        if worker.engine is None and worker.app.failure is not None:
            raise worker.app.failure

    @staticmethod
    def _is_up(running: _Running) -> bool:
        engine = running.worker.engine
        if engine is None and running.worker.app.failure is not None:
            return True
        return running.cluster.is_cut or (
            engine is not None and (engine.failed.done() or engine.is_member)
        )

    async def _stop(self, running: _Running) -> None:
        running.cluster.enter()
        try:
            await running.worker.app.stop()
        except CrashedError:
            await self._kill(running)
        else:
            self._workers.remove(running)

    async def _kill(self, running: _Running) -> None:
        if not running.cluster.is_cut:
            running.cluster.cut()
            self.crashes += 1
        self._workers.remove(running)
        running.worker.app.before_stop = None
        if running.worker.engine is not None:
            await running.worker.engine.crash()
        await running.worker.app.stop()
        if self._workers:
            await self.kafka.group(self.settings.app_id).rejoin()

    async def _settle(self) -> None:
        await self._until(lambda: self._is_settled() or self._has_lost_one())
        while self._has_lost_one():  # the group notices, as it does by a session time-out
            await self._kill(next(r for r in self._workers if r.cluster.is_cut))
            await self._until(lambda: self._is_settled() or self._has_lost_one())
        for running in self._workers:
            engine = running.worker.engine
            if not running.cluster.is_cut and engine is not None and engine.failed.done():
                await engine.failed

    def _has_lost_one(self) -> bool:
        return 0 < self.workers < len(self._workers)

    def _is_settled(self) -> bool:
        alive = [running.worker.engine for running in self._workers if not running.cluster.is_cut]
        if not alive or any(engine is not None and engine.failed.done() for engine in alive):
            return True
        group = self.settings.app_id
        for topic in self.topology.inputs:
            for partition in range(self.partitions):
                tp = TopicPartition(topic.name, partition)
                committed = self.kafka.offsets.get((group, tp))
                if (committed.offset if committed else 0) < self.kafka.stable_end(tp):
                    return False
        # Restoring, and a commit's write to disk, are nothing that the broker knows of.
        return all(
            task.state is State.RUNNING and task.commit is None and not _fires(task)
            for engine in alive
            if engine is not None
            for task in engine.tasks.values()
        ) and all(engine is None or self._is_level(engine) for engine in alive)

    def _is_level(self, engine: Engine) -> bool:
        """Tell whether a worker has read to their ends the tasks that it follows, and global tables."""
        if not engine.standbys.are_open() or engine.global_tables.missing():
            return False
        positions = engine.standbys.positions() | engine.global_tables.positions()
        return all(at >= self.kafka.stable_end(tp) for tp, at in positions.items())

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline_s = self._clock.monotonic_s() + _DEADLINE_S
        while not condition():
            if self._clock.monotonic_s() > deadline_s:
                msg = f"the driver's workers did not settle within {_DEADLINE_S:g} s"
                raise TimeoutError(msg)
            await self.kafka.wait_for_news(0.002)


def _fires(task: Task) -> bool:
    """Tell whether rows are still due, or were fired and are not committed."""
    return task.has_due() or any(part.has_expired for part in task.timed_parts())


def _paths(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def records_of(events: Iterable[Any]) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Yield (key, value) of dicts that are orders' or users' events, as a producer would send them."""
    import json  # noqa: PLC0415 - only tests that write dicts need it

    for event in events:
        yield event["data"]["user_id"].encode(), json.dumps(event).encode()
