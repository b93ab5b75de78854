"""An input that is not what the committed offsets were counted in any more."""

import pytest

from streams.engine.errors import StateMismatchError
from streams.engine.records import TopicPartition
from streams.testing import Driver
from streams.topics import ORDERS, USERS, VIP_UPGRADES
from tables.definitions import USER_ORDERS
from tests.flows.stories import order_ids, orders

ORDERS_0 = TopicPartition(ORDERS.name, 0)


def refused(driver: Driver, said: str) -> None:
    """Start a worker, which is refused; it changes nothing."""
    before = dict(driver.kafka.offsets)
    driver.start_worker()
    with pytest.raises(StateMismatchError, match=said):
        driver.settle()
    driver.kill_worker()
    assert driver.kafka.offsets == before


def reset(driver: Driver) -> None:
    """Start a worker that may reset what it must, and end it."""
    driver._engine_options["reset"] = True
    driver.start_worker()
    driver.settle()
    driver.stop_worker()
    driver._engine_options["reset"] = False


def make_anew(driver: Driver) -> None:
    driver.kafka.delete_topic(ORDERS.name)
    driver.kafka.create_topic(ORDERS.name, driver.partitions)


def total(driver: Driver) -> int:
    return driver.stored(USER_ORDERS)["ada"].orders


def test_a_topic_made_anew_with_more_records_than_before_is_refused(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(3)))
    driver.pipe(USERS, [(b"ada", None)])  # its note remembers `orders`, whose offsets are deleted
    driver.kill_worker()
    make_anew(driver)
    driver.pipe(ORDERS, orders(range(100, 106)), settle=False)
    refused(driver, "orders was deleted and made anew since")

    reset(driver)
    assert total(driver) == 3 + 6
    driver.start_worker()
    driver.pipe(ORDERS, orders([200]))
    assert order_ids(driver.read(VIP_UPGRADES)) == ["order-200"]


def test_an_offset_that_was_committed_after_its_topic_was_made_anew_is_refused(
    driver: Driver,
) -> None:
    driver.pipe(ORDERS, orders(range(3)))
    make_anew(driver)
    driver.pipe(ORDERS, orders(range(6)))  # the worker reads on, from the middle, until it looks
    driver.kill_worker()
    refused(driver, "orders was deleted and made anew since")


def test_a_topic_made_anew_and_empty_is_reset_once(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(3)))
    driver.pipe(USERS, [(b"ada", None)])
    driver.kill_worker()
    make_anew(driver)
    reset(driver)
    driver.start_worker()
    driver.pipe(ORDERS, orders([7]))
    driver.stop_worker()
    assert total(driver) == 4


def test_records_that_are_gone_unread_are_skipped_by_a_reset_alone(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(3)))
    driver.kill_worker()
    driver.pipe(ORDERS, orders(range(3, 9)), settle=False)
    driver.kafka.begins[ORDERS_0] = 5
    refused(driver, r"orders-0 holds no offset 3 \(it has 5 to 9\)")

    reset(driver)
    assert total(driver) == 3 + 4
    driver.start_worker()
    driver.settle()


def test_what_the_brokers_lost_after_it_was_read_is_not_counted_again(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(5)))
    driver.kill_worker()
    del driver.kafka.logs[ORDERS_0][2:]
    refused(driver, r"orders-0 holds no offset 5 \(it has 0 to 2\)")

    reset(driver)
    assert total(driver) == 5
    driver.start_worker()
    driver.pipe(ORDERS, orders([7]))
    driver.stop_worker()
    assert total(driver) == 6


def test_partitions_that_were_added_are_refused(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(5)))
    driver.kill_worker()
    driver.kafka.create_topic(ORDERS.name, driver.partitions + 1)
    refused(driver, "orders has 3 partitions, and had 2")
