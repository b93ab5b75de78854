"""A small world for the laws: odd orders, workers on the driver, the oracle beside them."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from hypothesis import strategies as st

from config.settings import Settings, load_settings
from demo.oracle import DeadLetter, Derived, Json, Outcome, Rules, Source, diff, expect, parse
from demo.poison import POISONS, Subject
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Topology
from streams.engine.failpoints import InjectedFailureError
from streams.engine.records import TopicPartition
from streams.events import OrderCreated
from streams.testing import Driver, Sent
from streams.topics import DEAD_LETTERS, HIGH_VALUE_ORDERS, ORDERS, VIP_UPGRADES
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS

NOW_MS = 1_763_715_600_000
PARTITIONS = 2
VIP_ORDERS = 3
BRITTLE_CURRENCY = "BRITTLE"
RULES = Rules(vip_orders=VIP_ORDERS)


class BrittleError(Exception):
    """What the brittle flow raises."""


def break_on_brittle(orders: Iterable[OrderCreated]) -> tuple[()]:
    """Raise where an order is in the brittle currency."""
    for order in orders:
        if order.data.currency == BRITTLE_CURRENCY:
            raise BrittleError(order.event_id)
    return ()


def register_brittle(app: App[Any]) -> None:
    """Hang an agent on the application whose rule raises for some orders."""

    @app.agent(ORDERS)
    async def brittle(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(break_on_brittle, batch.of(OrderCreated))


# The production topology, and behind it a flow that drops orders for all of them.
WORLD = Topology(
    (*TOPOLOGY.flows, Flow(register_brittle, "brittle", reads=(ORDERS,))), dead_letters=DEAD_LETTERS
)

# --- what is piped ------------------------------------------------------------------------------


class Piped(NamedTuple):
    """A record for a partition; a gap stands for a control record or one that compaction took."""

    partition: int
    key: bytes | None = None
    value: bytes | None = None
    is_gap: bool = False
    is_brittle: bool = False


def order(
    partition: int, user: int, cents: int, ago_ms: int, number: int, *, brittle: bool = False
) -> Piped:
    """Return an order of one of the partition's users."""
    key = f"user-{partition}-{user}"
    data: dict[str, Any] = {"order_id": f"o-{number}", "user_id": key, "amount": cents / 100}
    if brittle:
        data["currency"] = BRITTLE_CURRENCY
    event = {
        "event_id": f"e-{number}",
        "event_type": "order.created",
        "aggregate_id": f"o-{number}",
        "timestamp": NOW_MS - ago_ms,
        "data": data,
    }
    return Piped(partition, key.encode(), json.dumps(event).encode(), is_brittle=brittle)


def _poison(partition: int, user: int, kind: int, number: int) -> Piped:
    subject = Subject(b"o-%d" % number, b"user-%d-%d" % (partition, user), NOW_MS)
    return Piped(partition, *POISONS[kind].make(subject))


partitions = st.integers(0, PARTITIONS - 1)
users = st.integers(0, 2)
numbers = st.integers(0, 10**6)
_orders = st.builds(
    order,
    partitions,
    users,
    st.integers(0, 10**15) | st.integers(99_000, 101_000),
    st.integers(-3_600_000, 10**6),
    numbers,
    brittle=st.sampled_from([False] * 7 + [True]),
)
poisons = st.builds(_poison, partitions, users, st.integers(0, len(POISONS) - 1), numbers)
gaps = partitions.map(lambda partition: Piped(partition, is_gap=True))
records = st.integers(0, 9).flatmap(lambda n: _orders if n < 7 else poisons if n < 9 else gaps)


