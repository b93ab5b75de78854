"""Every event type: an envelope, the same for all, around the data of its kind (docs/contract.md).

They are nested as on the wire (`order.data.user_id`), immutable, and can hold no cycle, so the
collector need not see them (`gc=False`). An optional field that is null on the wire is None here.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Self, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.event_time import EventTime

DEFAULT_CURRENCY = "USD"

if TYPE_CHECKING:
    Amount: TypeAlias = float
    Count: TypeAlias = int
else:
    Amount = Annotated[float, msgspec.Meta(ge=0, le=1e13)]
    Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class AnyObject(msgspec.Struct, frozen=True, gc=False):
    """A JSON object whose fields nobody here reads: checked to be one, and skipped."""


class Envelope(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event_type"):
    """What every event that is read has; `timestamp` is its event time, ms since 1970 UTC."""

    event_id: str
    aggregate_id: str
    timestamp: EventTime
    version: Count | None = 1
    correlation_id: str | None = None
    causation_id: str | None = None
    aggregate_type: str | None = None
    sequence: Count | None = None
    source: str | None = None
    metadata: AnyObject | None = None

    @property
    def correlation(self) -> str:
        """The id that all events of one story share: the event's own where none was given."""
        return self.event_id if self.correlation_id is None else self.correlation_id


# --- orders -------------------------------------------------------------------------------------


class OrderData(msgspec.Struct, frozen=True, gc=False):
    """The order that something happened to."""

    order_id: str
    user_id: str


class OrderCreatedData(msgspec.Struct, frozen=True, gc=False):
    """A new order; `amount` in the currency's main unit, at most two decimals.

    `round(amount * 100)` is its whole cents, exactly: 10**15 of them are far below 2**53. No property
    does it, as that took a twenty-fifth of all time.
    """

    order_id: str
    user_id: str
    amount: Amount
    currency: str | None = DEFAULT_CURRENCY
    # As JSON has it: an event that a table keeps is written, and nothing at all would be no JSON.
    items: msgspec.Raw = msgspec.Raw(b"null")


class OrderPaidData(OrderData, frozen=True, gc=False):
    """A paid order."""

    payment_id: str | None = None


class OrderShippedData(OrderData, frozen=True, gc=False):
    """A shipped order."""

    tracking_no: str | None = None


class OrderCancelledData(OrderData, frozen=True, gc=False):
    """A cancelled order."""

    reason: str | None = None


class OrderCreated(Envelope, frozen=True, gc=False, kw_only=True, tag="order.created"):
    """A user placed an order."""

    data: OrderCreatedData

    def check(self) -> str | None:
        """Return what is wrong with the amount, None if it has at most two decimals.

        The amount is a double: digits that it cannot hold (beyond 15) are not seen.
        """
        amount = self.data.amount
        # True of the doubles nearest to whole cents, and, up to 10**13, of no other.
        # Plus and minus 1.5 * 2**52 rounds to a whole number; round() costs 0.06 µs more a record.
        if (amount * 100 + 6755399441055744.0 - 6755399441055744.0) / 100 == amount:
            return None
        return f"data.amount: {amount!r} has more than two decimals"


class OrderUpdated(Envelope, frozen=True, gc=False, kw_only=True, tag="order.updated"):
    """The order was changed."""

    data: OrderData


class OrderConfirmed(Envelope, frozen=True, gc=False, kw_only=True, tag="order.confirmed"):
    """The shop took the order on."""

    data: OrderData


class OrderPaid(Envelope, frozen=True, gc=False, kw_only=True, tag="order.paid"):
    """The user paid."""

    data: OrderPaidData


class OrderShipped(Envelope, frozen=True, gc=False, kw_only=True, tag="order.shipped"):
    """The goods left."""

    data: OrderShippedData


class OrderCompleted(Envelope, frozen=True, gc=False, kw_only=True, tag="order.completed"):
    """The goods arrived."""

    data: OrderData


class OrderCancelled(Envelope, frozen=True, gc=False, kw_only=True, tag="order.cancelled"):
    """The order was called off."""

    data: OrderCancelledData


class OrderColumns(NamedTuple):
    """New orders by columns: what tables that are kept in columns take."""

    orders: Sequence[OrderCreated]
    user_ids: Sequence[str]
    times_ms: NDArray[np.int64]
    amounts_cents: NDArray[np.int64]

    @classmethod
    def of(cls, orders: Sequence[OrderCreated]) -> Self:
        """Return these orders by columns."""
        amounts = np.array([order.data.amount for order in orders], np.float64)
        return cls(
            orders,
            [order.data.user_id for order in orders],
            np.array([order.timestamp for order in orders], np.int64),
            np.rint(amounts * 100).astype(np.int64),
        )


# --- users --------------------------------------------------------------------------------------


class UserData(msgspec.Struct, frozen=True, gc=False):
    """The user that something happened to."""

    user_id: str


