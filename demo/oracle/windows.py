"""What the flows of the group `windows` make of records: docs/contract.md and docs/event-time.md again.

Turns of events in two topics are those of a replay: the older one first. Of an application that ran while
its input was written nothing hangs on them, as long as demo/event_clock.py has made the input.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from demo.oracle import spikes
from demo.oracle.outcome import DeadLetter, Derived
from demo.oracle.records import ORDERS, PAYMENTS, USERS, Json, Source, judge
from demo.oracle.windows_outcome import Late, WindowsOutcome
from demo.oracle.windows_told import (
    matched,
    session_closed,
    spending_spike,
    unpaid,
    window_stats,
)

MINUTE_MS = 60_000
PAID_WITHIN_MS = 30 * MINUTE_MS
GAP_MS = 30 * MINUTE_MS
GRACE_MS = 5 * MINUTE_MS
"""Of payments and sessions."""
WINDOW_MS = 5 * MINUTE_MS
SHORT_GRACE_MS = MINUTE_MS
"""Of windows and hours."""


class _Taken(NamedTuple):
    """A valid event, where it lay, and stream time at its turn; in any turns, at least and at most."""

    topic: str
    partition: int
    source: Source
    event: Json
    now_ms: int
    least_ms: int
    most_ms: int

    @property
    def time_ms(self) -> int:
        time_ms: int = self.event["timestamp"]
        return time_ms

    @property
    def user_id(self) -> str:
        user_id: str = self.event["data"]["user_id"]
        return user_id

    @property
    def is_order(self) -> bool:
        return bool(self.event["event_type"] == "order.created")


def expect_windows(
    records: Mapping[str, Mapping[int, Iterable[Source]]], max_ahead_ms: int = 3_600_000
) -> WindowsOutcome:
    """Return what must come of the records of `orders`, `users` and `payments`, by topic and partition."""
    outcome = WindowsOutcome()
    for partition in sorted({number for sources in records.values() for number in sources}):
        valid = {
            topic: list(_valid(topic, partition, by_partition[partition], max_ahead_ms, outcome))
            for topic, by_partition in records.items()
            if partition in by_partition
        }
        _order_payments(_in_turn(valid, (ORDERS, PAYMENTS), partition), outcome)
        _user_sessions(_in_turn(valid, (ORDERS, USERS), partition), outcome)
        _spending_spikes(_in_turn(valid, (ORDERS,), partition), outcome)
        _order_stats(_in_turn(valid, (ORDERS,), partition), outcome)
    return outcome


def _valid(
    topic: str,
    partition: int,
    sources: Iterable[Source],
    max_ahead_ms: int,
    outcome: WindowsOutcome,
) -> Iterator[tuple[Source, Json]]:
    """Yield the records that are events; the others are told to the outcome, and do not move stream time."""
    for source in sources:
        verdict = judge(topic, source, max_ahead_ms)
        if verdict is None:
            outcome.skipped[topic] += 1
        elif isinstance(verdict, str):
            outcome.dead_letters.append(DeadLetter(topic, partition, source.offset, verdict))
        else:
            yield source, verdict


def _in_turn(
    valid: Mapping[str, list[tuple[Source, Json]]], topics: tuple[str, ...], partition: int
) -> list[_Taken]:
    """Return a flow's events in their turns, of what is next of each topic the older one first."""
    queues = {topic: list(reversed(valid.get(topic, ()))) for topic in topics}
    highest = {
        topic: max((event["timestamp"] for _, event in queue), default=0)
        for topic, queue in queues.items()
    }
    reached = dict.fromkeys(topics, 0)
    taken = []
    while left := [topic for topic in topics if queues[topic]]:
        topic = min(left, key=lambda t: int(queues[t][-1][1]["timestamp"]))
        source, event = queues[topic].pop()
        reached[topic] = max(reached[topic], event["timestamp"])
        others_ms = max((highest[other] for other in topics if other != topic), default=0)
        now_ms, most_ms = max(reached.values()), max(reached[topic], others_ms)
        taken.append(_Taken(topic, partition, source, event, now_ms, reached[topic], most_ms))
    return taken


def _end_ms(taken: list[_Taken]) -> int:
    """Return stream time after all of it."""
    return taken[-1].now_ms if taken else 0


def _late(taken: _Taken, flow: str, start_ms: int, end_ms: int, closed_ms: int) -> Late:
    """Return what is told of a record that is late for [start, end), which closed at a stream time."""
    source = taken.topic, taken.partition, taken.source.offset
    least_ms = max(0, taken.least_ms - closed_ms)
    return Late(flow, f"{start_ms}-{end_ms}", *source, least_ms, taken.most_ms - closed_ms)


# --- order_payments -------------------------------------------------------------------------------


def _order_payments(taken: list[_Taken], outcome: WindowsOutcome) -> None:
    orders: dict[tuple[str, str], list[_Taken]] = {}
    payments: dict[tuple[str, str], list[_Taken]] = {}
    for one in taken:
        key = (one.user_id, one.event["data"].get("order_id", ""))
        if one.is_order:
            last_ms = one.time_ms + PAID_WITHIN_MS
            kept, first_ms = orders, one.time_ms
        elif one.event["event_type"] == "payment.completed":
            kept, first_ms, last_ms = payments, one.time_ms - PAID_WITHIN_MS, one.time_ms
        else:
            continue
        if last_ms + GRACE_MS < one.now_ms:
            late = _late(one, "order_payments", first_ms, last_ms + 1, last_ms + GRACE_MS)
            outcome.late.append(late)
        else:
            kept.setdefault(key, []).append(one)
    for key, of_key in orders.items():
        for order in of_key:
            _tell_of_order(order, payments.get(key, []), _end_ms(taken), outcome)


