"""An application under a fault on a real Kafka, and everything that is held against the oracle.

What must come of a trial's input is computed from the input alone, in plain Python (demo/oracle), and
compared with all that came out: the tables as the web view answers, the changelogs folded, RocksDB
after the workers have ended, the derived events and dead letters as a read_committed reader saw them
while it all ran, and at the end.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from demo.generator import OrderGenerator, TopicKeyValue
from demo.oracle import Json, Outcome, diff_rows, parse
from demo.readback import CHECKED, INPUTS, Records, check, read_disk, read_topics, topics_of
from streams.broker import EmbeddedKafka
from streams.prepare import prepare_topics
from streams.topology import TOPOLOGY
from tables.questions import MAX_LIMIT
from tables.web.wire import TABLES
from tests.broker.groups import send, sender
from tests.faults.onlooker import Onlooker, Progress
from tests.faults.workers import WorkerProcess
from tests.waiting import until, until_true

PARTITIONS = 4
APPLICATION = "trial"
_SETTINGS = {
    # A death is noticed within two seconds: most tests wait for that.
    "kafka_session_timeout_ms": 2_000,
    "kafka_heartbeat_interval_ms": 300,
    # Three times the default: brokers take half of a trial's CPU, most of that for transactions.
    "headrace_commit_interval_ms": 300,
}
_LOOK_AGAIN_S = 0.1
_TICK_S = 0.2
# Beyond the time in which a commit must have been answered.
_CATCH_UP_S = 60.0
# The last of them reach the workers together: no commit has them a moment later.
_MORE_RECORDS = 6_000


class Trial:
    """One application: its input, its workers, its outcome. `chance` is drawn from by the seed.

    Use it with `async with`: on leaving, all workers are killed, and where something failed, the seed
    and the last lines of each are printed.
    """

    def __init__(
        self,
        folder: Path,
        kafka: EmbeddedKafka,
        seed: int,
        *,
        partitions: int = PARTITIONS,
        replication_factor: int = 1,
        users: int = 2_000,
        poison_share: float = 0.01,
        look_on: bool = True,
    ) -> None:
        """`kafka` runs and has no topics of the application yet; `seed` decides the input.

        `look_on`: a reader keeps all that is emitted, as it comes; `check` wants that.
        """
        self.folder = folder
        self.kafka = kafka
        self.seed = seed
        self.partitions = partitions
        self.chance = random.Random(seed)
        self.workers: list[WorkerProcess] = []
        self.faults: Counter[str] = Counter()
        """How often each fault was provoked, in mid-work."""
        self.records = 0
        """How many records of the input were checked."""
        self.client: Mapping[str, Any] = {"bootstrap_servers": kafka.bootstrap}
        """How the trial itself reaches Kafka; workers may go another way."""
        self._replication_factor = replication_factor
        generator = OrderGenerator(seed, users=users, poison_share=poison_share)
        self._made = generator.records(lambda: time.time_ns() // 1_000_000)
        self._live = False
        self._look_on = look_on
        self._onlooker = Onlooker(self.client, APPLICATION, partitions)
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await prepare_topics(
            TOPOLOGY,
            self.client,
            application_id=APPLICATION,
            default_partitions=self.partitions,
            replication_factor=self._replication_factor,
            create=True,
        )
        await self._onlooker.__aenter__()
        if self._look_on:
            self._following = asyncio.create_task(self._onlooker.follow())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            worker.kill()
            if error is not None:
                print(f"{worker.folder.name}:\n{worker.said()[-4_000:]}")  # noqa: T201 - shown where it fails
        if error is not None:
            print(f"HEADRACE_TEST_SEED={self.seed}, faults so far: {dict(self.faults)}")  # noqa: T201 - likewise
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._onlooker.__aexit__(kind, error, trace)

    # -- workers ----------------------------------------------------------------------------------

    def new_worker(self, bootstrap: str = "", /, **settings: object) -> WorkerProcess:
        """Return one more worker, not started, with a data folder of its own."""
        worker = WorkerProcess(
            self.folder / f"worker-{len(self.workers)}",
            bootstrap or self.kafka.bootstrap,
            APPLICATION,
            **{**_SETTINGS, **settings},
        )
        self.workers.append(worker)
        return worker

    def start_workers(self, count: int, **settings: object) -> list[WorkerProcess]:
        """Start so many workers more."""
        started = [self.new_worker(**settings) for _ in range(count)]
        for worker in started:
            worker.start()
        return started

    def running(self) -> list[WorkerProcess]:
        """Return the workers whose processes live."""
        return [worker for worker in self.workers if worker.is_alive()]

    # -- input ------------------------------------------------------------------------------------

    async def produce(self, records: int) -> None:
        """Send so many of the generator's records, as fast as they go."""
        await self.send(islice(self._made, records))

    async def send(self, records: Iterable[TopicKeyValue]) -> None:
        """Send records, each to its key's partition."""
        self._note_workers()
        await send(self.client, self.partitions, records)

    def _note_workers(self) -> None:
        """Remember that some worker may read what is sent while it is sent."""
        self._live = self._live or any(worker.was_started for worker in self.workers)

    @asynccontextmanager
    async def load(self, records_per_s: int) -> AsyncIterator[None]:
        """Send the generator's records at that rate for as long as the block runs."""
        over = asyncio.Event()
        sending = asyncio.create_task(self._keep_sending(records_per_s, over))
        try:
            yield
        finally:
            over.set()
            await sending

    async def _keep_sending(self, records_per_s: int, over: asyncio.Event) -> None:
        async with sender(self.client, self.partitions) as send_all:
            while not over.is_set():
                began_s = time.monotonic()
                self._note_workers()
                await send_all(islice(self._made, int(records_per_s * _TICK_S)))
                await asyncio.sleep(max(0.0, _TICK_S - (time.monotonic() - began_s)))

    # -- how far it is ----------------------------------------------------------------------------

    async def progress(self) -> Progress | None:
        """Return how far the application is; None while Kafka cannot tell."""
        return await self._onlooker.progress()

    async def done(self, share: float = 1.0, *, deadline_s: float = 120.0) -> None:
        """Return when so large a share of the input is committed. A worker must run.

        Raises TimeoutError, or AssertionError as soon as none runs any more.
        """
        async with asyncio.timeout(deadline_s):
            while True:
                at = await self.progress()
                if at is not None and at.committed >= share * at.end > 0:
                    return
                assert self.running(), "no worker runs any more"
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def goes_on(self, *, deadline_s: float = 120.0) -> None:
        """Return when more of the input is committed than when this was called. Raises TimeoutError."""
        before: Progress | None = None
        async with asyncio.timeout(deadline_s):
            while True:
                at = await self.progress()
                before = before or at
                if at is not None and before is not None and at.committed > before.committed:
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def hit(self, fault: str) -> None:
        """Count a fault that is provoked right now: it must hit in mid-work.

        Where all that was sent is committed already, more is sent. Raises AssertionError where
        nothing is committed yet.
        """
        at = await self.progress()
        assert at is None or at.committed > 0, f"{fault}: nothing is committed yet"
        while at is not None and at.committed >= at.end:  # None: Kafka itself may be what was hit
            await self.produce(_MORE_RECORDS)
            at = await self.progress()
        self.faults[fault] += 1

    # -- what came out ----------------------------------------------------------------------------

    async def inputs(self) -> Records:
        """Return all that the inputs hold."""
        return await read_topics(self.client, INPUTS, self.partitions)

    async def check(self, *, deadline_s: float = 180.0, gone: Records | None = None) -> Outcome:
        """Wait for the end of the input, end the workers, compare everything; return what was expected.

        `gone` are records that were processed and that the inputs do not hold any more. Raises
        AssertionError with the first differences.
        """
        await self.done(deadline_s=deadline_s)
        served = await self._served()
        await self._end_workers()
        found = await read_topics(self.client, topics_of(APPLICATION), self.partitions)
        records = {tp: [*(gone or {}).get(tp, []), *rows] for tp, rows in found.items()}
        folders = [worker.state for worker in self.workers if worker.state.is_dir()]
        verdict = check(
            records,
            read_disk(folders, self.partitions),
            APPLICATION,
            live=self._live,
            ends=await self._onlooker.ends(),
        )
        expected = verdict.expected
        differences = [
            *verdict.differences,
            *(
                f"served: {line}"
                for t in CHECKED
                for line in diff_rows(t, expected.tables[t], served[t])
            ),
            *await self._seen_otherwise(records),
        ]
        assert differences == [], f"{len(differences)} differences: " + "\n".join(differences[:10])
        self.records = sum(len(rows) for tp, rows in records.items() if tp.topic in INPUTS)
        return expected

    async def _end_workers(self) -> None:
        """End the workers at rest and all at once.

        Else a task moves on, and whoever is ended while taking it leaves its store half restored, as it
        may: the next start reads the rest.
        """
        workers = self.running()
        async with aiohttp.ClientSession() as session:
            for worker in workers:
                await until(partial(answer_of, session, worker, "/readyz"), deadline_s=_CATCH_UP_S)
        # Threads: a proxy may run in this loop.
        statuses = await asyncio.gather(*(asyncio.to_thread(worker.end) for worker in workers))
        for worker, status in zip(workers, statuses, strict=True):
            assert status == 0, (
                f"{worker.folder.name} ended with {status}:\n{worker.said()[-2_000:]}"
            )

    async def check_partition(self, number: int) -> list[str]:
        """Compare what came out in one partition, read now; return a line for each difference.

        All input is processed, and no worker runs. It holds that partition's records alone in memory.
        """
        one = range(number, number + 1)
        records = await read_topics(self.client, topics_of(APPLICATION), one)
        self.records += sum(len(rows) for tp, rows in records.items() if tp.topic in INPUTS)
        folders = [worker.state for worker in self.workers]
        ends = await self._onlooker.ends()
        return check(records, read_disk(folders, one), APPLICATION, ends=ends).differences

    async def _served(self) -> dict[str, dict[str, Json]]:
        """Return the tables as the web view of one worker answers, page after page.

        A commit whose answer was lost is none yet for its worker, and what it serves ends before.
        """
        committed = (await until(self.progress)).committed
        worker = self.chance.choice(self.running())
        await until_true(lambda: worker.web_address() != "", deadline_s=_CATCH_UP_S)
        async with aiohttp.ClientSession(f"http://{worker.web_address()}") as session:
            return {table: await _all_rows(session, table, committed) for table in CHECKED}

    async def _seen_otherwise(self, records: Records) -> list[str]:
        """Return a line for each partition that the reader saw otherwise than it is at the end."""
        wanted = {
            tp: [(r.offset, r.key, r.value) for r in rows]
            for tp, rows in records.items()
            if tp in self._onlooker.followed
        }
        seen = self._onlooker.seen
        await until_true(
            lambda: all(len(seen[tp]) >= len(rows) for tp, rows in wanted.items()),
            deadline_s=_CATCH_UP_S,
        )
        return [
            f"{tp.topic}-{tp.partition}: a reader saw {len(seen[tp])} records while it ran, and other "
            f"ones than the {len(rows)} that are there"
            for tp, rows in wanted.items()
            if seen[tp] != rows
        ]