class UserProfile(msgspec.Struct, frozen=True, gc=False):
    """What is known of a user; None where nothing is said."""

    username: str | None = None
    email: str | None = None
    country: str | None = None


class UserRegisteredData(UserData, frozen=True, gc=False):
    """A new user and their profile."""

    username: str | None = None
    email: str | None = None
    country: str | None = None


class UserUpdatedData(UserData, frozen=True, gc=False):
    """A user and the part of the profile that changed."""

    changes: UserProfile


class UserLoggedInData(UserData, frozen=True, gc=False):
    """A log-in, from where and with what."""

    ip: str | None = None
    device: str | None = None


class UserStatusChangedData(UserData, frozen=True, gc=False):
    """A user's new status."""

    status: str


class UserRegistered(Envelope, frozen=True, gc=False, kw_only=True, tag="user.registered"):
    """A user signed up."""

    data: UserRegisteredData


class UserUpdated(Envelope, frozen=True, gc=False, kw_only=True, tag="user.updated"):
    """A user's profile changed."""

    data: UserUpdatedData


class UserLoggedIn(Envelope, frozen=True, gc=False, kw_only=True, tag="user.logged_in"):
    """A user logged in."""

    data: UserLoggedInData


class UserPasswordChanged(
    Envelope, frozen=True, gc=False, kw_only=True, tag="user.password_changed"
):
    """A user's password changed."""

    data: UserData


class UserDeleted(Envelope, frozen=True, gc=False, kw_only=True, tag="user.deleted"):
    """A user is gone."""

    data: UserData


class UserStatusChanged(Envelope, frozen=True, gc=False, kw_only=True, tag="user.status_changed"):
    """A user's status changed."""

    data: UserStatusChangedData


# --- payments -----------------------------------------------------------------------------------


class PaymentData(msgspec.Struct, frozen=True, gc=False):
    """A payment, and the order that it is for."""

    order_id: str
    user_id: str
    payment_id: str | None = None
    amount: Amount | None = None


class PaymentFailedData(PaymentData, frozen=True, gc=False):
    """A payment that was tried in vain, and why."""

    reason: str | None = None


class PaymentCompleted(Envelope, frozen=True, gc=False, kw_only=True, tag="payment.completed"):
    """An order was paid."""

    data: PaymentData

    def check(self) -> str | None:
        """Return what is wrong with the amount, None if it has at most two decimals."""
        return amount_fault(self.data.amount)


class PaymentFailed(Envelope, frozen=True, gc=False, kw_only=True, tag="payment.failed"):
    """A payment was tried in vain."""

    data: PaymentFailedData

    def check(self) -> str | None:
        """Return what is wrong with the amount, None if it has at most two decimals."""
        return amount_fault(self.data.amount)


def amount_fault(amount: float | None, name: str = "amount") -> str | None:
    """Return what is wrong with an amount of the data that has more than two decimals; None for others."""
    if amount is None or round(amount * 100) / 100 == amount:  # see OrderCreated.check
        return None
    return f"data.{name}: {amount!r} has more than two decimals"


# --- derived ------------------------------------------------------------------------------------


