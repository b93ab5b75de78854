"""products → table products, stock-alerts and product_views, as told stories."""

import json
from pathlib import Path
from typing import Any

import pytest

from config.settings import load_settings
from streams.testing import Driver
from streams.topics import PRODUCTS, STOCK_ALERTS
from streams.topology import SALES
from tables.products import PRODUCT_VIEWS, Product, ProductHour
from tables.products import PRODUCTS as ROWS
from tests.flows.stories import NOW_MS, KeyValue, event_of

HOUR_MS = 3_600_000


def told(
    number: int, kind: str, product: str = "pen", at_ms: int | None = None, **data: Any
) -> KeyValue:
    event = {
        "event_id": f"e-{number}",
        "event_type": f"product.{kind}",
        "aggregate_id": product,
        "timestamp": NOW_MS + (number if at_ms is None else at_ms),
        "data": {"product_id": product, **data},
    }
    return product.encode(), json.dumps(event).encode()


def running(folder: Path, **settings: Any) -> Driver:
    return Driver(SALES, load_settings(data_dir=folder, **settings), partitions=1)


def test_a_product_is_what_was_told_of_it_last(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        driver.pipe(PRODUCTS, [told(1, "created", name="Pen", price=2.5, stock=50)])
        assert driver.table(ROWS) == {"pen": Product("Pen", 2.5, 50)}
        later = [
            told(2, "updated", name="Fine pen"),
            told(3, "updated"),
            told(4, "price.updated", price=3),
            told(5, "stock.updated", stock=20),
            told(6, "viewed"),
            told(7, "created"),
            told(8, "price.updated", "ink", price=1.25),
            told(9, "viewed", "pad"),
        ]
        driver.pipe(PRODUCTS, later)
        assert driver.table(ROWS) == {
            "pen": Product("Fine pen", 3, 20), "ink": Product(None, 1.25, None),
        }  # fmt: skip


@pytest.mark.parametrize("run_length", [1, 100])
def test_few_are_told_once_until_there_are_enough_again(tmp_path: Path, run_length: int) -> None:
    with running(tmp_path, low_stock=5) as driver:
        driver.cut_input([run_length])
        stocks = [5, 4, 3, 3, 5, 0]
        moved = [told(n, "stock.updated", stock=stock) for n, stock in enumerate(stocks, 1)]
        driver.pipe(PRODUCTS, [told(0, "created", name="Pen"), *moved])
        alerts = [event_of(sent) for sent in driver.sent(STOCK_ALERTS.name)]
    assert [alert["data"]["stock"] for alert in alerts] == [4, 0]
    assert alerts[0] == {
        "event_type": "product.stock_low",
        "event_id": "e-2:product.stock_low",
        "aggregate_id": "pen",
        "timestamp": NOW_MS + 2,
        "version": 1,
        "correlation_id": "e-2",
        "causation_id": "e-2",
        "data": {"product_id": "pen", "name": "Pen", "stock": 4},
    }


def test_another_setting_tells_nothing_by_itself(tmp_path: Path) -> None:
    with running(tmp_path, low_stock=5) as driver:
        driver.pipe(PRODUCTS, [told(1, "stock.updated", stock=7)])
        driver.kill_worker()
        driver.start_worker(load_settings(data_dir=tmp_path, low_stock=9))
        driver.pipe(PRODUCTS, [told(2, "viewed"), told(3, "stock.updated", stock=7)])
        assert driver.sent(STOCK_ALERTS.name) == []
        driver.pipe(PRODUCTS, [told(4, "stock.updated", stock=8)])
        assert [event_of(sent)["event_id"] for sent in driver.sent(STOCK_ALERTS.name)] == [
            "e-4:product.stock_low"
        ]


def test_looks_are_counted_by_the_hour(tmp_path: Path) -> None:
    hour_ms = NOW_MS - NOW_MS % HOUR_MS
    with running(tmp_path) as driver:
        looks = [
            told(1, "viewed", at_ms=0), told(2, "viewed", at_ms=HOUR_MS), told(3, "viewed", at_ms=1),
            told(4, "viewed", "ink", at_ms=2), told(5, "stock.updated", stock=99, at_ms=2),
        ]  # fmt: skip
        driver.pipe(PRODUCTS, looks)
        assert driver.table(PRODUCT_VIEWS) == {
            f"pen@{hour_ms}": ProductHour(2),
            f"pen@{hour_ms + HOUR_MS}": ProductHour(1),
            f"ink@{hour_ms}": ProductHour(1),
        }


def test_a_price_of_more_than_two_decimals_is_refused(tmp_path: Path) -> None:
    with running(tmp_path) as driver:
        driver.pipe(
            PRODUCTS, [told(1, "created", price=1.001), told(2, "price.updated", price=2.005)]
        )
        letters = driver.sent(SALES.dead_letters)
        assert driver.table(ROWS) == {}
    texts = [dict(letter.headers)["__streams.errors.message"].decode() for letter in letters]
    assert texts == [f"data.price: {price} has more than two decimals" for price in (1.001, 2.005)]
