"""Ten orders make a VIP, once, whatever happens meanwhile."""

import pytest

from streams.engine.errors import StateMismatchError
from streams.engine.failpoints import Step
from streams.testing import Driver
from streams.topics import ORDERS, VIP_UPGRADES
from tables.definitions import USER_ORDERS, UserOrders
from tests.flows.stories import NOW_MS, event_of, order, order_ids, orders


def test_a_user_is_upgraded_once_with_the_tenth_order(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(1, 10)))
    assert driver.read(VIP_UPGRADES) == []
    driver.pipe(ORDERS, orders(range(10, 25)))
    (upgrade,) = driver.read(VIP_UPGRADES)
    assert upgrade.key == b"ada"
    assert event_of(upgrade) == {
        "event_id": "event-10:user.vip_upgraded",
        "event_type": "user.vip_upgraded",
        "aggregate_id": "ada",
        "timestamp": NOW_MS + 10,
        "version": 1,
        "correlation_id": "event-10",
        "causation_id": "event-10",
        "data": {"user_id": "ada", "order_count": 10, "order_id": "order-10"},
    }
    assert driver.table(USER_ORDERS) == {
        "ada": UserOrders(24, 24_000, NOW_MS + 1, NOW_MS + 24, vip=True)
    }


def test_an_upgrade_stays_on_the_partition_of_its_order(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(10)), partition=1)
    assert [sent.partition for sent in driver.read(VIP_UPGRADES)] == [1]


def test_users_are_counted_apart(driver: Driver) -> None:
    driver.pipe(ORDERS, [order(n, user=("ada", "bob")[n % 2]) for n in range(18)])
    assert driver.read(VIP_UPGRADES) == []
    driver.pipe(ORDERS, orders([20], user="bob"))
    assert order_ids(driver.read(VIP_UPGRADES)) == ["order-20"]


@pytest.mark.parametrize("step", [s for s in Step if s.value.startswith("commit.")])
def test_a_crash_in_a_commit_upgrades_nobody_twice(driver: Driver, step: Step) -> None:
    driver.crash_at(step)
    driver.pipe(ORDERS, orders(range(1, 11)))
    assert driver.struck == [step]
    driver.restart()
    driver.pipe(ORDERS, orders(range(11, 16)))
    assert order_ids(driver.read(VIP_UPGRADES)) == ["order-10"]
    assert driver.table(USER_ORDERS)["ada"].orders == 15


def test_a_rebuilt_table_remembers_who_is_vip(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(12)))
    driver.read(VIP_UPGRADES)
    driver.kill_worker()
    driver.lose_disk()
    driver.start_worker()
    driver.pipe(ORDERS, orders(range(12, 24)))
    assert driver.read(VIP_UPGRADES) == []
    assert driver.table(USER_ORDERS)["ada"].orders == 24


def test_rows_without_committed_offsets_stop_every_start(driver: Driver) -> None:
    driver.pipe(ORDERS, orders(range(3)))
    driver.kill_worker()
    driver.lose_disk()
    driver.kafka.offsets.clear()
    for _ in range(3):
        driver.start_worker()
        with pytest.raises(StateMismatchError, match="no committed offsets for orders-0"):
            driver.settle()
        driver.kill_worker()