def _tell_of_order(
    order: _Taken, payments: list[_Taken], end_ms: int, outcome: WindowsOutcome
) -> None:
    """Tell which payments an order has, or that none can come any more."""
    last_ms = order.time_ms + PAID_WITHIN_MS
    found = [payment for payment in payments if order.time_ms <= payment.time_ms <= last_ms]
    for payment in found:
        _tell(outcome, "order-payments", order, matched(order.event, payment.event))
    if not found and last_ms + GRACE_MS < end_ms:
        _tell(outcome, "unpaid-orders", order, unpaid(order.event))


def _tell(outcome: WindowsOutcome, topic: str, of: _Taken, event: Json) -> None:
    events = outcome.derived[topic].setdefault(of.partition, [])
    events.append(Derived(of.user_id.encode(), event))


# --- user_sessions --------------------------------------------------------------------------------


@dataclass(eq=False)
class _Session:
    """What a user did, from the first to the last event time, ms."""

    first_ms: int
    last_ms: int
    did: list[_Taken]

    def is_near(self, time_ms: int) -> bool:
        return self.first_ms - GAP_MS <= time_ms <= self.last_ms + GAP_MS

    def has_closed(self, now_ms: int) -> bool:
        return self.last_ms + GAP_MS + GRACE_MS < now_ms


def _user_sessions(taken: list[_Taken], outcome: WindowsOutcome) -> None:
    sessions: dict[str, list[_Session]] = {}
    """By user those that may get more."""
    for one in taken:
        of_user = sessions.get(one.user_id, [])
        _tell_closed(of_user, one.now_ms, outcome)
        still_open = [session for session in of_user if not session.has_closed(one.now_ms)]
        near = [session for session in still_open if session.is_near(one.time_ms)]
        others = [session for session in still_open if session not in near]
        if near or one.time_ms + GAP_MS + GRACE_MS >= one.now_ms:
            sessions[one.user_id] = [*others, _joined(near, one)]
        else:
            end_ms = one.time_ms + 1
            closed_ms = end_ms + GAP_MS + GRACE_MS
            outcome.late.append(_late(one, "user_sessions", one.time_ms, end_ms, closed_ms))
            sessions[one.user_id] = others
    for of_user in sessions.values():
        _tell_closed(of_user, _end_ms(taken), outcome)


def _joined(near: list[_Session], one: _Taken) -> _Session:
    """Return the session that an event makes of those that it is near to."""
    if not near:
        return _Session(one.time_ms, one.time_ms, [one])
    joined, *others = near
    for other in others:
        joined.did += other.did
    joined.did.append(one)
    joined.first_ms = min(one.time_ms, *(session.first_ms for session in near))
    joined.last_ms = max(one.time_ms, *(session.last_ms for session in near))
    return joined


def _tell_closed(sessions: list[_Session], now_ms: int, outcome: WindowsOutcome) -> None:
    for session in sessions:
        if session.has_closed(now_ms):
            told = session_closed([one.event for one in session.did])
            _tell(outcome, "user-sessions", session.did[0], told)


# --- order_stats ----------------------------------------------------------------------------------


def _order_stats(taken: list[_Taken], outcome: WindowsOutcome) -> None:
    windows: dict[tuple[str, int], list[_Taken]] = {}
    """By user and start."""
    for one in taken:
        if not one.is_order:
            continue
        latest_ms = one.time_ms - one.time_ms % MINUTE_MS
        first_ms = max(0, latest_ms - WINDOW_MS + MINUTE_MS)
        for start_ms in range(first_ms, latest_ms + 1, MINUTE_MS):
            end_ms = start_ms + WINDOW_MS
            closed_ms = end_ms + SHORT_GRACE_MS
            if closed_ms <= one.now_ms:
                outcome.late.append(_late(one, "order_stats", start_ms, end_ms, closed_ms))
            else:
                windows.setdefault((one.user_id, start_ms), []).append(one)
    for (_, start_ms), orders in windows.items():
        end_ms = start_ms + WINDOW_MS
        if end_ms + SHORT_GRACE_MS <= _end_ms(taken):
            told = window_stats([one.event for one in orders], start_ms, end_ms)
            _tell(outcome, "order-stats", orders[0], told)


# --- spending_spikes ------------------------------------------------------------------------------


def _spending_spikes(taken: list[_Taken], outcome: WindowsOutcome) -> None:
    of_users: dict[str, spikes.Spending] = {}
    firsts: dict[str, _Taken] = {}
    for one in taken:
        if not one.is_order:
            continue
        closed_ms = one.time_ms + spikes.HOUR_MS + 1 + SHORT_GRACE_MS
        if closed_ms <= one.now_ms:
            end_ms = one.time_ms + spikes.HOUR_MS + 1
            outcome.late.append(_late(one, "spending_spikes", one.time_ms, end_ms, closed_ms))
            continue
        firsts.setdefault(one.user_id, one)
        spending = of_users.setdefault(one.user_id, spikes.Spending(SHORT_GRACE_MS))
        spending.add(one.time_ms, one.event["data"]["amount"], one.now_ms)
    for user_id, spending in of_users.items():
        for spike in spending.told(_end_ms(taken)):
            _tell(outcome, "spending-spikes", firsts[user_id], spending_spike(user_id, *spike))
