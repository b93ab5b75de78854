"""What the five flows make of valid events, one partition number after the other."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from demo.oracle.outcome import DeadLetter, Derived, Outcome, Rows
from demo.oracle.records import ORDERS, USERS, Json, Source, judge, written_bytes

MINUTE_MS = 60_000
GRACE_MS = 24 * 60 * MINUTE_MS
PROFILE = ("username", "email", "country")

Input = Mapping[str, Mapping[int, Iterable[Source]]]
"""The records of `users` and `orders`: by topic and partition, there in offset order."""


class Rules(NamedTuple):
    """What changes the outcome beside the input; amounts in the main unit."""

    high_value_amount: Decimal = Decimal(1000)
    vip_orders: int = 10
    max_ahead_ms: int = 3_600_000
    max_output_bytes: int = 1_048_488
    """Of key and value together."""
    fails: Callable[[Json], bool] = lambda _event: False
    """Tells for which events a rule beyond the contract's raises: tests have such rules."""


def expect(records: Input, rules: Rules | None = None) -> Outcome:
    """Return what must come of the records."""
    rules = rules or Rules()
    outcome = Outcome()
    for partition in sorted({number for sources in records.values() for number in sources}):
        task = _Task(partition, rules, outcome)
        users, orders = (
            list(
                _valid(topic, partition, records.get(topic, {}).get(partition, ()), rules, outcome)
            )
            for topic in (USERS, ORDERS)
        )
        for taken in _in_turn(users, orders):
            task.take(taken)
        task.finish()
    return outcome


class _Valid(NamedTuple):
    topic: str
    source: Source
    event: Json


def _valid(
    topic: str, partition: int, sources: Iterable[Source], rules: Rules, outcome: Outcome
) -> Iterator[_Valid]:
    """Yield the records that are events; the others are told to the outcome, and take no turn."""
    for source in sources:
        verdict = judge(topic, source, rules.max_ahead_ms)
        if verdict is None:
            outcome.skipped[topic] += 1
        elif isinstance(verdict, str):
            outcome.dead_letters.append(DeadLetter(topic, partition, source.offset, verdict))
        else:
            yield _Valid(topic, source, verdict)


def _in_turn(users: list[_Valid], orders: list[_Valid]) -> Iterator[_Valid]:
    """Yield what is oldest of the two that are next, the user's event on ties."""
    waiting = [iter(users), iter(orders)]
    heads = [next(valid, None) for valid in waiting]
    while any(heads):
        first = min((0, 1), key=lambda at: _time_ms(heads[at]))
        taken, heads[first] = heads[first], next(waiting[first], None)
        if taken is not None:
            yield taken


def _time_ms(head: _Valid | None) -> float:
    return float("inf") if head is None else head.event["timestamp"]


class _TooLargeError(Exception):
    """Something that comes of the event is above the broker's limit."""


