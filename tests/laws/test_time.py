"""Laws 6 and 9: time comes from events, and inputs that meet are taken in its order."""

import contextlib
import tempfile
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, Topic, Topology, WindowedTable
from streams.engine.errors import DefinitionError
from streams.engine.failpoints import InjectedFailureError, Step
from streams.engine.layout import check
from streams.engine.records import TopicPartition
from streams.operators.windows import TumblingWindows, WindowedRows
from streams.testing import Driver
from tests.laws.world import NOW_MS, Cuts, cuts

# --- trades are valued at the last price before them --------------------------------------------


class Quote(msgspec.Struct, frozen=True, tag="quote", tag_field="event_type"):
    """What a thing costs from now on; None: it is sold no more."""

    event_id: str
    timestamp: int
    thing: str
    cents: int | None


class Trade(msgspec.Struct, frozen=True, tag="trade", tag_field="event_type"):
    """Somebody bought a thing."""

    event_id: str
    timestamp: int
    thing: str


class Valued(msgspec.Struct, frozen=True, tag="valued", tag_field="event_type"):
    """A trade, and the price at its turn."""

    event_id: str
    timestamp: int
    thing: str
    cents: int | None


TRADES = Topic("trades", (Trade,), attrgetter("thing"))  # before quotes in the alphabet
QUOTES = Topic("zz-quotes", (Quote,), attrgetter("thing"))
VALUED = Topic("valued", (Valued,), attrgetter("thing"))
PRICES: Table[int] = Table("prices", msgspec.json.encode, msgspec.json.decode)
TRADED: WindowedTable[int] = WindowedTable(
    "traded", msgspec.json.encode, msgspec.json.decode, TumblingWindows(size_ms=3, grace_ms=4)
)
UNSELLABLE = 13


def keep_prices(quotes: Iterable[Quote], prices: MutableMapping[str, int]) -> tuple[()]:
    for quote in quotes:
        if quote.cents == UNSELLABLE:
            raise ValueError(quote.cents)
        if quote.cents is not None:
            prices[quote.thing] = quote.cents
        elif quote.thing in prices:
            del prices[quote.thing]
    return ()


def value(trades: Iterable[Trade], prices: Mapping[str, int]) -> Iterator[Valued]:
    for trade in trades:
        yield Valued(trade.event_id, trade.timestamp, trade.thing, prices.get(trade.thing))


def count_trades(trades: Iterable[Trade], traded: WindowedRows[int]) -> None:
    for trade, start_ms in traded.on_time(trades):
        traded[trade.thing, start_ms] = (traded.get((trade.thing, start_ms)) or 0) + 1


