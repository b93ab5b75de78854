"""Laws 1, 2 and 9 in steps of three inputs: what is joined was itself joined, and any rule may raise."""

import contextlib
import tempfile
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, MutableMapping
from operator import attrgetter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from config.settings import load_settings
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, Topic, Topology
from streams.engine.failpoints import InjectedFailureError, Step
from streams.testing import Driver
from tests.laws.world import NOW_MS, Cuts, cuts


class Change(msgspec.Struct, frozen=True, tag="change", tag_field="event_type"):
    """Something has a new value; None: it has none any more. A bad one makes the rule raise."""

    event_id: str
    timestamp: int
    thing: str
    value: int | None
    is_bad: bool = False


class Seen(msgspec.Struct, frozen=True, tag="seen", tag_field="event_type"):
    """What the tables held at an event's turn."""

    event_id: str
    timestamp: int
    thing: str
    price: tuple[int, int | None] | None
    rate: int | None


ORDERED, QUOTED, RATED, SEEN = (
    Topic(name, (event,), attrgetter("thing"))
    for name, event in (("a", Change), ("b", Change), ("c", Change), ("seen", Seen))
)
RATES: Table[int] = Table("rates", msgspec.json.encode, msgspec.json.decode)
PRICES: Table[tuple[int, int | None]] = Table(
    "prices", msgspec.json.encode, msgspec.json.Decoder(tuple[int, int | None]).decode
)


def _put(table: MutableMapping[str, Any], change: Change, row: Any) -> None:
    """Write first and raise then: what a rule left behind must be undone."""
    if change.value is not None:
        table[change.thing] = row
    elif change.thing in table:
        del table[change.thing]
    if change.is_bad:
        raise ValueError(change.event_id)


def rate(changes: Iterable[Change], rates: MutableMapping[str, int]) -> None:
    for change in changes:
        _put(rates, change, change.value)


def price(
    changes: Iterable[Change], prices: MutableMapping[str, Any], rates: Mapping[str, int]
) -> None:
    for change in changes:
        _put(prices, change, (change.value, rates.get(change.thing)))


def see(
    changes: Iterable[Change],
    prices: Mapping[str, tuple[int, int | None]],
    rates: Mapping[str, int],
) -> Iterator[Seen]:
    for change in changes:
        if change.is_bad:
            raise ValueError(change.event_id)
        thing = change.thing
        yield Seen(change.event_id, change.timestamp, thing, prices.get(thing), rates.get(thing))


def _agent(name: str, topic: Topic, rule: Any, *tables: Table[Any]) -> Callable[[App[Any]], None]:
    def register(app: App[Any]) -> None:
        async def agent(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, batch.all(), *tables)

        agent.__name__ = name
        app.agent(topic)(agent)

    return register


CHAIN = Topology(
    (
        Flow(
            _agent("see", ORDERED, see, PRICES, RATES),
            "see",
            reads=(ORDERED,),
            joins=(PRICES, RATES),
            emits=SEEN,
        ),
        Flow(
            _agent("price", QUOTED, price, PRICES, RATES),
            "price",
            reads=(QUOTED,),
            keeps=PRICES,
            joins=(RATES,),
        ),
        Flow(_agent("rate", RATED, rate, RATES), "rate", reads=(RATED,), keeps=RATES),
    ),
    dead_letters="dead-letters",
)
PRECEDENCE = (RATED, QUOTED, ORDERED)
Script = Mapping[Topic, list[Change]]


class Result(NamedTuple):
    """What must come out, the tables at the end, and how many records were dropped."""

    seen: list[Seen]
    prices: dict[str, Any]
    rates: dict[str, int]
    dead: int


def script_of(random: Random) -> Script:
    """Return three inputs that run side by side, roughly in the order of time."""
    span_ms, late_ms = random.choice([10, 30, 100]), random.choice([0, 3, 15])
    bad = random.choice([0.0, 0.05, 0.2])
    return {
        topic: [
            Change(
                f"{topic.name}-{number}",
                NOW_MS + max(0, time_ms + random.randint(-late_ms, late_ms)),
                random.choice("ab"),
                random.choice([None, *range(9)]),
                random.random() < bad,
            )
            for number, time_ms in enumerate(
                sorted(random.randrange(span_ms) for _ in range(random.randrange(60)))
            )
        ]
        for topic in PRECEDENCE
    }


def expected(script: Script) -> Result:
    """Return the same, one record at a time in the order that law 9 gives them."""
    result = Result([], {}, {}, 0)
    queues = [list(script[topic]) for topic in PRECEDENCE]
    dead = 0
    while any(queues):
        # min() takes the first on ties: the table's input.
        queue = min((q for q in queues if q), key=lambda q: q[0].timestamp)
        change = queue.pop(0)
        dead += change.is_bad
        if change.is_bad:
            continue
        if queue is queues[0]:
            rate([change], result.rates)
        elif queue is queues[1]:
            price([change], result.prices, result.rates)
        else:
            result.seen.extend(see([change], result.prices, result.rates))
    return result._replace(dead=dead)


def outcome(driver: Driver) -> Result:
    """Return what came out; changelogs and disk must agree."""
    prices, rates = driver.table(PRICES), driver.table(RATES)
    assert prices == {k: PRICES.decode(row) for k, row in driver.changelog(PRICES).items()}
    assert rates == {k: RATES.decode(row) for k, row in driver.changelog(RATES).items()}
    return Result(
        [msgspec.json.decode(sent.value or b"", type=Seen) for sent in driver.sent(SEEN.name)],
        prices,
        rates,
        len(driver.sent("dead-letters")),
    )


def rejoin(driver: Driver) -> None:
    """Have everything taken away and given back while it is at work."""
    for running in driver._workers:
        if running.worker.engine and running.worker.engine._source:
            running.worker.engine._source.rejoin()


@settings(phases=(Phase.explicit, Phase.generate))  # a seed does not shrink
@given(
    random=st.randoms(use_true_random=True),
    cut=cuts,
    runs=st.lists(st.integers(1, 60), max_size=3),
    limit=st.sampled_from([1, 3, 7, 30, 1_000]),
    blow=st.sampled_from(["none", "crash", "fail", "rejoin"]),
    step=st.sampled_from(Step),
    visit=st.integers(1, 8),
)
def test_a_chain_of_joins_is_as_if_taken_record_by_record_whatever_raises_or_breaks(
    *, random: Random, cut: Cuts, runs: list[int], limit: int, blow: str, step: Step, visit: int
) -> None:
    script = script_of(random)
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(
            CHAIN,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=1,
            workers=0,
            max_batch_records=limit,
            max_epoch_records=cut.max_epoch_records,
            max_stretched_interval_ms=1,
        )
        with driver:
            driver.cut_input(runs)
            driver.delay_answers(cut.delays)
            for topic, changes in script.items():
                records = [(c.thing.encode(), msgspec.json.encode(c)) for c in changes]
                driver.pipe(topic, records, timestamp_ms=NOW_MS, settle=False)
            if blow == "crash":
                driver.crash_at(step, visit)
            elif blow == "fail":
                driver.fail_at(step, visit)
            elif blow == "rejoin":
                failpoints.arm(step, failpoints.on_visit(visit, lambda _step: rejoin(driver)))
            driver.start_worker()
            with contextlib.suppress(InjectedFailureError):
                driver.settle()
            driver.restart(settle=False)
            driver.start_worker()
            driver.settle()
            assert outcome(driver) == expected(script)
