"""Tables of what is open in event time, each with the operator whose rows it keeps (docs/contract.md)."""

from typing import Any, Final, NamedTuple

import msgspec

from streams.engine.definitions import PaneTable, TimedTable
from streams.events import DEFAULT_CURRENCY, Envelope, OrderCreated, PaymentCompleted
from streams.operators.aggregates import count, fold, highest, several, total
from streams.operators.deduplication import Deduplication, passed_codec
from streams.operators.joins import StreamJoin, pending_codec
from streams.operators.panes import PaneAggregation
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.timed import row_codec
from streams.operators.windowing import HoppingWindows, open_codec

_MINUTE_MS: Final = 60_000


def _user_id(event: Any) -> str:
    user_id: str = event.data.user_id
    return user_id


def _cents(event: Any) -> int:
    """Return the cents that an event is about: those of a new order."""
    return round(event.data.amount * 100) if type(event) is OrderCreated else 0


# --- order_payments -------------------------------------------------------------------------------


class KeptOrder(msgspec.Struct, frozen=True, gc=False):
    """What is kept of an order until its payment comes."""

    event_id: str
    correlation_id: str
    timestamp: int
    order_id: str
    user_id: str
    amount: float
    currency: str


class KeptPayment(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a payment until its order comes."""

    event_id: str
    timestamp: int
    payment_id: str | None
    amount: float | None


def _kept_order(order: OrderCreated) -> KeptOrder:
    data = order.data
    return KeptOrder(
        order.event_id,
        order.correlation,
        order.timestamp,
        data.order_id,
        data.user_id,
        data.amount,
        DEFAULT_CURRENCY if data.currency is None else data.currency,
    )


def _kept_payment(payment: PaymentCompleted) -> KeptPayment:
    data = payment.data
    return KeptPayment(payment.event_id, payment.timestamp, data.payment_id, data.amount)


def _order_key(event: Any) -> str:
    """Return the key of the join: the same order id of two users is two orders."""
    # JSON, so that no two pairs have the same text, whatever is in the ids.
    return msgspec.json.encode((event.data.user_id, event.data.order_id)).decode()


PAYMENT_OF_ORDER: Final = StreamJoin[KeptOrder, KeptPayment](
    kind="left",
    before_ms=0,
    after_ms=30 * _MINUTE_MS,
    grace_ms=5 * _MINUTE_MS,
    left_key=_order_key,
    right_key=_order_key,
    keep_left=_kept_order,
    keep_right=_kept_payment,
)
ORDER_PAYMENTS: Final = TimedTable("order_payments", *pending_codec(KeptOrder, KeptPayment))

# --- user_sessions --------------------------------------------------------------------------------

_of_session: Final = several(
    events=count(),
    orders=fold(
        0,
        lambda orders, event: orders + (type(event) is OrderCreated),
        lambda a, b: a + b,
        lambda orders: orders,
        int,
    ),
    cents=total(_cents),
)
_SESSION_WINDOWS: Final = SessionWindows(gap_ms=30 * _MINUTE_MS, grace_ms=5 * _MINUTE_MS)
SESSIONS: Final = SessionAggregation[Envelope, Any, Any](
    _SESSION_WINDOWS, _of_session, key=_user_id
)
USER_SESSIONS: Final = TimedTable(
    "user_sessions",
    *open_codec(_of_session),
    # Of events that are not later than the grace, none can come to a session that has closed.
    in_order_ms=_SESSION_WINDOWS.grace_ms + 1,
)

# --- order_stats ----------------------------------------------------------------------------------

STATS: Final = PaneAggregation[OrderCreated, dict[str, Any]](
    HoppingWindows(size_ms=5 * _MINUTE_MS, advance_ms=_MINUTE_MS, grace_ms=_MINUTE_MS),
    several(orders=count(), cents=total(_cents), highest=highest(_cents)),
    key=_user_id,
)
ORDER_STATS: Final[PaneTable[Any]] = PaneTable.of("order_stats_minutes", STATS)

# --- spending_spikes ------------------------------------------------------------------------------


class Spike(NamedTuple):
    """An hour [start_ms, end_ms] in which a user spent much or ordered often."""

    start_ms: int
    end_ms: int
    orders: int
    cents: int


class Spending(msgspec.Struct, frozen=True, gc=False):
    """A user's orders, as long as an hour that is open may hold them: time and cents, by time.

    Hours are judged that end at `judged_ms` or before. `spikes` were found and are not told yet; the
    last one lasts until `spiking_until_ms`, -1 where there was none.
    """

    due_ms: int
    orders: tuple[tuple[int, int], ...]
    judged_ms: int = -1
    spiking_until_ms: int = -1
    spikes: tuple[Spike, ...] = ()


SPENDING_SPIKES: Final = TimedTable("spending_spikes", *row_codec(Spending))

# --- orders_deduplicated --------------------------------------------------------------------------


def _event_key(event: Any) -> str:
    """Return what tells events apart: equal ids of two users are two events, whichever partition has them."""
    return msgspec.json.encode((event.data.user_id, event.event_id)).decode()


# An event may be an hour ahead of Kafka's time (HEADRACE_MAX_AHEAD_MS): what comes in time beside
# one is not late.
FIRST_OF_ORDERS: Final = Deduplication(
    within_ms=60 * _MINUTE_MS, grace_ms=5 * _MINUTE_MS, id_of=_event_key
)
ORDERS_PASSED: Final = TimedTable("orders_passed", *passed_codec())