class Derived(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event_type"):
    """What every event that a flow makes of another has; `timestamp` is the source's, in ms."""

    event_id: str
    aggregate_id: str
    timestamp: int
    version: int = 1
    correlation_id: str
    causation_id: str


class HighValueData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The order's data; `items` as they came, unset (not written) where the order has none."""

    order_id: str
    user_id: str
    amount: float
    currency: str
    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    category: str = "HIGH_VALUE"
    alert_sent: bool = True


class OrderHighValue(Derived, frozen=True, gc=False, kw_only=True, tag="order.high_value"):
    """An order above the high-value amount."""

    TYPE: ClassVar[str] = "order.high_value"
    data: HighValueData

    @classmethod
    def caused_by(cls, order: OrderCreated) -> Self:
        """Return the event that tells of this order; the same for the same order, id included."""
        data = order.data
        return cls(
            event_id=f"{order.event_id}:{cls.TYPE}",
            aggregate_id=data.order_id,
            timestamp=order.timestamp,
            correlation_id=order.correlation,
            causation_id=order.event_id,
            data=HighValueData(
                order_id=data.order_id,
                user_id=data.user_id,
                amount=data.amount,
                currency=DEFAULT_CURRENCY if data.currency is None else data.currency,
                items=msgspec.UNSET if data.items in _NOTHING else data.items,
            ),
        )


class VipUpgradeData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Who became a VIP, by how many orders, and by which."""

    user_id: str
    order_count: int
    order_id: str


class UserVipUpgraded(Derived, frozen=True, gc=False, kw_only=True, tag="user.vip_upgraded"):
    """A user became a VIP."""

    TYPE: ClassVar[str] = "user.vip_upgraded"
    data: VipUpgradeData

    @classmethod
    def caused_by(cls, order: OrderCreated, *, order_count: int) -> Self:
        """Return the upgrade of the order's user; the same for the same order, id included."""
        data = order.data
        return cls(
            event_id=f"{order.event_id}:{cls.TYPE}",
            aggregate_id=data.user_id,
            timestamp=order.timestamp,
            correlation_id=order.correlation,
            causation_id=order.event_id,
            data=VipUpgradeData(
                user_id=data.user_id, order_count=order_count, order_id=data.order_id
            ),
        )


class EnrichedUser(msgspec.Struct, frozen=True, gc=False):
    """What an enriched order tells of its user; None where it is not known."""

    email: str | None
    country: str | None
    status: str | None


class OrderEnrichedData(msgspec.Struct, frozen=True, gc=False):
    """The order's data, and its user as they were at the order's turn; None if nobody knew them."""

    order_id: str
    user_id: str
    amount: float
    currency: str
    user: EnrichedUser | None
    items: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class OrderEnriched(Derived, frozen=True, gc=False, kw_only=True, tag="order.enriched"):
    """An order with its user."""

    TYPE: ClassVar[str] = "order.enriched"
    data: OrderEnrichedData

    @classmethod
    def caused_by(cls, order: OrderCreated, *, user: EnrichedUser | None) -> Self:
        """Return the event that tells of this order; the same for the same order and user."""
        data = order.data
        return cls(
            event_id=f"{order.event_id}:order.enriched",
            aggregate_id=data.order_id,
            timestamp=order.timestamp,
            correlation_id=order.correlation,
            causation_id=order.event_id,
            data=OrderEnrichedData(
                data.order_id,
                data.user_id,
                data.amount,
                DEFAULT_CURRENCY if data.currency is None else data.currency,
                user,
                msgspec.UNSET if data.items in _NOTHING else data.items,
            ),
        )


_NOTHING = (msgspec.Raw(), msgspec.Raw(b"null"))


# --- derived from what belongs together in event time -------------------------------------------------


def amount_of(cents: int) -> float | Decimal:
    """Return cents in the main unit: as a double where that is exact enough to be written."""
    return cents / 100 if cents <= _MOST_DOUBLE_CENTS else Decimal(cents).scaleb(-2)


_MOST_DOUBLE_CENTS = 10**15


class PaymentMatchData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An order and a payment for it; `waited_ms` is the time between them."""

    order_id: str
    user_id: str
    amount: float
    currency: str
    payment_id: str | None
    paid_amount: float | None
    waited_ms: int


class OrderPaymentMatched(
    Derived, frozen=True, gc=False, kw_only=True, tag="order.payment_matched"
):
    """A payment for an order came in time."""

    data: PaymentMatchData


class UnpaidData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The order for which no payment came."""

    order_id: str
    user_id: str
    amount: float
    currency: str


class OrderUnpaid(Derived, frozen=True, gc=False, kw_only=True, tag="order.unpaid"):
    """No payment for an order came in time."""

    data: UnpaidData


class OfWindow(msgspec.Struct, frozen=True, gc=False, kw_only=True, tag_field="event_type"):
    """What every event has that tells of a window; `timestamp` is the window's last ms.

    Its id is `<flow>:<key>:<start>-<end>`: the same for the same window. No single event caused it.
    """

    event_id: str
    aggregate_id: str
    timestamp: int
    version: int = 1
    correlation_id: str
    causation_id: None = None
    data: Any

    @classmethod
    def told_by(cls, flow: str, start_ms: int, end_ms: int, *, last_ms: int, data: Any) -> Self:
        """Return what a flow tells of a user's window; `last_ms` is the last inside, data has the user."""
        event_id = f"{flow}:{data.user_id}:{start_ms}-{end_ms}"
        return cls(
            event_id=event_id,
            aggregate_id=data.user_id,
            timestamp=last_ms,
            correlation_id=event_id,
            data=data,
        )


class SessionData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A user's session, [started_at, ended_at], and what they did in it."""

    user_id: str
    started_at: int
    ended_at: int
    duration_ms: int
    events: int
    orders: int
    amount: float | Decimal


class UserSessionClosed(OfWindow, frozen=True, gc=False, kw_only=True, tag="user.session_closed"):
    """A user has done nothing for so long that their session is over."""

    data: SessionData


class OrderStatsData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A user's orders in [window_start, window_end): how many, their sum, highest and mean amount."""

    user_id: str
    window_start: int
    window_end: int
    orders: int
    amount: float | Decimal
    highest: float | Decimal
    mean: float | Decimal


class UserOrderStats(OfWindow, frozen=True, gc=False, kw_only=True, tag="user.order_stats"):
    """What a user ordered in a window that has closed."""

    data: OrderStatsData


class SpikeData(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A user's orders in the hour [started_at, ended_at]."""

    user_id: str
    started_at: int
    ended_at: int
    orders: int
    amount: float | Decimal


class UserSpendingSpike(OfWindow, frozen=True, gc=False, kw_only=True, tag="user.spending_spike"):
    """A user has begun to spend much, or to order often."""

    data: SpikeData
