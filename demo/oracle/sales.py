"""What the flows of the group `sales` make of records: docs/contract.md and docs/event-time.md again.

Nothing is late, and in which turns events are taken changes nothing, as long as demo/event_clock.py has made
the input. Partitions of what goes on by another key are those of docs/decisions/0031-repartition-topics.md.
"""

import zlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from demo.oracle.estimates import diff_near, distinct, quantile
from demo.oracle.outcome import DeadLetter, Derived, Outcome, diff_events, diff_letters, diff_rows
from demo.oracle.products import keep_products
from demo.oracle.records import ORDERS, PRODUCTS, USERS, Json, Source, judge

SALES_DERIVED = ("product-sales", "top-products", "order-value-quantiles", "stock-alerts")
SALES_TABLES = ("products", "product_views")
"""Those whose rows the contract tells."""

MINUTE_MS = 60_000
WINDOW_MS = 5 * MINUTE_MS
GRACE_MS = 5 * MINUTE_MS
TOP_GRACE_MS = 15 * MINUTE_MS
TOP = 100
DAY_MS = 24 * 60 * MINUTE_MS
DAY_GRACE_MS = 60 * MINUTE_MS
SETTLED_AFTER_MS = MINUTE_MS

Input = Mapping[str, Mapping[int, Iterable[Source]]]


def expect_sales(records: Input, max_ahead_ms: int = 3_600_000) -> Outcome:
    """Return what must come of the records of `users`, `orders` and `products`, by topic and partition."""
    outcome = Outcome(
        tables={name: {} for name in SALES_TABLES}, derived={name: {} for name in SALES_DERIVED}
    )
    sold, valued = _Sold(), _Valued()
    for partition in sorted({number for sources in records.values() for number in sources}):
        events = {
            topic: list(_valid(topic, partition, records, max_ahead_ms, outcome))
            for topic in (USERS, ORDERS, PRODUCTS)
        }
        keep_products(partition, events[PRODUCTS], outcome)
        orders = [event for event in events[ORDERS] if event["event_type"] == "order.created"]
        placed = [order for order in orders if _lines(order) is not None]
        for order in placed:
            sold.add(order)
        met = [*events[USERS], *events[ORDERS]]
        end_ms = max((event["timestamp"] for event in met), default=0)
        countries = _Countries(events[USERS])
        for order in placed:
            if order["timestamp"] + SETTLED_AFTER_MS <= end_ms:
                valued.add(order, countries.as_of(order["data"]["user_id"], order["timestamp"]))
    partitions = max((len(by_partition) for by_partition in records.values()), default=1)
    windows = list(sold.told(partitions, outcome.tables["products"]))
    _tell(outcome, "product-sales", windows, partitions)
    # They are made of what has gone on to one partition.
    ranked = [Derived(key.encode(), event) for key, event in _top([one for _, one in windows])]
    if ranked:
        outcome.derived["top-products"][_partition_of("all", partitions)] = ranked
    _tell(outcome, "order-value-quantiles", valued.told(partitions), partitions)
    return outcome


def diff_sales(expected: Outcome, actual: Outcome) -> list[str]:
    """Return a line for each difference, none where the two agree."""
    lines: list[str] = []
    for table in SALES_TABLES:
        lines += diff_rows(table, expected.tables[table], actual.tables.get(table, {}))
    for topic, wanted in expected.derived.items():
        found = actual.derived.get(topic, {})
        for partition in sorted({*wanted, *found}):
            diff = diff_events if topic == "stock-alerts" else diff_near
            both = wanted.get(partition, []), found.get(partition, [])
            lines += diff(f"{topic}[{partition}]", *both)
    return lines + diff_letters(expected.dead_letters, actual.dead_letters)


def _valid(
    topic: str, partition: int, records: Input, max_ahead_ms: int, outcome: Outcome
) -> Iterator[Json]:
    """Yield the events; an order whose items are none is told to the outcome, too, but moves stream time."""
    for source in records.get(topic, {}).get(partition, ()):
        verdict = judge(topic, source, max_ahead_ms)
        if verdict is None:
            outcome.skipped[topic] += 1
            continue
        reason = verdict if isinstance(verdict, str) else None
        if isinstance(verdict, dict):
            yield verdict
            if verdict["event_type"] == "order.created" and _lines(verdict) is None:
                reason = "rule-failed"
        if reason is not None:
            outcome.dead_letters.append(DeadLetter(topic, partition, source.offset, reason))


def _tell(outcome: Outcome, topic: str, told: Iterable[tuple[str, Json]], partitions: int) -> None:
    for key, event in told:
        events = outcome.derived[topic].setdefault(_partition_of(key, partitions), [])
        events.append(Derived(key.encode(), event))


def _partition_of(key: str, partitions: int) -> int:
    return zlib.crc32(key.encode()) % partitions


class _Highest:
    """Stream time of each partition that records go on to by another key."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._by_partition: dict[int, int] = {}

    def see(self, key: str, time_ms: int) -> None:
        partition = _partition_of(key, self._partitions)
        self._by_partition[partition] = max(time_ms, self._by_partition.get(partition, 0))

    def of(self, key: str) -> int:
        return self._by_partition[_partition_of(key, self._partitions)]


# --- product-sales --------------------------------------------------------------------------------


class _Line(NamedTuple):
    product_id: str
    user_id: str
    time_ms: int
    quantity: int
    amount: Decimal


def _lines(order: Json) -> list[_Line] | None:
    """Return an order's lines, None where its items are none."""
    items = order["data"]["items"]
    if items is None:
        return []
    if not isinstance(items, list) or not all(map(_is_item, items)):
        return None
    user_id, time_ms = order["data"]["user_id"], order["timestamp"]
    return [
        _Line(
            item["product_id"], user_id, time_ms, quantity, quantity * Decimal(item["unit_price"])
        )
        for item in items
        for quantity in [item["quantity"]]
    ]


