"""A group reads orders, or the deduplicated ones in their place, and never changes over."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from streams.engine.definitions import Topic, Topology
from streams.engine.errors import StateMismatchError
from streams.testing import Driver
from streams.topics import ENRICHED_ORDERS, ORDERS, ORDERS_DEDUPLICATED, USERS
from streams.topology import DEDUPLICATION, TOPOLOGY, WINDOWS
from tables.definitions import USER_ORDERS
from tests.flows.stories import KeyValue, event_of, orders, user_event

DEDUPLICATED = ORDERS_DEDUPLICATED.name


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with Driver(
        TOPOLOGY.reading(DEDUPLICATED), load_settings(data_dir=tmp_path, commit_interval_ms=1)
    ) as running:
        running.kafka.create_topic(ORDERS.name, running.partitions)
        yield running


def sent_twice(folder: Path, records: list[KeyValue]) -> list[KeyValue]:
    """Return what is passed on of records of which each is sent twice."""
    settings = load_settings(data_dir=folder, commit_interval_ms=1)
    with Driver(DEDUPLICATION, settings) as deduplication:
        deduplication.pipe(ORDERS, [*records, *records])
        return [(sent.key, sent.value) for sent in deduplication.read(ORDERS_DEDUPLICATED)]


def test_what_is_sent_twice_counts_once(driver: Driver, tmp_path: Path) -> None:
    driver.pipe(USERS, [user_event("registered", email="ada@example.org")])
    driver.pipe(ORDERS_DEDUPLICATED, sent_twice(tmp_path / "before", orders(range(3))))
    enriched = [event_of(sent)["data"] for sent in driver.read(ENRICHED_ORDERS)]
    assert [data["order_id"] for data in enriched] == ["order-0", "order-1", "order-2"]
    assert {data["user"]["email"] for data in enriched} == {"ada@example.org"}
    assert driver.table(USER_ORDERS)["ada"].orders == 3
    assert set(driver.tasks()) == {"orders-0", "orders-1"}


@pytest.mark.parametrize("topology", [TOPOLOGY, WINDOWS], ids=["main", "windows"])
@pytest.mark.parametrize("of_users", [[], [user_event("registered")]], ids=["", "users"])
@pytest.mark.parametrize(
    ("first", "then"), [(ORDERS, ORDERS_DEDUPLICATED), (ORDERS_DEDUPLICATED, ORDERS)]
)
def test_a_group_that_has_read_one_is_not_given_the_other(
    tmp_path: Path, topology: Topology, of_users: list[KeyValue], first: Topic, then: Topic
) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(topology.reading(first.name), settings, partitions=1) as driver:
        driver.kafka.create_topic(then.name, 1)
        driver.pipe(first, orders(range(3)))
        driver.pipe(USERS, of_users)
        driver.kill_worker()
        driver.pipe(then, orders(range(3)), settle=False)
        before = dict(driver.kafka.offsets)
        driver.topology = topology.reading(then.name)
        driver.start_worker()
        with pytest.raises(
            StateMismatchError,
            match=f"^group headrace has read {first.name} so far, and is to read {then.name} in its place: "
            f".* Let it read {first.name}; or start afresh with another HEADRACE_APP_ID$",
        ):
            driver.settle()
        driver.kill_worker()
        assert driver.kafka.offsets == before
        driver.topology = topology.reading(first.name)
        driver.start_worker()
        driver.pipe(first, orders([3]))
        assert driver.workers == 1


def test_a_worker_that_reads_the_other_one_is_refused_beside_one_at_work(tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path, commit_interval_ms=1)
    with Driver(TOPOLOGY, settings) as driver:
        driver.kafka.create_topic(DEDUPLICATED, driver.partitions)
        driver.pipe(
            ORDERS, orders(range(3))
        )  # of partition 0 alone: the second worker gets the other
        driver.topology = TOPOLOGY.reading(DEDUPLICATED)
        driver.start_worker()
        with pytest.raises(StateMismatchError, match=r"^group headrace has read orders so far"):
            driver.settle()


def test_one_that_has_read_neither_may_have_either(driver: Driver) -> None:
    driver.pipe(USERS, [user_event("registered")])
    driver.stop_worker()
    driver.topology = TOPOLOGY
    driver.start_worker()
    driver.pipe(ORDERS, orders(range(2)))
    assert driver.table(USER_ORDERS)["ada"].orders == 2
