"""An order is told with its user as they were when it was placed: by event time, not by arrival."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agents.enriched_orders.rules import enrich
from config.settings import load_settings
from streams.engine import failpoints
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Topology
from streams.engine.errors import DefinitionError
from streams.engine.failpoints import Step
from streams.events import OrderCreated, OrderEnriched
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ENRICHED_ORDERS, ORDERS, USERS
from streams.topology import TOPOLOGY
from tables import definitions as tables
from tables.definitions import User
from tests.flows.stories import NOW_MS, KeyValue, counts, event_of, order, user_event

ACTIVE = {"email": None, "country": None, "status": "active"}
FRENCH = {"email": None, "country": "FR", "status": "active"}


def append(driver: Driver, users: Sequence[KeyValue], orders: Sequence[KeyValue]) -> None:
    """Append to both topics before anybody reads of either."""
    driver.pipe(USERS, users, settle=False)
    driver.pipe(ORDERS, orders, settle=False)


def told(driver: Driver) -> dict[str, Any]:
    """Return the user with whom each order was told, in the order of the topic; each order once."""
    events = [event_of(sent)["data"] for sent in driver.sent(ENRICHED_ORDERS.name)]
    found = {data["order_id"]: data["user"] for data in events}
    assert len(found) == len(events)
    return found


def test_an_order_is_told_with_its_user(driver: Driver) -> None:
    profile: dict[str, Any] = {"username": "ada", "email": "ada@example.org", "country": "GB"}
    driver.pipe(USERS, [user_event("registered", **profile)], partition=1)
    driver.pipe(ORDERS, [order(1, amount=19.99, items=[{"note": None}])], partition=1)
    (sent,) = driver.read(ENRICHED_ORDERS)
    assert (sent.partition, sent.key, sent.headers) == (1, b"ada", ())
    assert event_of(sent) == {
        "event_id": "event-1:order.enriched",
        "event_type": "order.enriched",
        "aggregate_id": "order-1",
        "timestamp": NOW_MS + 1,
        "version": 1,
        "correlation_id": "event-1",
        "causation_id": "event-1",
        "data": {
            "order_id": "order-1",
            "user_id": "ada",
            "amount": 19.99,
            "currency": "USD",
            "items": [{"note": None}],
            "user": {"email": "ada@example.org", "country": "GB", "status": "active"},
        },
    }


def test_an_order_knows_what_was_told_before_it_and_nothing_that_was_told_later(
    driver: Driver,
) -> None:
    append(
        driver,
        [user_event("registered", 5), user_event("updated", 7, changes={"country": "FR"})],
        [order(4), order(5), order(6), order(7), order(8)],
    )
    driver.settle()
    assert list(told(driver).items()) == [
        ("order-4", None),
        ("order-5", ACTIVE),  # on equal times the user goes first
        ("order-6", ACTIVE),
        ("order-7", FRENCH),
        ("order-8", FRENCH),
    ]


def test_a_user_that_is_deleted_between_two_orders_is_gone_for_the_second(driver: Driver) -> None:
    append(
        driver,
        [user_event("registered", 1), user_event("deleted", 3), user_event("registered", 5)],
        [order(2), order(4), order(6)],
    )
    driver.settle()
    assert told(driver) == {"order-2": ACTIVE, "order-4": None, "order-6": ACTIVE}


def test_an_event_behind_a_newer_one_of_its_topic_waits_for_that_ones_turn(driver: Driver) -> None:
    append(
        driver,
        [user_event("logged_in", 5, user="bob"), user_event("registered", 1)],
        [order(4), order(9), order(2)],
    )
    driver.settle()
    assert told(driver) == {"order-4": None, "order-9": ACTIVE, "order-2": ACTIVE}


def test_users_that_nobody_else_tells_of_are_not_waited_for(driver: Driver) -> None:
    driver.pipe(ORDERS, [order(5)])
    driver.pipe(USERS, [user_event("registered", 1)])
    driver.pipe(ORDERS, [order(6)])
    assert told(driver) == {"order-5": None, "order-6": ACTIVE}


def test_refused_and_skipped_events_take_no_turn(driver: Driver) -> None:
    far = user_event("status_changed", 100)  # without a status: refused
    append(
        driver,
        [far, user_event("applauded", 100), user_event("registered", 1)],
        [(b"ada", None), order(2), (b"ada", b"?"), order(3)],
    )
    driver.settle()
    assert told(driver) == {"order-2": ACTIVE, "order-3": ACTIVE}
    assert counts(driver)["enriched_orders"].processed == 2


def test_orders_of_each_user_are_told_in_their_order_each_with_their_own(driver: Driver) -> None:
    users = [user_event("registered", n, user=f"user-{n}") for n in range(0, 40, 4)]
    orders = [order(n, user=f"user-{n % 40 // 4 * 4}") for n in range(80)]
    append(driver, users, orders)
    driver.settle()
    assert told(driver) == {f"order-{n}": ACTIVE for n in range(80)}


# -- a story of many changes, told in several ways ------------------------------------------------


def life() -> list[tuple[KeyValue, KeyValue]]:
    """Return user events, each with an order of the same user that was placed just before."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("registered", {}),
        ("updated", {"changes": {"country": "FR"}}),
        ("status_changed", {"status": "frozen"}),
        ("deleted", {}),
    ]
    moments = []
    for n in range(24):
        kind, data = kinds[n // 2 % 4]
        user = ("ada", "bob")[n % 2]
        at_ms = 10 * n
        event = user_event(kind, at_ms, user=user, **data)
        moments.append((event, order(n, user=user, at_ms=at_ms - 1)))
    return moments


def wanted() -> dict[str, Any]:
    frozen = {"email": None, "country": "FR", "status": "frozen"}
    return {f"order-{n}": (None, ACTIVE, FRENCH, frozen)[n // 2 % 4] for n in range(24)}


def test_what_is_told_live_is_what_the_times_say(driver: Driver) -> None:
    for event, placed in life():
        driver.pipe(ORDERS, [placed])
        driver.pipe(USERS, [event])
    assert told(driver) == wanted()


@pytest.mark.parametrize("users_first", [True, False], ids=["users first", "orders first"])
@pytest.mark.parametrize(
    ("run_length", "max_batch_records"), [(1, 1), (3, 2), (1_000, 5), (7, 1_000), (1_000, 1_000)]
)
def test_a_replay_of_both_topics_is_told_as_it_was_live(
    tmp_path: Path, run_length: int, max_batch_records: int, *, users_first: bool
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(
        TOPOLOGY, settings, workers=0, max_batch_records=max_batch_records, max_epoch_records=3
    ) as driver:
        driver.cut_input([run_length])
        moments = life()
        both = [
            (USERS, [event for event, _ in moments]),
            (ORDERS, [placed for _, placed in moments]),
        ]
        for topic, records in both if users_first else reversed(both):
            driver.pipe(topic, records, settle=False)
        driver.start_worker()
        driver.settle()
        assert told(driver) == wanted()


@pytest.mark.parametrize("visit", [2, 5])
@pytest.mark.parametrize("step", [s for s in Step if s.value.startswith(("commit.", "process."))])
def test_a_crash_changes_no_turn(tmp_path: Path, step: Step, visit: int) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(
        TOPOLOGY, settings, workers=0, partitions=1, max_batch_records=2, max_epoch_records=1
    ) as driver:
        moments = life()
        append(driver, [event for event, _ in moments], [placed for _, placed in moments])
        driver.crash_at(step, visit)
        driver.start_worker()
        driver.settle()
        assert driver.struck == [step]
        driver.kill_worker()
        driver.start_worker()
        driver.settle()
        assert told(driver) == wanted()


@pytest.mark.parametrize("visit", [1, 2, 3, 4])
def test_a_hand_over_between_two_inputs_changes_no_turn(tmp_path: Path, visit: int) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(
        TOPOLOGY, settings, workers=0, partitions=1, max_batch_records=3, max_epoch_records=1
    ) as driver:

        def rejoin(_step: Step) -> None:
            for running in driver._workers:
                if running.worker.engine and running.worker.engine._source:
                    running.worker.engine._source.rejoin()

        # In offset order ada's registration lies behind bob's log-in, in whose step its own order is.
        users = [user_event("logged_in", 5, user="bob"), user_event("registered", 1)] * 3
        append(driver, users, [order(4), order(5), order(6), order(7, user="bob"), order(8)])
        failpoints.arm(Step.PROCESS_AFTER_BATCH, failpoints.on_visit(visit, rejoin))
        driver.start_worker()
        driver.settle()
        found = told(driver)
        assert found.pop("order-7") == {"email": None, "country": None, "status": None}
        assert found == {"order-4": None, "order-5": ACTIVE, "order-6": ACTIVE, "order-8": ACTIVE}


# -- rules that use a joined table as nobody can ---------------------------------------------------


def sort_first(
    orders: Iterable[OrderCreated], users: Mapping[str, User]
) -> Iterator[OrderEnriched]:
    return enrich(sorted(orders, key=lambda order: order.timestamp), users)


def write(orders: Iterable[OrderCreated], users: Any) -> Iterator[OrderEnriched]:
    for order_ in orders:
        users[order_.data.user_id] = User()
        yield from ()


def count_first(orders: Any, users: Mapping[str, User]) -> Iterator[OrderEnriched]:
    return enrich(orders if len(orders) else (), users)


def odd_topology(rule: Any, events_of: Callable[[Batch], Sequence[Any]]) -> Topology:
    """Return the production topology with another rule behind the enriched orders."""

    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def odd(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(rule, events_of(batch), tables.USERS)

    flow = Flow(register, "odd", reads=(ORDERS,), joins=(tables.USERS,), emits=ENRICHED_ORDERS)
    return Topology((*TOPOLOGY.flows, flow), dead_letters=DEAD_LETTERS)


@pytest.mark.parametrize(
    ("rule", "events_of", "line"),
    [
        (
            sort_first,
            lambda batch: batch.of(OrderCreated),
            (
                "flow odd uses table users outside of its rule's loop over the events: it is joined, and "
                "what it holds depends on the event"
            ),
        ),
        (
            write,
            lambda batch: batch.of(OrderCreated),
            "flow odd writes 'ada' to table users, which it joins and does not keep",
        ),
        (
            enrich,
            lambda batch: batch.of(OrderCreated)[::-1],
            (
                "flow odd uses a joined or timed table, and gives its rule other events than those of "
                "the batch, or in another order"
            ),
        ),
    ],
    ids=["sorts them first", "writes", "turns them round"],
)
def test_a_rule_that_cannot_be_stops_the_worker_with_one_line_and_nothing_is_committed(
    tmp_path: Path, rule: Any, events_of: Callable[[Batch], Sequence[Any]], line: str
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(odd_topology(rule, events_of), settings, partitions=1, workers=0) as driver:
        append(driver, [user_event("registered", 5)], [order(4), order(6), order(7)])
        append(driver, [user_event("deleted", 8)], [order(9)])
        driver.start_worker()
        with pytest.raises(DefinitionError) as raised:
            driver.settle()
        assert str(raised.value) == line
        assert driver.sent(DEAD_LETTERS) == driver.sent(ENRICHED_ORDERS.name) == []


def test_a_rule_that_cannot_be_is_refused_also_where_no_event_of_the_other_input_comes(
    tmp_path: Path,
) -> None:
    topology = odd_topology(sort_first, lambda batch: batch.of(OrderCreated))
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(topology, settings, partitions=1) as driver:
        with pytest.raises(DefinitionError, match="outside of its rule's loop over the events"):
            driver.pipe(ORDERS, [order(1)])
        assert driver.read(ENRICHED_ORDERS) == []


@pytest.mark.parametrize("live", [True, False], ids=["live", "replayed"])
def test_what_a_rule_can_do_with_its_events_does_not_hang_on_whose_turn_comes_in_between(
    tmp_path: Path, *, live: bool
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    topology = odd_topology(count_first, lambda batch: batch.of(OrderCreated))
    with Driver(topology, settings, partitions=1) as driver:
        driver.pipe(ORDERS, [order(4)], settle=live)
        driver.pipe(USERS, [user_event("registered", 5)], settle=live)
        driver.pipe(ORDERS, [order(6)])
        told_of = [
            dict(sent.headers)["__streams.errors.message"] for sent in driver.sent(DEAD_LETTERS)
        ]
        assert len(told_of) == 2
        assert all(b"has no len()" in text for text in told_of)
