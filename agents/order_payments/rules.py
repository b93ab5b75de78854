"""Which orders are paid in time: a left join of orders and payments, by order id (docs/contract.md)."""

from collections.abc import Iterable, Iterator, Sequence

from streams.events import (
    OrderCreated,
    OrderPaymentMatched,
    OrderUnpaid,
    PaymentCompleted,
    PaymentMatchData,
    UnpaidData,
)
from streams.operators.joins import Joined, Pending
from streams.operators.timed import Fired, TimedRows
from tables.timed import PAYMENT_OF_ORDER, KeptOrder, KeptPayment

Row = Pending[KeptOrder, KeptPayment]


def take_orders(
    orders: Iterable[OrderCreated], rows: TimedRows[Row]
) -> Iterator[OrderPaymentMatched]:
    """Keep orders until they are paid; yield those whose payment is there already."""
    return _matched(PAYMENT_OF_ORDER.add_left(orders, rows))


def take_payments(
    payments: Iterable[PaymentCompleted], rows: TimedRows[Row]
) -> Iterator[OrderPaymentMatched]:
    """Keep payments until their order comes; yield an event for each whose order is there already."""
    return _matched(PAYMENT_OF_ORDER.add_right(payments, rows))


def unpaid(key: str, row: Row, now_ms: int) -> Fired[Row, OrderUnpaid]:
    """Return what may still be paid of a row, and an event for each order that was not in time."""
    left, joined = PAYMENT_OF_ORDER.fire(key, row, now_ms)
    return left, [_unpaid(each.left) for each in joined if each.left is not None]


def _matched(joined: Sequence[Joined[KeptOrder, KeptPayment]]) -> Iterator[OrderPaymentMatched]:
    pairs = ((each.left, each.right) for each in joined)
    return (_match(order, paid) for order, paid in pairs if order is not None and paid is not None)


def _match(order: KeptOrder, payment: KeptPayment) -> OrderPaymentMatched:
    return OrderPaymentMatched(
        event_id=f"{order.event_id}:order.payment_matched:{payment.event_id}",
        aggregate_id=order.order_id,
        timestamp=payment.timestamp,
        correlation_id=order.correlation_id,
        causation_id=payment.event_id,
        data=PaymentMatchData(
            order_id=order.order_id,
            user_id=order.user_id,
            amount=order.amount,
            currency=order.currency,
            payment_id=payment.payment_id,
            paid_amount=payment.amount,
            waited_ms=payment.timestamp - order.timestamp,
        ),
    )


def _unpaid(order: KeptOrder) -> OrderUnpaid:
    return OrderUnpaid(
        event_id=f"{order.event_id}:order.unpaid",
        aggregate_id=order.order_id,
        timestamp=order.timestamp,
        correlation_id=order.correlation_id,
        causation_id=order.event_id,
        data=UnpaidData(
            order_id=order.order_id,
            user_id=order.user_id,
            amount=order.amount,
            currency=order.currency,
        ),
    )
