"""What there is to see of each group in the live view."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from demo.oracle import ORDERS, parse
from demo.oracle.deduplicated import LATE_AFTER_MS
from demo.panel import Panel, Sights, counts
from tables.definitions import USER_ORDERS

_KEPT = 100
_SHOWN = 50


class UserRow(NamedTuple):
    """A row of the table `user_orders`."""

    user: str
    orders: int
    amount_cents: int
    vip: bool


class TopUsers:
    """Those who have spent most. Amounts never shrink, so whoever falls out may be forgotten."""

    def __init__(self) -> None:
        self._rows: dict[str, UserRow] = {}

    def put(self, row: UserRow) -> None:
        """Take a user's newest row."""
        self._rows[row.user] = row
        if len(self._rows) > 2 * _KEPT:
            self._rows = {kept.user: kept for kept in self.first(_KEPT)}

    def first(self, count: int) -> list[UserRow]:
        """Return up to so many (at most 100), first the one who has spent most."""
        return heapq.nlargest(count, self._rows.values(), key=lambda row: row.amount_cents)


class MainSights(Sights):
    """The users who have spent most."""

    def __init__(self) -> None:
        self._top = TopUsers()

    def see_row(self, table: str, record: Any) -> None:
        """See a changed row: a record of a table's changelog."""
        if table == USER_ORDERS.name and record.value is not None:
            row = USER_ORDERS.decode(record.value)
            user = record.key.decode()
            self._top.put(UserRow(user, row.orders, row.amount_cents, row.vip))

    def panels(self, late: Counter[str]) -> list[Panel]:
        """Return the top users."""
        del late
        rows = [
            (row.user, f"{'★ VIP' * row.vip:<5}{row.orders:>7,}{row.amount_cents / 100:>14,.2f}")
            for row in self._top.first(_SHOWN)
        ]
        return [Panel("top users", "orders      amount", rows)]


class WindowsSights(Sights):
    """What was late for which flow."""

    def panels(self, late: Counter[str]) -> list[Panel]:
        """Return the late records."""
        return [counts("late records", late)]


# --- sales ----------------------------------------------------------------------------------------

_WINDOWS_KEPT = 3
_CUT_STOCK: Final = 40


class SalesSights(Sights):
    """What sold best in the latest window, what orders were worth by country, and of what few are left."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._low: dict[str, int] = {}
        """Of the products of which few are left how many, the latest last."""
        self._sold: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        """By the window's end and the product."""
        self._days: defaultdict[int, dict[str, Any]] = defaultdict(dict)
        """By the day's end and the country."""

    def see_record(self, topic: str, record: Any) -> None:
        """See a result."""
        if topic == "product-sales":
            _put(self._sold, parse(record.value)["data"], "product_id")
        elif topic == "order-value-quantiles":
            _put(self._days, parse(record.value)["data"], "country")

    def see_row(self, table: str, record: Any) -> None:
        """See a changed row: a record of a table's changelog."""
        if table != "products" or record.value is None:
            return
        product_id, row = record.key.decode(), parse(record.value)
        self._names[product_id] = row["name"] or product_id
        self._low.pop(product_id, None)
        if row["is_low"]:
            self._low[product_id] = row["stock"]

    def panels(self, late: Counter[str]) -> list[Panel]:
        """Return best sellers, quantiles by country, and what is low."""
        del late
        return [self._best_sellers(), self._quantiles(), self._low_stock()]

    def _best_sellers(self) -> Panel:
        if not self._sold:
            return Panel("best sellers", "", [("no window has closed yet", "")])
        # The latest one has products of some partitions alone, until all have come so far.
        end_ms = sorted(self._sold)[-min(2, len(self._sold))]
        best = heapq.nlargest(_SHOWN, self._sold[end_ms].values(), key=lambda data: data["revenue"])
        rows = [
            (
                self._name(data["product_id"]),
                f"{data['units']:>5,}{data['buyers']:>7,}{data['revenue']:>9,.0f}",
            )
            for data in best
        ]
        return Panel(f"best to {_clock(end_ms)}", "units buyers  revenue", rows)

    def _quantiles(self) -> Panel:
        if not self._days:
            return Panel("worth", "", [("no day has ended yet", "")])
        end_ms = max(self._days)
        largest = sorted(self._days[end_ms].values(), key=lambda data: -data["orders"])
        rows = [
            (
                data["country"] or "??",
                "".join(f"{data[name]:>6,.0f}" for name in ("p50", "p90", "p99")),
            )
            for data in largest
        ]
        return Panel("worth", "p50   p90   p99", rows)

    def _low_stock(self) -> Panel:
        rows = [(self._name(product), f"{left}") for product, left in reversed(self._low.items())]
        return Panel("low stock", f"{len(rows)}", rows[:_CUT_STOCK])

    def _name(self, product_id: str) -> str:
        return self._names.get(product_id, product_id)


