"""`python -m bench.programs.headrace_operator NAME`: a worker of one flow, with one operator.

It is written as a user would write it, of the same operators that the project's own flows use.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable, Iterable
from operator import attrgetter
from typing import Any, Final, cast

from bench.operators.kinds import KINDS, PAYMENTS, Kind
from bench.programs import headrace_tables
from bench.programs.headrace_orders import run_worker
from bench.programs.told import TOLD, Result, cents, user_id
from streams.declared import stream
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, PaneTable, Table, TimedTable, Topic, Topology
from streams.events import OrderCreated, PaymentCompleted
from streams.operators.aggregates import count, several, total
from streams.operators.joins import Joined, Pending, StreamJoin, pending_codec
from streams.operators.joins import Kind as JoinKind
from streams.operators.panes import PaneAggregation
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.timed import Fired
from streams.operators.windowing import (
    Aggregation,
    HoppingWindows,
    Open,
    Windowed,
    open_codec,
)
from streams.operators.windows import TumblingWindows
from streams.topics import ORDERS

_order_id = attrgetter("data.order_id")


# --- windows --------------------------------------------------------------------------------------

_counted: Final = several(orders=count(), cents=total(cents))


def _aggregation(kind: Kind) -> Aggregation[OrderCreated, Any, Any]:
    if kind.operator == "session":
        sessions = SessionWindows(gap_ms=kind.size_ms, grace_ms=kind.grace_ms)
        return SessionAggregation(sessions, _counted, key=user_id)
    sliding = SlidingWindows(difference_ms=kind.size_ms, grace_ms=kind.grace_ms)
    return SlidingAggregation(sliding, _counted, key=user_id)


def _rows_flow(kind: Kind) -> Flow:
    """Sliding windows and sessions: a row a key."""
    aggregation = _aggregation(kind)
    table = TimedTable("windows", *open_codec(_counted))

    def take(orders: Iterable[OrderCreated], rows: Any) -> None:
        aggregation.add(orders, rows)

    def close(key: str, row: Open[Any], now_ms: int) -> Fired[Open[Any], Result]:
        left, closed = aggregation.fire(key, row, now_ms)
        return left, list(map(_window, closed))

    register = _register_windows(table, take)
    return Flow(register, "windows", reads=(ORDERS,), keeps=table, fires=close, emits=TOLD)


def _panes_flow(kind: Kind) -> Flow:
    """Tumbling and hopping windows: a row a pane, in columns."""
    windows = HoppingWindows(kind.size_ms, kind.advance_ms, kind.grace_ms)
    aggregation = PaneAggregation[OrderCreated, dict[str, int]](windows, _counted, key=user_id)
    table: PaneTable[Any] = PaneTable.of("windows", aggregation)

    def tell(closed: Iterable[Windowed[Any]]) -> Iterable[Result]:
        return map(_window, closed)

    register = _register_windows(table, aggregation.add)
    return Flow(register, "windows", reads=(ORDERS,), keeps=table, tells=tell, emits=TOLD)


def _declared_flow(kind: Kind) -> Flow:
    """Return what `_panes_flow` does, declared."""
    windows = TumblingWindows(kind.size_ms, kind.grace_ms)
    [flow] = (
        stream(ORDERS, OrderCreated)
        .window(windows, key=user_id)
        .aggregate(orders=count(), cents=total(cents))
        .to("windows", TOLD, _window)
    )
    return flow


def _register_windows(table: Table[Any], take: Callable[..., None]) -> Callable[[App[Any]], None]:
    def register(app: App[Any]) -> None:
        @app.agent(ORDERS)
        async def windows(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(take, batch.of(OrderCreated), table)

    return register


def _window(closed: Windowed[Any]) -> Result:
    did = closed.value
    return Result(closed.key, closed.start_ms, closed.end_ms, did["orders"], did["cents"])


# --- joins ----------------------------------------------------------------------------------------


def _join_flow(kind: Kind) -> Flow:
    orders = Topic("orders", events=(OrderCreated,), key=_order_id)
    payments = Topic(PAYMENTS, events=(PaymentCompleted,), key=_order_id)
    join = StreamJoin[int, int](
        kind=cast("JoinKind", kind.operator),
        before_ms=0,
        after_ms=kind.size_ms,
        grace_ms=kind.grace_ms,
        left_key=_order_id,
        right_key=_order_id,
        keep_left=cents,
        keep_right=cents,
    )
    table = TimedTable("pairs", *pending_codec(int, int))

    def take_orders(events: Iterable[OrderCreated], rows: Any) -> list[Result]:
        return list(map(_pair, join.add_left(events, rows)))

    def take_payments(events: Iterable[PaymentCompleted], rows: Any) -> list[Result]:
        return list(map(_pair, join.add_right(events, rows)))

    def close(key: str, row: Pending[int, int], now_ms: int) -> Fired[Pending[int, int], Result]:
        left, unmatched = join.fire(key, row, now_ms)
        return left, list(map(_pair, unmatched))

    def register(app: App[object]) -> None:
        async def of_orders(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(take_orders, batch.of(OrderCreated), table)

        async def of_payments(batches: AsyncIterable[Batch]) -> None:
            async for batch in batches:
                batch.run(take_payments, batch.of(PaymentCompleted), table)

        of_orders.__name__ = of_payments.__name__ = "pairs"
        app.agent(orders)(of_orders)
        app.agent(payments)(of_payments)

    return Flow(register, "pairs", reads=(orders, payments), keeps=table, fires=close, emits=TOLD)


def _pair(joined: Joined[int, int]) -> Result:
    return Result(joined.key, 0, 0, joined.left, joined.right)


# --------------------------------------------------------------------------------------------------


def main(name: str) -> None:
    """Run a worker of the kind of this name until SIGTERM."""
    kind = next(kind for kind in KINDS if kind.name == name)
    run_worker(Topology(flows(kind), dead_letters="dead-letters"))


def flows(kind: Kind) -> tuple[Flow, ...]:
    """Return the flows of a kind."""
    match kind.operator:
        case "tumbling" | "hopping":
            return (_declared_flow(kind) if kind.is_declared else _panes_flow(kind),)
        case "sliding" | "session":
            return (_rows_flow(kind),)
        case "inner" | "outer":
            return (_join_flow(kind),)
    return headrace_tables.flows(kind)


if __name__ == "__main__":
    main(sys.argv[1])
