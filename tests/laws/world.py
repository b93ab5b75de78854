"""A small world for the laws: odd users and orders, workers on the driver, the oracle beside them."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from hypothesis import strategies as st

from config.settings import Settings, load_settings
from demo.oracle import Json, Outcome, Rules, Source, diff, expect
from demo.poison import POISONS, Subject
from demo.readback import INPUTS
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.config import RECORD_OVERHEAD_BYTES
from streams.engine.definitions import Flow, Topology
from streams.engine.failpoints import InjectedFailureError
from streams.engine.records import TopicPartition
from streams.events import Envelope
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDERS, USERS
from streams.topology import TOPOLOGY
from tests.driven import changelog_tables, live_tables, outcome_of, stored_tables

NOW_MS = 1_763_715_600_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
PARTITIONS = 2
VIP_ORDERS = 3
BRITTLE = "brittle"
LARGEST_RECORD_BYTES = 1_100
LONG = "long-" * 150
"""In an event it is fine; in an event and what comes of it, too large."""


class BrittleError(Exception):
    """What the brittle flows raise."""


def break_on_brittle(events: Iterable[Envelope]) -> tuple[()]:
    """Raise where an event says that it is brittle."""
    for event in events:
        if event.event_id.startswith(BRITTLE):
            raise BrittleError(event.event_id)
    return ()


def register_brittle_orders(app: App[Any]) -> None:
    """Hang an agent on the application whose rule raises for some orders."""

    @app.agent(ORDERS)
    async def brittle_orders(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(break_on_brittle, batch.all())


def register_brittle_users(app: App[Any]) -> None:
    """Hang an agent on the application whose rule raises for some users' events."""

    @app.agent(USERS)
    async def brittle_users(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(break_on_brittle, batch.all())


# The production topology, and behind it flows that drop records for all of them.
WORLD = Topology(
    (
        *TOPOLOGY.flows,
        Flow(register_brittle_orders, "brittle_orders", reads=(ORDERS,)),
        Flow(register_brittle_users, "brittle_users", reads=(USERS,)),
    ),
    dead_letters=DEAD_LETTERS,
)

# --- what is piped ------------------------------------------------------------------------------

_TIME = "@time"


class Piped(NamedTuple):
    """A record for a partition; a gap stands for a control record or one that compaction took.

    Its event time is `after_ms` behind the beginning of the portion that it is appended with. What
    is appended later is later: an order waits for the users that are there, not for those to come.
    """

    partition: int
    topic: str = ORDERS.name
    key: bytes | None = None
    value: bytes | None = None
    after_ms: int = 0
    is_gap: bool = False


def order(
    partition: int,
    user: int,
    cents: int,
    after_ms: int,
    number: int,
    *,
    brittle: bool = False,
    long: bool = False,
) -> Piped:
    """Return an order of one of the partition's users."""
    data: Json = {"order_id": f"o-{number}", "amount": cents / 100}
    if long:
        data["items"] = [LONG]
    return _event(ORDERS.name, "order.created", partition, user, after_ms, number, data, brittle)


def user_event(
    partition: int, user: int, what: tuple[str, Json], after_ms: int, number: int, *, brittle: bool
) -> Piped:
    """Return an event of one of the partition's users: `what` is its type and data."""
    name, data = what
    return _event(USERS.name, name, partition, user, after_ms, number, data, brittle)


def _event(  # noqa: PLR0917 - called here alone, by both above
    topic: str,
    event_type: str,
    partition: int,
    user: int,
    after_ms: int,
    number: int,
    data: Json,
    brittle: bool,  # noqa: FBT001 - as before
) -> Piped:
    key = f"user-{partition}-{user}"
    event = {
        "event_id": f"{BRITTLE if brittle else 'e'}-{number}",
        "event_type": event_type,
        "aggregate_id": str(data.get("order_id", key)),
        "timestamp": _TIME,
        "data": {"user_id": key, **data},
    }
    return Piped(partition, topic, key.encode(), json.dumps(event).encode(), after_ms)


def _poison(partition: int, user: int, kind: int, number: int) -> Piped:
    subject = Subject(b"o-%d" % number, b"user-%d-%d" % (partition, user), NOW_MS)
    poison = POISONS[kind]
    return Piped(partition, poison.topic, *poison.make(subject))


partitions = st.integers(0, PARTITIONS - 1)
users = st.integers(0, 2)
numbers = st.integers(0, 10**6)
seldom = st.sampled_from([False] * 9 + [True])
# Within a few windows, and when these are just going or gone.
times = st.integers(0, 3 * MINUTE_MS - 1) | st.integers(DAY_MS, DAY_MS + 3 * MINUTE_MS - 1)
PORTION_MS = DAY_MS + 4 * MINUTE_MS
_orders = st.builds(
    order,
    partitions,
    users,
    st.integers(0, 10**15) | st.integers(99_000, 101_000),
    times,
    numbers,
    brittle=seldom,
    long=seldom,
)
_told = st.sampled_from([{}, {"email": "a@example.org"}, {"email": LONG}, {"country": "GB"}])
_user_events = st.builds(
    user_event,
    partitions,
    users,
    st.one_of(
        st.tuples(st.just("user.registered"), _told),
        st.tuples(st.just("user.updated"), _told.map(lambda changes: {"changes": changes})),
        st.tuples(
            st.sampled_from(["user.logged_in", "user.password_changed", "user.deleted"]),
            st.just({}),
        ),
        st.tuples(
            st.just("user.status_changed"),
            st.sampled_from(["asleep", "awake"]).map(lambda status: {"status": status}),
        ),
    ),
    times,
    numbers,
    brittle=seldom,
)
poisons = st.builds(_poison, partitions, users, st.integers(0, len(POISONS) - 1), numbers)
gaps = st.builds(Piped, partitions, st.sampled_from(INPUTS), is_gap=st.just(True))
records = st.integers(0, 19).flatmap(
    lambda n: _orders if n < 9 else _user_events if n < 16 else poisons if n < 18 else gaps
)


def inputs(min_size: int = 0, max_size: int = 24) -> st.SearchStrategy[list[Piped]]:
    """Draw records: users and orders for the most part, poison and gaps between them."""
    return st.lists(records, min_size=min_size, max_size=max_size)


def one_order_each(number: int) -> list[Piped]:
    """Return an order for each partition."""
    return [order(p, 0, 100_100, 0, 10**7 + number) for p in range(PARTITIONS)]


class Cuts(NamedTuple):
    """Where the engine cuts its input into runs, batches and epochs, and how fast Kafka answers."""

    run_lengths: Sequence[int] = ()
    max_batch_records: int = 5_000
    max_epoch_records: int = 200_000
    delays: Sequence[int] = ()


lengths = st.integers(1, 9)
cuts = st.builds(
    Cuts,
    st.lists(lengths, max_size=4),
    lengths | st.just(5_000),
    lengths | st.just(200_000),
    st.lists(st.integers(0, 30), max_size=6),
)

# --- the world ----------------------------------------------------------------------------------


class World:
    """Workers on the driver in a folder of their own, and all that was piped so far."""

    def __init__(
        self, cut: Cuts | None = None, *, workers: int = 1, disks: int = 1, **settings: Any
    ) -> None:
        """Workers write to so many disks in turns."""
        cut = cut or Cuts()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-law-"))
        self.sources: dict[str, dict[int, list[Source]]] = {
            topic: {p: [] for p in range(PARTITIONS)} for topic in INPUTS
        }
        self._portion_ms = NOW_MS - 30 * DAY_MS
        # Where records come twice, what is derived the second time shows users of later.
        limit = LARGEST_RECORD_BYTES if "processing_guarantee" not in settings else 1_048_588
        self._rules = Rules(
            vip_orders=VIP_ORDERS,
            max_output_bytes=limit - RECORD_OVERHEAD_BYTES,
            fails=lambda event: event["event_id"].startswith(BRITTLE),
        )
        self._disks = [self._settings(f"disk-{number}", **settings) for number in range(disks)]
        self._started = 0
        self.driver = Driver(
            WORLD,
            self._disks[0],
            partitions=PARTITIONS,
            workers=workers,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
            max_record_bytes=limit,
        )
        self.driver.cut_input(cut.run_lengths)
        self.driver.delay_answers(cut.delays)

    def _settings(self, disk: str, **settings: Any) -> Settings:
        return load_settings(
            data_dir=self.folder / disk,
            vip_orders=VIP_ORDERS,
            **{"commit_interval_ms": 1} | settings,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.driver.__exit__()
        shutil.rmtree(self.folder)

    def append(self, piped: Iterable[Piped]) -> None:
        """Append a portion of records to the inputs; nobody has seen them yet."""
        for record in piped:
            tp = TopicPartition(record.topic, record.partition)
            offset = len(self.driver.kafka.logs[tp])
            if record.is_gap:
                self.driver.kafka.append(tp, None, NOW_MS)
                continue
            time = str(self._portion_ms + record.after_ms).encode()
            value = record.value and record.value.replace(f'"{_TIME}"'.encode(), time)
            self.driver.pipe(
                ORDERS if record.topic == ORDERS.name else USERS,
                [(record.key, value)],
                partition=record.partition,
                timestamp_ms=NOW_MS,
                settle=False,
            )
            source = Source(offset, NOW_MS, record.key, value)
            self.sources[record.topic][record.partition].append(source)
        self._portion_ms += PORTION_MS
        assert self._portion_ms < NOW_MS

    def start(self, workers: int) -> None:
        """Start so many workers; one that a crash or failure strikes stays down until `revive`."""
        for _ in range(workers):
            self.driver.start_worker(self._disks[self._started % len(self._disks)])
            self._started += 1

    def kill(self) -> None:
        """Kill all workers."""
        while self.driver.workers_started:
            self.driver.kill_worker()

    def settle(self) -> None:
        """Let the workers finish, however often a blow ends them all and they start anew."""
        while True:
            try:
                self.driver.settle()
            except InjectedFailureError:
                self.kill()
            if self.driver.workers:
                return
            self.kill()
            self.start(1)

    # -- what came of it -------------------------------------------------------------------------

    def expected(self) -> Outcome:
        """Return what the oracle makes of all that was piped."""
        return expect(self.sources, self._rules)

    def live_three_times(self, portions: Sequence[Sequence[Piped]]) -> None:
        """Let one worker work; another join; both die and lose their disks, and two begin anew."""
        self.append([*one_order_each(0), *portions[0]])
        self.start(1)
        self.settle()
        self.append([*one_order_each(1), *portions[1]])
        self.start(1)
        self.settle()
        self.kill()
        self.driver.lose_disk()
        self.append([*one_order_each(2), *portions[2]])
        self.start(2)
        self.settle()

    def check(self) -> None:
        """Assert that every copy of the state, every output and every position are the oracle's."""
        failpoints.disarm()
        driver, expected = self.driver, self.expected()
        assert diff(expected, outcome_of(driver, live_tables(driver), expected)) == []
        assert diff(expected, outcome_of(driver, changelog_tables(driver), expected)) == []
        self.check_positions()
        self.check_standbys()
        while driver.workers:
            driver.stop_worker()
        assert diff(expected, outcome_of(driver, stored_tables(driver), expected)) == []

    def check_standbys(self) -> None:
        """Assert that every standby has the rows of the task that it follows."""
        for task_id, copy in self.driver.followed():
            task = self.driver.tasks()[task_id]
            assert task.store is not None
            for table in task.parts:
                assert list(copy.scan(table)) == list(task.store.scan(table))

    def check_positions(self) -> None:
        """Assert that all input is committed."""
        driver = self.driver
        for topic in INPUTS:
            for partition in range(PARTITIONS):
                tp = TopicPartition(topic, partition)
                committed = driver.kafka.offsets.get((driver.settings.app_id, tp))
                assert (committed.offset if committed else 0) == len(driver.kafka.logs[tp])
