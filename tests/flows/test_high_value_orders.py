"""Orders above 1000 are told to whoever watches `high-value-orders`."""

import asyncio

from streams.engine import failpoints
from streams.engine.failpoints import Step
from streams.testing import Driver
from streams.topics import HIGH_VALUE_ORDERS, ORDERS
from tests.flows.stories import NOW_MS, event_of, order, order_ids, orders


def test_an_order_of_high_value_is_told_with_all_that_it_holds(driver: Driver) -> None:
    items = [{"product_id": "prod-3", "quantity": 1, "unit_price": 1299.5}]
    driver.pipe(ORDERS, [order(1, amount=1299.5, currency="EUR", items=items)])
    (told,) = driver.read(HIGH_VALUE_ORDERS)
    assert told.key == b"ada"
    assert event_of(told) == {
        "event_id": "event-1:order.high_value",
        "event_type": "order.high_value",
        "aggregate_id": "order-1",
        "timestamp": NOW_MS + 1,
        "version": 1,
        "correlation_id": "event-1",
        "causation_id": "event-1",
        "data": {
            "order_id": "order-1",
            "user_id": "ada",
            "amount": 1299.5,
            "currency": "EUR",
            "items": items,
            "category": "HIGH_VALUE",
            "alert_sent": True,
        },
    }


def test_exactly_the_limit_is_not_of_high_value(driver: Driver) -> None:
    amounts = [999.99, 1000.0, 1000.01]
    driver.pipe(ORDERS, [order(n, amount=amount) for n, amount in enumerate(amounts)])
    assert order_ids(driver.read(HIGH_VALUE_ORDERS)) == ["order-2"]


def test_nobody_sees_an_order_before_its_commit(driver: Driver) -> None:
    driver.crash_at(Step.COMMIT_BEFORE_END)
    driver.pipe(ORDERS, orders(range(3), amount=5000.0))
    assert driver.read(HIGH_VALUE_ORDERS) == []
    driver.restart()
    assert order_ids(driver.read(HIGH_VALUE_ORDERS)) == ["order-0", "order-1", "order-2"]


def test_a_refused_send_is_sent_again_and_seen_once(driver: Driver) -> None:
    driver.fail_at(Step.COMMIT_BEFORE_OFFSETS)
    driver.pipe(ORDERS, orders(range(3), amount=5000.0))
    assert driver.struck == [Step.COMMIT_BEFORE_OFFSETS]
    assert order_ids(driver.read(HIGH_VALUE_ORDERS)) == ["order-0", "order-1", "order-2"]


def test_a_commit_that_nobody_called_off_and_that_was_cancelled_is_done_again(
    driver: Driver,
) -> None:
    """As aiokafka may: going on with the next commit would leave out what this one had."""

    def cancel(_step: Step) -> None:
        commit = asyncio.current_task()
        assert commit is not None
        commit.cancel()

    failpoints.arm(Step.COMMIT_BEFORE_END, failpoints.on_visit(1, cancel))
    driver.pipe(ORDERS, orders(range(3), amount=5000.0))
    assert order_ids(driver.read(HIGH_VALUE_ORDERS)) == ["order-0", "order-1", "order-2"]
