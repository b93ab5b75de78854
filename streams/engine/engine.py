"""The engine of one worker: takes the tasks it is assigned, feeds them, commits them, hands them over.

One loop processes (`_run`); commits and the taking of tasks run beside it as asyncio tasks of the
same thread. The group's callbacks only record what is assigned: no heartbeat leaves while they run,
and a 14 s callback once made two owners (decision 0003).
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Final

from streams.engine import counting
from streams.engine.assignor import TaskGrouping
from streams.engine.beside import Beside
from streams.engine.clock import Clock, SystemClock
from streams.engine.closing import fire_due, is_quiet, pass_idle_time
from streams.engine.cluster import Cluster, Owner, Source
from streams.engine.committing import start_commit, why_failed
from streams.engine.config import EngineConfig
from streams.engine.copies import Copies
from streams.engine.definitions import Topology
from streams.engine.errors import (
    GlobalTableDamagedError,
    KafkaUnavailableError,
    OwnershipError,
    StoreCorruptError,
)
from streams.engine.failpoints import Step, reach
from streams.engine.following import Standbys
from streams.engine.gauges import readings
from streams.engine.giving_up import RETRIED, text_of
from streams.engine.global_tables import GlobalTables
from streams.engine.inputs import watch_inputs
from streams.engine.layout import Subtopology, subtopologies
from streams.engine.letting_go import abort_all, close_task, commit_last
from streams.engine.meters import Meters, Reading
from streams.engine.metrics import (
    CONSUMER_ERRORS,
    CONSUMER_MESSAGES,
    GLOBAL_LAG,
    LOOP_AGE,
    REBALANCES,
    STANDBY_LAG,
    STORE_MEMORY,
)
from streams.engine.pace import Pace
from streams.engine.processing import Deliver, OvertakenError, process, process_together
from streams.engine.purging import Purging
from streams.engine.records import TopicPartition
from streams.engine.store import StoreMemory
from streams.engine.taking import use
from streams.engine.takings import Takings
from streams.engine.task import State, Task
from streams.errors import AccessDeniedError

log = logging.getLogger(__name__)

_LONGEST_WAIT_S: Final = 0.1


class Engine:
    """Exactly-once processing of a topology's tasks, as one member of its consumer group."""

    def __init__(
        self,
        topology: Topology,
        cluster: Cluster,
        config: EngineConfig,
        deliver: Deliver,
        *,
        partitions: int,
        clock: Clock | None = None,
        memory: StoreMemory | None = None,
        meters: Meters | None = None,
    ) -> None:
        """`partitions` is the number that every input has; `deliver` hands a batch to its agents."""
        self.topology = topology
        self.config = config
        self.cluster = cluster
        self.clock = clock or SystemClock()
        self.partitions = partitions
        self.meters = meters or Meters()
        self.tasks: dict[str, Task] = {}
        counting.begin_at_zero(self.meters, topology, config.application_id)
        self.meters.watch(self._readings)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the error that stopped the engine; never a result."""
        self.turned_s = self.clock.monotonic_s()
        """When the loop last turned: as long as it works, that is a moment ago."""
        self._deliver = deliver
        self._memory = memory or StoreMemory()
        self._subtopologies = subtopologies(topology)
        self._source: Source | None = None
        self._grouping: TaskGrouping | None = None
        self._owners: dict[TopicPartition, Task] = {}
        self._assigned = asyncio.Event()
        self._turn = asyncio.Lock()
        self._handing_over = asyncio.Lock()
        self._leaving = False
        self._beside = Beside(self.fail)
        self.global_tables = GlobalTables(
            topology,
            partitions,
            cluster=cluster,
            config=config,
            clock=self.clock,
            memory=self._memory,
        )
        self._takings = Takings(
            self._memory,
            partitions,
            beside=self._beside,
            turn=self._turn,
            taken=self._taken,
            restored=self.global_tables.restored,
        )
        self._purging = Purging(cluster, config, self._beside)
        self._pace = Pace(config, self.clock)
        self._loop: asyncio.Task[None] | None = None
        self._is_member = False
        self.standbys = Standbys(
            self._subtopologies,
            partitions,
            cluster=cluster,
            config=config,
            clock=self.clock,
            memory=self._memory,
            is_busy=self._is_busy,
        )
        self._copies = Copies(config, self.standbys)

    @property
    def is_member(self) -> bool:
        """Tell whether the group has assigned tasks to this worker, or told it that there are none."""
        return self._is_member

    @property
    def owners(self) -> Sequence[Owner]:
        """Return who owns which task in the whole group, as its leader told last; nothing before that."""
        return () if self._grouping is None else self._grouping.owners

    @property
    def is_turning(self) -> bool:
        """Tell whether the loop has begun and has not been ended."""
        return self._loop is not None

    @property
    def is_leaving(self) -> bool:
        """Tell whether everything is handed over, for good."""
        return self._leaving

    @property
    def why_stopped(self) -> str:
        """Return the error that stopped the engine; empty as long as it works."""
        error = self.failed.exception() if self.failed.done() else None
        return "" if error is None else text_of(error)

    def _readings(self) -> Iterator[Reading]:
        now_s = self.clock.monotonic_s()
        yield LOOP_AGE, (), now_s - self.turned_s
        yield from readings(list(self.tasks.values()), self._source, now_s)
        yield from ((STANDBY_LAG, (id_,), lag) for id_, lag in self.standbys.lags().items())
        yield from ((GLOBAL_LAG, (name,), lag) for name, lag in self.global_tables.lags().items())
        yield from ((STORE_MEMORY, (part,), b) for part, b in self._memory.used_bytes().items())

    # -- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the group and begin to work. Raises HeadraceError where Kafka is not there."""
        replicas = self.config.standby_replicas
        tell = partial(self._copies.tell, self.tasks)
        self._grouping = TaskGrouping(self._subtopologies, self.partitions, tell, replicas)
        self._copies.look()
        if replicas:
            self._beside.start(self.standbys.run(), "standbys")
        if self.global_tables.parts:
            self._beside.start(self.global_tables.run(), "global tables")
        topics = sorted({t.name for s in self._subtopologies for t in s.inputs})
        self._source = self.cluster.source(topics, self, self._grouping)
        await self._source.start()
        watch = watch_inputs(self.cluster, topics, self.tasks.values, self.partitions)
        self._beside.start(watch, "watching the inputs")
        self._loop = self._beside.start(self._run(self._source), "engine")

    async def stop(self) -> None:
        """Finish the batch, commit, let go of everything and leave the group."""
        self._leaving = True
        loop, self._loop = self._loop, None
        ended_by: BaseException | None = None
        try:
            if loop is not None and not self.failed.done():
                await self._hand_over(close=True)
        except Exception as error:
            ended_by = error
            raise
        finally:
            if self.failed.done():
                ended_by = self.failed.exception()
            if loop is not None and self._source is not None:
                self._beside.call_off(loop)
                if ended_by is not None:
                    await self._takings.call_off()
                    # Who is denied a right is refused the end of its transactions, too: they time out.
                    if not isinstance(ended_by, AccessDeniedError):
                        await abort_all(self.tasks.values())
                await self._source.stop()
            await self._end_everything()

    async def crash(self) -> None:
        """End at once, as a killed process does: commit nothing, tell nobody (tests)."""
        await self._end_everything()

    async def _end_everything(self) -> None:
        for owned in self.tasks.values():
            owned.state = State.SUSPENDED  # a commit that is called off begins nothing anew
        await self._beside.end()
        for owned in self.tasks.values():
            owned.close()
        self.standbys.close()
        self.global_tables.close()
        self.tasks.clear()
        self._owners.clear()

    def fail(self, error: BaseException) -> None:
        """Stop the worker because of `error`: nothing more is processed or committed."""
        if not self.failed.done():
            self.failed.set_exception(error)
        for task in self.tasks.values():
            task.state = State.SUSPENDED

    # -- assignment (called by the group; see cluster.Listener) -------------------------------------

    async def on_revoked(self) -> None:
        """Commit what is done. Stores stay open: mostly the same tasks come back."""
        try:
            await self._hand_over(close=False)
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it
            self.fail(error)

    async def on_assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of tasks that went elsewhere, and begin to take those that are here."""
        try:
            self._adopt(partitions)
        except Exception as error:  # noqa: BLE001 - aiokafka would only log it
            self.fail(error)

    def _adopt(self, partitions: Collection[TopicPartition]) -> None:
        if self._leaving or self.failed.done():  # the group hears of it in a moment
            return
        wanted = dict(map(self._task_of, partitions))
        source, grouping = self._source, self._grouping
        assert source is not None and grouping is not None  # noqa: S101, PT018 - assignments come by them
        followed = grouping.standbys
        for task_id in self.tasks.keys() - wanted.keys():
            self._copies.let_go(self.tasks.pop(task_id), followed)
            reach(Step.REVOKE_AFTER_CLOSE)
        self._owners.clear()
        self._is_member = True
        self.meters.add(REBALANCES, 1)
        for task_id, (subtopology, partition) in wanted.items():
            if task_id not in self.tasks:
                self.tasks[task_id] = Task(
                    subtopology,
                    partition,
                    config=self.config,
                    cluster=self.cluster,
                    clock=self.clock,
                    dead_letters_topic=self.topology.dead_letters,
                    late_records_topic=self.topology.late_records,
                    meters=self.meters,
                    global_parts=self.global_tables.parts,
                )
                if (store := self._copies.release(task_id)) is not None:
                    use(self.tasks[task_id], store)
            task = self.tasks[task_id]
            self._owners |= dict.fromkeys(task.inputs, task)
            self._takings.begin(task, source)
        self._copies.follow(followed)
        if grouping.has_other_address(self.config.web_address, wanted.keys()):
            log.info("the group has another address of this worker: it is told anew")
            source.rejoin()

    def _task_of(self, tp: TopicPartition) -> tuple[str, tuple[Subtopology, int]]:
        subtopology = next(s for s in self._subtopologies if tp.topic in {t.name for t in s.inputs})
        return subtopology.task_id(tp.partition), (subtopology, tp.partition)

    async def _hand_over(self, *, close: bool) -> None:
        """Finish the batch in work, commit every task within the time that a hand-over has."""
        async with self._handing_over:  # a stop in the midst of a revocation waits for its commits
            async with self._turn:
                running = [t for t in self.tasks.values() if t.state is State.RUNNING]
                for task in running:
                    task.state = State.SUSPENDED
            # Only now: a commit that failed while the batch was waited for began to take its task anew.
            await self._takings.call_off()
            reach(Step.REVOKE_BEFORE_COMMIT)
            await commit_last(running)
            reach(Step.REVOKE_AFTER_COMMIT)
            if close:
                for task in self.tasks.values():
                    await close_task(task)

    def _taken(self, task: Task) -> None:
        """Hear that a task runs from now on."""
        task.commit_due_s = self._pace.first_due_s(task.partition, len(self.tasks))
        self._assigned.set()

    # -- work -------------------------------------------------------------------------------------

    async def _run(self, source: Source) -> None:
        """Fetch, process, commit; until cancelled."""
        while not self.failed.done():
            self.turned_s = self.clock.monotonic_s()
            working = {tp: t for tp, t in self._owners.items() if self._may_work(t)}
            ready = [tp for tp, task in working.items() if task.wants(tp)]
            if ready:
                await self._fetch(source, ready)
            elif not working:
                await self._idle(source)
            for task in list(self.tasks.values()):
                await self._work(task, source)
            self._start_due_commits(source)

    async def _idle(self, source: Source) -> None:
        """Wait for work. Nothing is fetched meanwhile, so nobody else asks how the group fares."""
        self._assigned.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_WAIT_S / 5):
                await self._assigned.wait()
        try:
            source.check()
        except KafkaUnavailableError as error:
            self.meters.add(CONSUMER_ERRORS, 1)
            log.warning("the group: %s; trying again", text_of(error))
            await asyncio.sleep(_LONGEST_WAIT_S)

    async def _fetch(self, source: Source, ready: Collection[TopicPartition]) -> None:
        try:
            fetched = await source.fetch(ready, self._pace.fetch_timeout_s(self.tasks.values()))
        except KafkaUnavailableError as error:
            self.meters.add(CONSUMER_ERRORS, 1)
            log.warning("fetching: %s; trying again", text_of(error))
            await asyncio.sleep(_LONGEST_WAIT_S)
            return
        for tp, run in fetched.items():
            self.meters.add(CONSUMER_MESSAGES, len(run.offsets), tp.topic)
            owner = self._owners.get(tp)
            if owner is not None and owner.state is State.RUNNING:
                owner.offer(tp, run)

    def _may_work(self, task: Task) -> bool:
        """Tell whether a task may process more: a full epoch waits for the commit before it."""
        return task.state is State.RUNNING and (task.commit is None or not task.is_full())

    async def _work(self, task: Task, source: Source) -> None:
        """Process all that the task has queued and may take now."""
        while await self._take_turn(task, source):
            self._start_due_commits(source)
            if task.has_due():  # rows alone are fired without a wait: let the loop turn
                self.turned_s = self.clock.monotonic_s()
                await asyncio.sleep(0)

    async def _take_turn(self, task: Task, source: Source) -> bool:
        """Process the task's next step; tell whether there was one and the task may go on."""
        async with self._turn:
            if not self._may_work(task):
                return False
            try:
                return await self._take_step(task, source)
            except OvertakenError:
                return False
            except (StoreCorruptError, GlobalTableDamagedError) as error:
                self._takings.again(task, source, error)
                return False
            except Exception as error:  # noqa: BLE001 - whatever it is, it stops the worker
                # Before the turn is let go: a hand-over that waits for it would commit half a step.
                self.fail(error)
                return False

    async def _take_step(self, task: Task, source: Source) -> bool:
        is_due = task.has_due()
        step = [] if is_due else task.next_step(lambda tp: source.backlog(tp) > 0)
        if not step and is_quiet(task):
            await pass_idle_time(task)
            is_due = task.has_due()
        left = step
        if len(step) > 1 and task.subtopology.interleaves:
            self.turned_s = begun_s = self.clock.monotonic_s()
            left = await process_together(task, step, self._deliver, self.failed)
            records = 0 if left else sum(piece.end - piece.begin for _, piece in step)
            self._pace.processed(records, self.clock.monotonic_s() - begun_s)
        for tp, piece in left:
            reach(Step.PROCESS_BEFORE_BATCH)
            self.turned_s = begun_s = self.clock.monotonic_s()
            await process(task, tp, piece, self._deliver, self.failed)
            reach(Step.PROCESS_AFTER_BATCH)
            self._pace.processed(piece.end - piece.begin, self.clock.monotonic_s() - begun_s)
        if step or is_due:
            fire_due(task)
        return bool(step) or is_due

    def _start_due_commits(self, source: Source) -> None:
        now_s = self.clock.monotonic_s()
        for task in self.tasks.values():
            damage = None if task.store is None else task.store.damage
            if task.state is State.RUNNING and damage is not None:  # a reader of rows found it
                self._takings.again(task, source, damage)
            if (
                task.state is State.RUNNING
                and task.commit is None
                and task.has_to_commit()
                and (now_s >= task.commit_due_s or task.is_full())
            ):
                task.commit_due_s = now_s + self._pace.interval_s(self._backlog(), len(self.tasks))
                try:
                    commit = start_commit(task)
                except StoreCorruptError as error:  # found where rows that expire are looked up
                    self._takings.again(task, source, error)
                    continue
                self._beside.keep(commit, partial(self._committed, task, source))

    def _committed(self, task: Task, source: Source, commit: asyncio.Task[None]) -> None:
        """Hear how a commit ended."""
        error = why_failed(commit)
        if task.commit is not commit or task.state is not State.RUNNING:
            return  # a hand-over waits for it, and hears itself
        task.commit = None
        self._assigned.set()
        if isinstance(error, RETRIED):
            try:
                self._takings.again(task, source, error)
            except OwnershipError as final:
                self.fail(final)
        elif error is not None:
            self.fail(error)
        else:
            task.retakes = 0
            task.fences = 0
            self._purging.committed(task)

    def _is_busy(self) -> bool:
        """Tell whether the tasks have work that others on this worker should not hold up."""
        return self._backlog() > 0 or any(t.state is State.TAKING for t in self.tasks.values())

    def _backlog(self) -> int:
        source = self._source
        return 0 if source is None else sum(source.backlog(tp) for tp in self._owners)
