"""orders → order-lines → product-sales: lines of all partitions meet at their product."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from config.settings import load_settings
from streams.testing import Driver
from streams.topics import DEAD_LETTERS, ORDER_LINES, ORDERS, PRODUCT_SALES, PRODUCTS
from streams.topology import SALES
from tables.sales import PRODUCT_SALES as OPEN_WINDOWS
from tests.flows.selling import PARTITIONS, selling
from tests.flows.stories import NOW_MS, KeyValue, event_of, order
from tests.flows.test_products import told as product_told
from tests.laws.world import Cuts, cuts

MINUTE_MS = 60_000
USERS = ("ada", "bob", "cy")
NAMES = {"pen": "Fine pen"}
"""Of products that somebody told of, which lie in another task than lines of theirs, mostly."""
# Of these some lie in each partition of order-lines: their lines close the windows there.
CLOSERS = tuple(f"closer-{number}" for number in range(8))


class Line(NamedTuple):
    """A line of an order of a user, so many ms behind NOW_MS."""

    user: int
    product: str
    quantity: int
    price: float
    at_ms: int


def placed(number: int, lines: Sequence[Line]) -> KeyValue:
    """Return an order with these lines, which all have its user and time."""
    first = lines[0]
    items = [
        {"product_id": line.product, "quantity": line.quantity, "unit_price": line.price}
        for line in lines
    ]
    return order(number, user=USERS[first.user], at_ms=first.at_ms, items=items)


def sales(lines: Iterable[Line]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return what is told of each product and window, as the definition says it."""
    held: defaultdict[tuple[str, int], list[Line]] = defaultdict(list)
    for line in lines:
        at_ms = NOW_MS + line.at_ms
        last_ms = at_ms - at_ms % MINUTE_MS
        for start_ms in range(last_ms - 4 * MINUTE_MS, last_ms + 1, MINUTE_MS):
            held[line.product, start_ms].append(line)
    told = {}
    for (product, start_ms), of_window in held.items():
        cents = sorted(line.quantity * round(line.price * 100) for line in of_window)
        told[product, start_ms] = {
            "product_id": product,
            "product_name": NAMES.get(product),
            "window_start": start_ms,
            "window_end": start_ms + 5 * MINUTE_MS,
            "lines": len(of_window),
            "units": sum(line.quantity for line in of_window),
            "revenue": sum(cents) / 100,
            "buyers": len({line.user for line in of_window}),
            "line_amount_p95": cents[-(-95 * len(cents) // 100) - 1] / 100,
        }
    return told


lines = st.builds(
    Line,
    st.integers(0, len(USERS) - 1),
    st.sampled_from(["pen", "ink"]),
    st.integers(0, 3),
    st.sampled_from([0.0, 0.99, 2.5, 1_299.5]),
    st.integers(0, 4 * MINUTE_MS),  # within the grace: none is late, whichever partition is ahead
)


@settings(deadline=None, max_examples=25)
@given(lines=st.lists(lines, max_size=12), cut=cuts)
def test_what_is_told_of_a_product_is_the_same_however_orders_are_cut(
    lines: Sequence[Line], cut: Cuts
) -> None:
    with selling(cut) as driver:
        for number, (product, name) in enumerate(NAMES.items()):
            driver.pipe(PRODUCTS, [product_told(number, "created", product, name=name)])
        for number, line in enumerate(lines):
            driver.pipe(
                ORDERS, [placed(number, [line])], partition=line.user % PARTITIONS, settle=False
            )
        driver.settle()
        last = [Line(0, product, 1, 1.0, 60 * MINUTE_MS) for product in CLOSERS]
        driver.pipe(ORDERS, [placed(len(lines), last)])
        told = [event_of(sent) for sent in driver.sent(PRODUCT_SALES.name)]
        assert {key[0] for key in driver.table(OPEN_WINDOWS)} == {"c"}
        assert driver.sent(SALES.late_records) == []
    expected = sales(lines)
    assert len(told) == len(expected)
    found = {(event["data"]["product_id"], event["data"]["window_start"]): event for event in told}
    for key, data in expected.items():
        of_window = found[key]["data"]
        p95 = data.pop("line_amount_p95")
        assert abs(of_window.pop("line_amount_p95") - p95) <= p95 / 100
        assert of_window == data


def test_a_window_s_event_says_of_which_window_it_is(tmp_path: Path) -> None:
    with Driver(SALES, load_settings(data_dir=tmp_path), partitions=1) as driver:
        two = [Line(0, "pen", 2, 0.5, 0), Line(0, "ink", 1, 7.25, 0)]
        driver.pipe(ORDERS, [placed(1, two), placed(2, [Line(1, "pen", 1, 0.5, 60 * MINUTE_MS)])])
        told = [event_of(sent) for sent in driver.sent(PRODUCT_SALES.name)]
        keys = {sent.key for sent in driver.sent(PRODUCT_SALES.name)}
    start_ms = NOW_MS - NOW_MS % MINUTE_MS
    assert len(told) == 10
    assert keys == {b"pen", b"ink"}
    [first] = [
        each
        for each in told
        if each["event_id"] == f"product_sales:ink:{start_ms}-{start_ms + 300_000}"
    ]
    assert first == {
        "event_type": "product.sales",
        "event_id": f"product_sales:ink:{start_ms}-{start_ms + 300_000}",
        "aggregate_id": "ink",
        "timestamp": start_ms + 299_999,
        "version": 1,
        "correlation_id": first["event_id"],
        "causation_id": None,
        "data": {
            "product_id": "ink",
            "product_name": None,
            "window_start": start_ms,
            "window_end": start_ms + 300_000,
            "lines": 1,
            "units": 1,
            "revenue": 7.25,
            "buyers": 1,
            "line_amount_p95": first["data"]["line_amount_p95"],
        },
    }


def test_an_order_without_lines_has_none_and_one_with_wrong_ones_is_a_dead_letter(
    tmp_path: Path,
) -> None:
    of_sales = load_settings(data_dir=tmp_path)
    wrong = order(3, items=[{"product_id": "pen", "quantity": 1}])
    with Driver(SALES, of_sales, partitions=1) as driver:
        driver.pipe(ORDERS, [order(1), order(2, items=None), wrong, order(4, items=[])])
        assert driver.sent(ORDER_LINES.of(of_sales.app_id).name) == []
        [letter] = driver.sent(SALES.dead_letters)
    assert SALES.dead_letters != DEAD_LETTERS
    assert (letter.key, letter.value) == wrong
    told = dict(letter.headers)
    assert told["headrace.agent"] == b"order_lines"
    assert "Object missing required field `unit_price` - at `$[0]`" in json.dumps(
        told["__streams.errors.message"].decode()
    )