def register_traded(app: App[Any]) -> None:
    @app.agent(TRADES)
    async def traded(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(count_trades, batch.of(Trade), TRADED)


def register_prices(app: App[Any]) -> None:
    @app.agent(QUOTES)
    async def prices(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(keep_prices, batch.of(Quote), PRICES)


def register_valued(app: App[Any]) -> None:
    @app.agent(TRADES)
    async def valued(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(value, batch.of(Trade), PRICES)


MARKET = Topology(
    (
        Flow(register_valued, "valued", reads=(TRADES,), joins=(PRICES,), emits=VALUED),
        Flow(register_prices, "prices", reads=(QUOTES,), keeps=PRICES),
        Flow(register_traded, "traded", reads=(TRADES,), keeps=TRADED),
    ),
    dead_letters="dead-letters",
)

# --- the same, one record at a time -------------------------------------------------------------


class Line(NamedTuple):
    """A record of one of the inputs; without an event it is skipped or dead-lettered."""

    topic: Topic
    event: Quote | Trade | None
    value: bytes | None


def turns(lines: Iterable[Line]) -> Iterator[Quote | Trade]:
    """Yield the events in the order that law 9 gives them."""
    queues = [
        [line.event for line in lines if line.topic is topic and line.event]
        for topic in (QUOTES, TRADES)
    ]
    while any(queues):
        # min() takes the first on ties: the table's input.
        yield min((q for q in queues if q), key=lambda q: q[0].timestamp).pop(0)


class Result(NamedTuple):
    """What must come out, the tables at the end, how many trades were late, and their stream time."""

    valued: list[Valued]
    prices: dict[str, int]
    traded: dict[str, int]
    late: int
    stream_time_ms: int


def expected(lines: Iterable[Line]) -> Result:
    valued: list[Valued] = []
    prices: dict[str, int] = {}
    traded: dict[str, int] = {}
    late = now_ms = 0
    for event in turns(lines):
        if isinstance(event, Trade):
            valued += value([event], prices)
            now_ms = max(now_ms, event.timestamp)
            start_ms = event.timestamp // 3 * 3
            if start_ms + 3 + 4 <= now_ms:
                late += 1
            else:
                key = f"{event.thing}@{start_ms}"
                traded[key] = traded.get(key, 0) + 1
        else:
            with contextlib.suppress(ValueError):
                keep_prices([event], prices)
    alive = {k: n for k, n in traded.items() if int(k.split("@")[1]) + 3 + 4 > now_ms}
    return Result(valued, prices, alive, late, now_ms)


def line(topic: Topic, event: Quote | Trade) -> Line:
    return Line(topic, event, msgspec.json.encode(event))


times = st.integers(NOW_MS, NOW_MS + 24)
things = st.sampled_from(["a", "b"])
prices = st.none() | st.integers(10, 16)
lines = st.one_of(
    st.builds(Quote, st.just("q"), times, things, prices).map(lambda q: line(QUOTES, q)),
    st.builds(Trade, st.just("t"), times, things).map(lambda t: line(TRADES, t)),
    st.builds(Line, st.sampled_from([QUOTES, TRADES]), st.none(), st.sampled_from([b"?", None])),
)
scripts = st.lists(lines, max_size=40)


class Market:
    """The market on the driver."""

    def __init__(self, folder: str, cut: Cuts, topology: Topology = MARKET) -> None:
        self.driver = Driver(
            topology,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=1,
            workers=0,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
        )
        self.driver.cut_input(cut.run_lengths)
        self.driver.delay_answers(cut.delays)

    def append(self, script: Iterable[Line]) -> None:
        for topic, event, wire in script:
            key = event.thing.encode() if event else None
            self.driver.pipe(topic, [(key, wire)], timestamp_ms=NOW_MS, settle=False)

    def outcome(self, *, late: int | None = None) -> Result:
        """Return what came out; `late` where it was counted over several lives."""
        driver = self.driver
        sent = driver.sent(VALUED.name)
        valued = [msgspec.json.decode(s.value or b"", type=Valued) for s in sent]
        changelog = driver.changelog(TRADED)
        assert driver.table(TRADED) == {key: int(row) for key, row in changelog.items()}
        (task,) = driver.tasks().values()
        (part,) = task.time_bound_parts()
        counted = task.counts["traded"].late if late is None else late
        return Result(
            valued, driver.table(PRICES), driver.table(TRADED), counted, part.stream_time_ms
        )


@given(script=scripts, cut=cuts)
def test_inputs_that_meet_are_taken_in_event_time_order(script: Sequence[Line], cut: Cuts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        market = Market(folder, cut)
        with market.driver as driver:
            market.append(script)
            driver.start_worker()
            driver.settle()
            assert market.outcome() == expected(script)


@given(
    script=scripts,
    cut=cuts,
    step=st.sampled_from(Step),
    visit=st.integers(1, 6),
    crashes=st.booleans(),
    loses_disk=st.booleans(),
)
def test_a_blow_changes_neither_turns_nor_stream_times(
    script: Sequence[Line], cut: Cuts, step: Step, visit: int, *, crashes: bool, loses_disk: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        market = Market(folder, cut)
        with market.driver as driver:
            market.append(script)
            (driver.crash_at if crashes else driver.fail_at)(step, visit)
            driver.start_worker()
            try:
                driver.settle()
            except InjectedFailureError:
                assert step in driver.struck
            failpoints.disarm()
            while driver.workers_started:
                driver.kill_worker()
            if loses_disk:
                driver.lose_disk()
            driver.start_worker()
            driver.settle()
            wanted = expected(script)
            assert market.outcome(late=wanted.late) == wanted


def test_an_input_that_is_ahead_is_not_fetched_without_end() -> None:
    cut = Cuts(run_lengths=[10], max_batch_records=10)
    late = [line(QUOTES, Quote("q", NOW_MS + n, "a", n + 20)) for n in range(1_000)]
    early = [line(TRADES, Trade("t", NOW_MS + n, "a")) for n in range(1_000)]
    with tempfile.TemporaryDirectory() as folder:
        market = Market(folder, cut)
        with market.driver as driver:
            market.append([*late, *[line(TRADES, Trade("t", NOW_MS, "a"))] * 1_000, *early])
            longest = 0

            def look(_step: Step) -> None:
                nonlocal longest
                (task,) = driver.tasks().values()
                longest = max(longest, task._turns.waiting(TopicPartition(QUOTES.name, 0)))

            failpoints.arm(Step.PROCESS_AFTER_BATCH, look)
            driver.start_worker()
            driver.settle()
            assert longest <= 2 * cut.max_batch_records


def test_stream_times_are_the_same_for_the_next_owner() -> None:
    script = [line(TRADES, Trade("t", NOW_MS + n, "a")) for n in (5, 9, 2)]
    with tempfile.TemporaryDirectory() as folder:
        market = Market(folder, Cuts())
        with market.driver as driver:
            market.append(script)
            driver.start_worker()
            driver.settle()
            driver.kill_worker()
            driver.start_worker()
            driver.settle()
            assert market.outcome().stream_time_ms == NOW_MS + 9


# --- a flow that reads both, and whose rows tell in which order ----------------------------------

TRAILS: Table[str] = Table("trails", msgspec.json.encode, msgspec.json.Decoder(str).decode)


def follow(events: Iterable[Quote | Trade], trails: MutableMapping[str, str]) -> None:
    for event in events:
        step = f"{event.event_id}{event.timestamp - NOW_MS} "
        trails[event.thing] = trails.get(event.thing, "") + step


def register_trails(app: App[Any]) -> None:
    async def trails(batches: AsyncIterable[Batch]) -> None:
        async for batch in batches:
            batch.run(follow, batch.all(), TRAILS)

    for topic in (QUOTES, TRADES):
        app.agent(topic)(trails)


@given(script=scripts, cut=cuts)
def test_a_flow_that_reads_several_inputs_sees_them_in_the_order_of_turns(
    script: Sequence[Line], cut: Cuts
) -> None:
    followed = Flow(register_trails, "trails", reads=(QUOTES, TRADES), keeps=TRAILS)
    wanted: dict[str, str] = {}
    follow(turns(script), wanted)
    with tempfile.TemporaryDirectory() as folder:
        market = Market(folder, cut, Topology((followed,), dead_letters="dead-letters"))
        with market.driver as driver:
            market.append(script)
            driver.start_worker()
            driver.settle()
            assert driver.table(TRAILS) == wanted


def test_a_table_cannot_be_joined_within_the_input_that_keeps_it() -> None:
    own = Flow(register_valued, "own", reads=(QUOTES,), joins=(PRICES,))
    keeper = Flow(register_prices, "prices", reads=(QUOTES,), keeps=PRICES)
    with pytest.raises(DefinitionError, match=r"own.*prices.*zz-quotes"):
        check(Topology((own, keeper), dead_letters="dead-letters"))