def inputs(min_size: int = 0, max_size: int = 24) -> st.SearchStrategy[list[Piped]]:
    """Draw records: orders for the most part, poison and gaps between them."""
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

    def __init__(self, cut: Cuts | None = None, *, workers: int = 1, **settings: Any) -> None:
        cut = cut or Cuts()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-law-"))
        self.sources: dict[int, list[Source]] = {p: [] for p in range(PARTITIONS)}
        self.brittle: list[DeadLetter] = []
        self.driver = Driver(
            WORLD,
            self._settings(**settings),
            partitions=PARTITIONS,
            workers=workers,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
        )
        self.driver.cut_input(cut.run_lengths)
        self.driver.delay_answers(cut.delays)

    def _settings(self, **settings: Any) -> Settings:
        return load_settings(
            data_dir=self.folder, vip_orders=VIP_ORDERS, **{"commit_interval_ms": 1} | settings
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.driver.__exit__()
        shutil.rmtree(self.folder)

    def append(self, piped: Iterable[Piped]) -> None:
        """Append records to `orders`; nobody has seen them yet."""
        for record in piped:
            tp = TopicPartition(ORDERS.name, record.partition)
            offset = len(self.driver.kafka.logs[tp])
            if record.is_gap:
                self.driver.kafka.append(tp, None, NOW_MS)
                continue
            self.driver.pipe(
                ORDERS,
                [(record.key, record.value)],
                partition=record.partition,
                timestamp_ms=NOW_MS,
                settle=False,
            )
            if record.is_brittle:
                self.brittle.append(
                    DeadLetter(ORDERS.name, record.partition, offset, "rule-failed")
                )
            else:
                source = Source(offset, NOW_MS, record.key, record.value)
                self.sources[record.partition].append(source)

    def start(self, workers: int) -> None:
        """Start so many workers; one that a crash or failure strikes stays down until `revive`."""
        for _ in range(workers):
            self.driver.start_worker()

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
        outcome = expect({ORDERS.name: self.sources}, RULES)
        outcome.dead_letters += self.brittle
        return outcome

    def actual(self, rows: dict[str, Json]) -> Outcome:
        """Return what the workers made of it, with a table's rows as one of its copies has them."""
        driver = self.driver
        outputs = (HIGH_VALUE_ORDERS.name, VIP_UPGRADES.name)
        expected = self.expected()
        return Outcome(
            {USER_ORDERS.name: rows},
            {topic: _by_partition(driver.sent(topic)) for topic in outputs},
            [dead_letter(sent) for sent in driver.sent(DEAD_LETTERS)],
            expected.skipped,
            expected.late,
        )

    def check(self) -> None:
        """Assert that every copy of the state, every output and every position are the oracle's."""
        failpoints.disarm()
        driver, expected = self.driver, self.expected()
        live = {key: parse(USER_ORDERS.encode(v)) for key, v in driver.table(USER_ORDERS).items()}
        assert diff(expected, self.actual(live)) == []
        changelog = {key: parse(value) for key, value in driver.changelog(USER_ORDERS).items()}
        assert diff(expected, self.actual(changelog)) == []
        for partition in range(PARTITIONS):
            tp = TopicPartition(ORDERS.name, partition)
            committed = driver.kafka.offsets.get((driver.settings.app_id, tp))
            assert (committed.offset if committed else 0) == len(driver.kafka.logs[tp])
        while driver.workers:
            driver.stop_worker()
        disk = {key: parse(USER_ORDERS.encode(v)) for key, v in driver.stored(USER_ORDERS).items()}
        assert diff(expected, self.actual(disk)) == []


def dead_letter(sent: Sent) -> DeadLetter:
    """Return where a dead letter came from and why, as its headers tell."""
    headers = dict(sent.headers)
    partition = int(headers["__streams.errors.partition"])
    assert partition == sent.partition
    offset = int(headers["__streams.errors.offset"])
    topic = headers["__streams.errors.topic"].decode()
    return DeadLetter(topic, partition, offset, headers["headrace.reason"].decode())


def _by_partition(sent: Iterable[Sent]) -> dict[int, list[Derived]]:
    events: dict[int, list[Derived]] = {}
    for partition, _, key, value, _ in sent:
        events.setdefault(partition, []).append(Derived(key, parse(value or b"")))
    return events