def _put(windows: dict[int, dict[str, Any]], data: Any, key: str) -> None:
    """Keep what a window has of a key; few windows are kept."""
    windows[data["window_end"]][data[key]] = data
    if len(windows) > _WINDOWS_KEPT:
        del windows[min(windows)]


def _clock(time_ms: int) -> str:
    hours, minutes = divmod(time_ms // 60_000 % (24 * 60), 60)
    return f"{hours:02}:{minutes:02}"


# --- deduplication --------------------------------------------------------------------------------

_REMEMBERED = 200_000


class DeduplicationSights(Sights):
    """What was passed on, and what was not: each record of `orders` before the last that was.

    What is passed on comes in its order and byte by byte: so whatever lies between two of them was not.
    """

    reads = (ORDERS,)

    def __init__(self) -> None:
        self._waiting: defaultdict[int, deque[Any]] = defaultdict(deque)
        """By partition, records of `orders` of which nothing is known yet."""
        self._passed: defaultdict[int, deque[bytes]] = defaultdict(deque)
        """By partition, values that were passed on and are not found in `orders` yet."""
        self._known: dict[tuple[str, str], None] = {}
        """Users and event ids that were passed on, the latest last."""
        self._counts: Counter[str] = Counter()
        self._now_ms: Counter[int] = Counter()
        """By partition the highest event time that was passed on."""
        self._latest = ""

    def see_record(self, topic: str, record: Any) -> None:
        """See a record of `orders`, or one that was passed on."""
        waiting, passed = self._waiting[record.partition], self._passed[record.partition]
        if topic == ORDERS:
            waiting.append((record.key, record.value))
        elif topic == "orders-deduplicated":
            passed.append(record.value)
        else:
            return
        while passed and waiting:
            _, value = waiting.popleft()
            if value == passed[0]:
                passed.popleft()
                self._was_passed(value, record.partition)
            else:
                self._was_left_out(value, record.partition)

    def panels(self, late: Counter[str]) -> list[Panel]:
        """Return how many were passed on, and how many were not."""
        of, total = self._counts, self._counts["passed on"] + self._counts["repeated, left out"]
        share = f"{of['repeated, left out'] / total:.1%}" if total else ""
        rows = [
            ("passed on", f"{of['passed on']:,}"),
            ("of these new orders", f"{of['orders']:,}"),
            ("of these ids used again", f"{of['again']:,}"),
            ("repeated, left out", f"{of['repeated, left out']:,}"),
            ("too late", f"{late.total():,}"),
        ]
        return [Panel("events of orders", f"repeated: {share or '-'}", rows)]

    @property
    def news(self) -> Mapping[str, str]:
        """Return the latest event that was left out."""
        return {"left out": self._latest} if self._latest else {}

    def _was_passed(self, value: bytes, partition: int) -> None:
        event = parse(value)
        id_ = _id_of(event)
        self._now_ms[partition] = max(self._now_ms[partition], event["timestamp"])
        self._counts["passed on"] += 1
        self._counts["orders"] += event["event_type"] == "order.created"
        self._counts["again"] += id_ in self._known
        self._known.pop(id_, None)
        self._known[id_] = None
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]

    def _was_left_out(self, value: bytes | None, partition: int) -> None:
        """Count what repeats an event; the rest was refused, skipped or late, which others count."""
        try:
            event = parse(value or b"")
            id_ = _id_of(event)
            is_late = event["timestamp"] + LATE_AFTER_MS < self._now_ms[partition]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if id_ in self._known and not is_late:
            self._counts["repeated, left out"] += 1
            self._latest = f"TWICE {event['event_id']} of {id_[0]}: left out"


def _id_of(event: Any) -> tuple[str, str]:
    return str(event["data"]["user_id"]), str(event["event_id"])
