"""An oracle for the flows of the group `windows`: event by event, in their turns, closing after each."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from heapq import merge
from itertools import accumulate, repeat
from operator import or_
from typing import Any, NamedTuple

import msgspec

from agents.order_payments import rules as order_payments
from agents.order_stats import rules as order_stats
from agents.spending_spikes import rules as spending_spikes
from agents.user_sessions import rules as user_sessions
from streams.engine.definitions import Flow, Topic
from streams.engine.layout import subtopologies
from streams.events import OrderCreated, PaymentCompleted
from streams.operators.aggregates import count, highest, several, total
from streams.operators.timed import Late, TimedDict
from streams.operators.windowing import WindowAggregation
from streams.operators.windows import key_text
from streams.topics import ORDER_PAYMENTS
from streams.topology import WINDOWS
from tables.timed import STATS

[_SUBTOPOLOGY] = subtopologies(WINDOWS)
RULES: Mapping[str, Mapping[type, Any]] = {
    "order_payments": {
        OrderCreated: order_payments.take_orders,
        PaymentCompleted: order_payments.take_payments,
    },
    "spending_spikes": {OrderCreated: spending_spikes.take_orders},
    "user_sessions": dict.fromkeys(
        [event for topic in WINDOWS.inputs for event in topic.events], user_sessions.take_events
    ),
}


class Outcome(NamedTuple):
    """What came of one partition's input.

    Derived events by topic: as they came, but pairs of orders and payments sorted, as either of the two
    may have found the other. Rows by table. Late records: flow, window, lateness, event id; sorted.
    """

    derived: dict[str, list[Any]]
    rows: dict[str, dict[str, Any]]
    late: list[tuple[str, ...]]


def expected(inputs: Mapping[str, Sequence[bytes]]) -> Outcome:
    """Return what must come of these values, by topic, all of which were there from the start."""
    oracles = [
        _StatsOracle(flow) if flow.name == "order_stats" else _Oracle(flow)
        for flow in WINDOWS.flows
    ]
    for topic, event in _in_turn(inputs):
        for oracle in oracles:
            if topic in oracle.flow.reads:
                oracle.take(event)
    rows = {o.flow.keeps.name: o.kept() for o in oracles if o.flow.keeps}
    late = [_line(oracle.flow, each) for oracle in oracles for each in oracle.rows.late]
    return Outcome(
        {
            topic.name: in_order(topic, oracle.derived[topic.name])
            for oracle in oracles
            for topic in oracle.flow.outputs
        },
        rows,
        sorted(late),
    )


def in_order(topic: Topic, events: list[Any]) -> list[Any]:
    """Return derived events as Outcome has them."""
    return sorted(events, key=lambda e: str(e["event_id"])) if topic is ORDER_PAYMENTS else events


def late_line(headers: Iterable[tuple[str, bytes]], value: bytes) -> tuple[str, ...]:
    """Return a late record as Outcome has it."""
    told = dict(headers)
    names = ("flow", "window", "lateness-ms")
    return (*(told[f"headrace.{n}"].decode() for n in names), json.loads(value)["event_id"])


def _line(flow: Flow, late: Late) -> tuple[str, ...]:
    return flow.name, f"{late.start_ms}-{late.end_ms}", str(late.by_ms), late.event.event_id


def _in_turn(inputs: Mapping[str, Sequence[bytes]]) -> Iterable[tuple[Topic, Any]]:
    """Yield the events as their turns come (law 9), decoded."""
    queues = []
    for rank, topic in enumerate(_SUBTOPOLOGY.inputs):
        decode = msgspec.json.Decoder(reduce(or_, topic.events)).decode
        events = list(map(decode, inputs.get(topic.name, ())))
        turns = accumulate((event.timestamp for event in events), max)
        queues.append(zip(turns, repeat(rank), range(len(events)), repeat(topic), events))
    return ((topic, event) for *_, topic, event in merge(*queues, key=lambda turn: turn[:3]))


class _Oracle:
    """A flow, event by event."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.rows: TimedDict[Any] = TimedDict()
        self.derived: dict[str, list[Any]] = defaultdict(list)

    def take(self, event: Any) -> None:
        rows = self.rows
        rows.now_ms = max(rows.now_ms, event.timestamp)
        rule = RULES[self.flow.name].get(type(event))
        if rule is not None:
            self._tell(rule([event], rows) or ())
        assert self.flow.fires is not None
        self._tell(rows.fire(self.flow.fires))

    def kept(self) -> dict[Any, Any]:
        return dict(self.rows)

    def _tell(self, events: Iterable[Any]) -> None:
        for event in events:
            [topic] = [t for t in self.flow.outputs if type(event) in t.events]
            self.derived[topic.name].append(json.loads(msgspec.json.encode(event)))


class _StatsOracle(_Oracle):
    """The same of windows that are kept by pane: with a row a key, which has them all."""

    def __init__(self, flow: Flow) -> None:
        super().__init__(flow)
        self._windows = WindowAggregation(STATS.windows, _OF_ORDERS, key=_user_id)
        self._panes: dict[tuple[str, int], list[int]] = defaultdict(list)
        """Of all panes that an open window is in, the cents, by user and start."""

    def take(self, event: Any) -> None:
        rows, windows = self.rows, STATS.windows
        rows.now_ms = max(rows.now_ms, event.timestamp)
        if type(event) is OrderCreated:
            self._windows.add([event], rows)
            pane_ms = event.timestamp - event.timestamp % windows.advance_ms
            self._panes[_user_id(event), pane_ms].append(_cents(event))
        lives_ms = windows.size_ms + windows.grace_ms
        for pane in [pane for pane in self._panes if pane[1] + lives_ms <= rows.now_ms]:
            del self._panes[pane]
        self._tell(order_stats.tell(rows.fire(self._windows.fire)))

    def kept(self) -> dict[Any, Any]:
        return {
            key_text(*pane): STATS.row_type(len(cents), sum(cents), max(cents))
            for pane, cents in self._panes.items()
        }


def _user_id(order: OrderCreated) -> str:
    return order.data.user_id


def _cents(order: OrderCreated) -> int:
    return round(order.data.amount * 100)


_OF_ORDERS = several(orders=count(), cents=total(_cents), highest=highest(_cents))