def _is_item(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("product_id"), str)
        and _is_number(item.get("quantity"), int)
        and _is_number(item.get("unit_price"), int | Decimal)
    )


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and value >= 0


@dataclass
class _Sold:
    """The lines of all orders."""

    lines: list[_Line] = field(default_factory=list)

    def add(self, order: Json) -> None:
        self.lines += _lines(order) or ()

    def told(self, partitions: int, products: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
        """Yield product and event of each window that has closed. Names of products never change."""
        highest = _Highest(partitions)
        windows: defaultdict[tuple[str, int], list[_Line]] = defaultdict(list)
        for line in self.lines:
            highest.see(line.product_id, line.time_ms)
            latest_ms = line.time_ms - line.time_ms % MINUTE_MS
            for start_ms in range(latest_ms - WINDOW_MS + MINUTE_MS, latest_ms + 1, MINUTE_MS):
                windows[line.product_id, start_ms].append(line)
        for (product_id, start_ms), lines in windows.items():
            end_ms = start_ms + WINDOW_MS
            if end_ms + GRACE_MS <= highest.of(product_id):
                data = {
                    "product_id": product_id,
                    "product_name": products.get(product_id, {}).get("name"),
                    "window_start": start_ms,
                    "window_end": end_ms,
                    **_of_lines(lines),
                }
                window = f"product_sales:{product_id}:{start_ms}-{end_ms}"
                yield product_id, _of_window("product.sales", window, product_id, data)


def _of_lines(lines: Sequence[_Line]) -> Json:
    amounts = sorted(line.amount for line in lines)
    return {
        "lines": len(lines),
        "units": sum(line.quantity for line in lines),
        "revenue": sum(amounts, Decimal(0)),
        "buyers": distinct(len({line.user_id for line in lines})),
        "line_amount_p95": quantile(amounts, 95),
    }


# --- top-products ---------------------------------------------------------------------------------


def _top(sales: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """Yield key and event of each window of whose products nothing more is waited for."""
    windows: defaultdict[tuple[int, int], list[Json]] = defaultdict(list)
    for sold in sales:
        data = sold["data"]
        windows[data["window_start"], data["window_end"]].append(data)
    stream_time_ms = max((end_ms - 1 for _, end_ms in windows), default=0)
    for (start_ms, end_ms), of_window in windows.items():
        if end_ms + TOP_GRACE_MS <= stream_time_ms:
            best = sorted(of_window, key=lambda data: (-data["revenue"], data["product_id"]))
            products = [
                {"rank": rank, **{name: data[name] for name in _RANKED}}
                for rank, data in enumerate(best[:TOP], 1)
            ]
            data = {"window_start": start_ms, "window_end": end_ms, "products": products}
            key = f"{start_ms}-{end_ms}"
            yield key, _of_window("products.top", f"top_products:{key}", key, data)


_RANKED = ("product_id", "product_name", "units", "revenue")


# --- order-value-quantiles ------------------------------------------------------------------------


class _Countries:
    """Where users were when."""

    def __init__(self, events: Iterable[Json]) -> None:
        self._told: defaultdict[str, list[tuple[int, str | None]]] = defaultdict(list)
        for event in events:
            data, time_ms = event["data"], event["timestamp"]
            match event["event_type"]:
                case "user.registered":
                    country = data["country"]
                case "user.updated":
                    country = data["changes"]["country"]
                case "user.deleted":
                    self._told[data["user_id"]].append((time_ms, None))
                    continue
                case _:
                    continue
            if country is not None:
                self._told[data["user_id"]].append((time_ms, country))
        for told in self._told.values():
            told.sort(key=lambda each: each[0])  # of equal times the later offset holds

    def as_of(self, user_id: str, time_ms: int) -> str | None:
        told = self._told.get(user_id, [])
        at = bisect_right(told, time_ms, key=lambda each: each[0])
        return told[at - 1][1] if at else None


@dataclass
class _Valued:
    """What orders were worth whose country is settled: country, time and amount."""

    values: list[tuple[str | None, int, Decimal]] = field(default_factory=list)

    def add(self, order: Json, country: str | None) -> None:
        self.values.append((country, order["timestamp"], order["data"]["amount"]))

    def told(self, partitions: int) -> Iterator[tuple[str, Json]]:
        """Yield key and event of each day of a country that has ended."""
        highest = _Highest(partitions)
        days: defaultdict[tuple[str | None, int], list[Decimal]] = defaultdict(list)
        for country, time_ms, amount in self.values:
            highest.see(country or "", time_ms)
            days[country, time_ms - time_ms % DAY_MS].append(amount)
        for (country, start_ms), amounts in days.items():
            key, end_ms = country or "", start_ms + DAY_MS
            if end_ms + DAY_GRACE_MS <= highest.of(key):
                ordered = sorted(amounts)
                data = {
                    "country": country,
                    "window_start": start_ms,
                    "window_end": end_ms,
                    "orders": len(ordered),
                    "amount": sum(ordered, Decimal(0)),
                    **{f"p{percent}": quantile(ordered, percent) for percent in (50, 90, 99)},
                }
                window = f"order_value_quantiles:{key}:{start_ms}-{end_ms}"
                yield key, _of_window("country.order_value_quantiles", window, key, data)


def _of_window(event_type: str, event_id: str, about: str, data: Json) -> Json:
    return {
        "event_id": event_id,
        "event_type": event_type,
        "aggregate_id": about,
        "timestamp": data["window_end"] - 1,
        "version": 1,
        "correlation_id": event_id,
        "causation_id": None,
        "data": data,
    }