async def answer_of(session: aiohttp.ClientSession, worker: WorkerProcess, path: str) -> str:
    """Return what a worker answers a monitor, if all is well; nothing while it cannot be asked."""
    if not (address := worker.web_address()):
        return ""
    try:
        async with session.get(f"http://{address}{path}") as answer:
            return await answer.text() if answer.status == 200 else ""
    except aiohttp.ClientError:
        return ""


async def _all_rows(session: aiohttp.ClientSession, table: str, committed: int) -> dict[str, Json]:
    rows: dict[str, Json] = {}
    asked = {"limit": str(MAX_LIMIT)}
    while True:
        ask = partial(_page, session, f"{TABLES}/{table}", asked, committed)
        page = await until(ask, deadline_s=_CATCH_UP_S)
        rows |= {row["key"]: row["value"] for row in page["rows"]}
        if page["next"] is None:
            return rows
        asked["after"] = page["next"]


async def _page(
    session: aiohttp.ClientSession, path: str, asked: Mapping[str, str], committed: int
) -> Json | None:
    """Return a page of a table; None while tasks are not known, or know less than is committed."""
    async with session.get(path, params=asked) as answer:
        page: Json = parse(await answer.read())
    assert answer.status in {200, 503}, page
    if answer.status != 200:
        return None
    told = sum(sum(task["sources"].values()) for task in page["answered"])
    return page if told >= committed else None
