"""What must come of the orders: the work written down once more, plainly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from bench.work import (
    HIGH_VALUE,
    HIGH_VALUE_CENTS,
    MINUTE_MS,
    VIP_ORDERS,
    VIPS,
    Row,
    TableName,
    minute_key,
)

_SHOWN = 3
_MOST_USERS_IN_FULL = 2_000_000


class _Data(msgspec.Struct, gc=False):
    order_id: str
    user_id: str
    amount: float = 0.0


class _Event(msgspec.Struct, gc=False):
    timestamp: int
    data: _Data


_decode = msgspec.json.Decoder(_Event).decode


class Told(msgspec.Struct, frozen=True, gc=False):
    """A derived event: the order that it tells of. Of an upgrade the amount is 0."""

    order_id: str
    user_id: str
    amount_cents: int


def told(value: bytes) -> Told:
    """Return what a derived event tells; every system writes them in this project's form."""
    data = _decode(value).data
    return Told(data.order_id, data.user_id, _cents(data.amount))


class Oracle:
    """Takes the orders as they are written, partition by partition in order, and knows the outcome.

    Of more than two million users it follows every sixteenth in full, for the sake of memory; of
    all it knows the events of high value and the totals.
    """

    def __init__(self, users: int) -> None:
        self._every = 1 if users <= _MOST_USERS_IN_FULL else 16
        self.total = Row(0, 0)
        self.tables: dict[TableName, dict[str, Row]] = {"user_orders": {}, "user_order_minutes": {}}
        self.events: dict[str, dict[str, Told]] = {HIGH_VALUE: {}, VIPS: {}}

    def add(self, value: bytes) -> None:
        """Take the next order of its user."""
        event = _decode(value)
        data, cents = event.data, _cents(event.data.amount)
        self.total = Row(self.total.orders + 1, self.total.amount_cents + cents)
        if cents > HIGH_VALUE_CENTS:
            told = Told(data.order_id, data.user_id, cents)
            self.events[HIGH_VALUE][data.order_id] = told
        if not self.follows(data.user_id):
            return
        users = self.tables["user_orders"]
        row = users.get(data.user_id, Row(0, 0))
        users[data.user_id] = Row(row.orders + 1, row.amount_cents + cents)
        if row.orders + 1 == VIP_ORDERS:
            self.events[VIPS][data.order_id] = Told(data.order_id, data.user_id, 0)
        minutes = self.tables["user_order_minutes"]
        minute = minute_key(data.user_id, event.timestamp - event.timestamp % MINUTE_MS)
        row = minutes.get(minute, Row(0, 0))
        minutes[minute] = Row(row.orders + 1, row.amount_cents + cents)

    def follows(self, key: str) -> bool:
        """Tell whether the user of a row's key is followed in full."""
        return self._every == 1 or int(key.partition("@")[0][5:]) % self._every == 0


class TableCheck:
    """Compares a table with the oracle's, a part of it after the other; no key may be in two."""

    def __init__(self, oracle: Oracle, table: TableName) -> None:
        self._oracle = oracle
        self._table = table
        self._expected = oracle.tables[table]
        self._found = 0
        self._orders = 0
        self._cents = 0
        self._wrong: list[str] = []

    def add(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Take rows as they stand at the end."""
        for key, row in rows:
            self._orders += row.orders
            self._cents += row.amount_cents
            if not self._oracle.follows(key):
                continue
            self._found += 1
            if self._expected.get(key) != row:
                self._wrong.append(
                    f"{self._table} {key}: {_shown(self._expected.get(key))}, not {row}"
                )

    def differences(self) -> Iterator[str]:
        """Yield what is wrong, in a few lines."""
        yield from _first(self._wrong)
        if self._found != len(self._expected):
            yield f"{self._table}: {self._found:,} rows where {len(self._expected):,} should be"
        if (total := Row(self._orders, self._cents)) != self._oracle.total:
            yield f"{self._table}: {total} in all, where {self._oracle.total} came in"


def event_differences(oracle: Oracle, topic: str, events: Iterable[Told]) -> Iterator[str]:
    """Yield what is wrong with the derived events of a topic, in a few lines: missing, other, twice."""
    expected: Mapping[str, Told] = oracle.events[topic]
    seen: set[str] = set()
    wrong: list[str] = []
    for event in events:
        if topic == VIPS and not oracle.follows(event.user_id):
            continue
        if event.order_id in seen:
            wrong.append(f"{topic} {event.order_id}: told twice")
        elif expected.get(event.order_id) != event:
            wrong.append(f"{topic} {event.order_id}: {event}, not {expected.get(event.order_id)}")
        seen.add(event.order_id)
    yield from _first(wrong)
    if missing := len(expected.keys() - seen):
        yield f"{topic}: {missing:,} of {len(expected):,} events are missing"


def _first(wrong: list[str]) -> Iterator[str]:
    yield from wrong[:_SHOWN]
    if len(wrong) > _SHOWN:
        yield f"and {len(wrong) - _SHOWN:,} more"


def _shown(row: Row | None) -> str:
    return "no such row" if row is None else f"should be {row}"


def _cents(amount: float) -> int:
    return round(amount * 100)