@dataclass
class _Task:
    """All state of one partition number."""

    partition: int
    rules: Rules
    outcome: Outcome
    users: Rows = field(default_factory=dict)
    user_orders: Rows = field(default_factory=dict)
    minutes: dict[tuple[str, int], Json] = field(default_factory=dict)
    """By user and the window's start, ms."""
    stream_time_ms: int = 0
    """Highest event time of order.created so far."""

    def take(self, taken: _Valid) -> None:
        """Do what all flows do with an event, or nothing of it but a dead letter."""
        event, apply = taken.event, None
        if taken.topic == USERS:
            apply = self._fold_user
        elif event["event_type"] == "order.created":
            apply = self._order_created
        try:
            changes = apply(taken) if apply else None
        except _TooLargeError:
            self._refuse(taken, "too-large")
            return
        if self.rules.fails(event):
            self._refuse(taken, "rule-failed")
        elif changes is not None:
            changes()

    def finish(self) -> None:
        """Hand the tables over, without the minutes that are gone."""
        self.outcome.tables["users"] |= self.users
        self.outcome.tables["user_orders"] |= self.user_orders
        self.outcome.tables["user_order_minutes"] |= {
            f"{user_id}@{start_ms}": row
            for (user_id, start_ms), row in self.minutes.items()
            if not self._is_gone(start_ms)
        }

    def _refuse(self, taken: _Valid, reason: str) -> None:
        letter = DeadLetter(taken.topic, self.partition, taken.source.offset, reason)
        self.outcome.dead_letters.append(letter)

    # -- users ---------------------------------------------------------------------------------

    def _fold_user(self, taken: _Valid) -> Callable[[], None]:
        """Return what changes the user's row. Raises _TooLargeError."""
        user_id = taken.event["data"]["user_id"]
        row = user_row(self.users.get(user_id), taken.event)
        if row is not None:
            self._check_size(user_id, row)
        return lambda: self._keep_user(user_id, row)

    def _keep_user(self, user_id: str, row: Json | None) -> None:
        if row is None:
            self.users.pop(user_id, None)
        else:
            self.users[user_id] = row
        profiles = self.outcome.profiles.setdefault((self.partition, user_id), [None])
        if profiles[-1] != (shown := _shown_profile(row)):
            profiles.append(shown)

    # -- orders --------------------------------------------------------------------------------

    def _order_created(self, taken: _Valid) -> Callable[[], None]:
        """Return what all flows do with an order. Raises _TooLargeError."""
        event, rules = taken.event, self.rules
        data, time_ms = event["data"], event["timestamp"]
        user_id = data["user_id"]
        order = {name: data[name] for name in ("order_id", "user_id", "amount", "currency")}
        if data["items"] is not None:
            order["items"] = data["items"]
        row = _with_order(self.user_orders.get(user_id), data["amount"], time_ms)
        derived: dict[str, Json] = {}
        if data["amount"] > rules.high_value_amount:
            details = order | {"category": "HIGH_VALUE", "alert_sent": True}
            derived["high-value-orders"] = _derived(event, "order.high_value", details)
        if row["orders"] == rules.vip_orders:
            row["vip"] = True
            details = {name: data[name] for name in ("user_id", "order_id")}
            details["order_count"] = row["orders"]
            derived["vip-upgrades"] = _derived(event, "user.vip_upgraded", details)
        details = order | {"user": _shown_profile(self.users.get(user_id))}
        derived["enriched-orders"] = _derived(event, "order.enriched", details)
        for one in derived.values():
            self._check_size(user_id, one, taken.source.value)

        def change() -> None:
            for topic, one in derived.items():
                events = self.outcome.derived[topic].setdefault(self.partition, [])
                events.append(Derived(user_id.encode(), one))
            self.user_orders[user_id] = row
            self._count_minute(user_id, data["amount"], time_ms)

        return change

    def _count_minute(self, user_id: str, amount: Decimal, time_ms: int) -> None:
        start_ms = time_ms - time_ms % MINUTE_MS
        self.stream_time_ms = max(self.stream_time_ms, time_ms)
        if self._is_gone(start_ms):
            self.outcome.late += 1
            return
        row = self.minutes.setdefault((user_id, start_ms), {"orders": 0, "amount": Decimal(0)})
        row["orders"] += 1
        row["amount"] += amount

    def _is_gone(self, start_ms: int) -> bool:
        return start_ms + MINUTE_MS + GRACE_MS <= self.stream_time_ms

    def _check_size(self, key: str, document: Json, source: bytes | None = None) -> None:
        """Raise _TooLargeError if key and document are too much for a record.

        `items` count as the source has them. Rows of orders need no look: a source holds its user id twice.
        """
        plain, items_bytes = document, 0
        if source is not None and "items" in document["data"]:
            others = {name: v for name, v in document["data"].items() if name != "items"}
            plain = {**document, "data": others}
            items_bytes = len(',"items":') + len(source)  # at most
        text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, default=float)
        size = len(key.encode()) + len(text.encode())
        if source is not None and items_bytes and size + items_bytes > self.rules.max_output_bytes:
            items_bytes = len(',"items":') + written_bytes(source, "data", "items")
        if size + items_bytes > self.rules.max_output_bytes:
            raise _TooLargeError


def user_row(row: Json | None, event: Json) -> Json | None:
    """Return a user's row after an event of theirs, None if there is none."""
    data, event_type = event["data"], event["event_type"]
    if event_type == "user.deleted":
        return None
    row = dict(row or dict.fromkeys((*PROFILE, "status", "registered_at", "last_login_at")))
    given = data["changes"] if event_type == "user.updated" else data
    if event_type in ("user.registered", "user.updated"):
        row |= {name: given[name] for name in PROFILE if given[name] is not None}
    if event_type == "user.registered":
        row |= {"status": "active", "registered_at": event["timestamp"]}
    if event_type == "user.logged_in":
        row["last_login_at"] = event["timestamp"]
    if event_type == "user.status_changed":
        row["status"] = data["status"]
    return row


def _shown_profile(row: Json | None) -> Json | None:
    return None if row is None else {name: row[name] for name in ("email", "country", "status")}


def _with_order(row: Json | None, amount: Decimal, time_ms: int) -> Json:
    if row is None:
        row = {
            "orders": 0,
            "amount": Decimal(0),
            "first_order_at": time_ms,
            "last_order_at": time_ms,
            "vip": False,
        }
    return {
        "orders": row["orders"] + 1,
        "amount": row["amount"] + amount,
        "first_order_at": min(row["first_order_at"], time_ms),
        "last_order_at": max(row["last_order_at"], time_ms),
        "vip": row["vip"],
    }


def _derived(source: Json, event_type: str, data: Json) -> Json:
    about = "user_id" if event_type == "user.vip_upgraded" else "order_id"
    return {
        "event_id": f"{source['event_id']}:{event_type}",
        "event_type": event_type,
        "aggregate_id": data[about],
        "timestamp": source["timestamp"],
        "version": 1,
        "correlation_id": source["correlation_id"],
        "causation_id": source["event_id"],
        "data": data,
    }
