"""Hours in which a user spends much or orders often: told once a spike, whatever the order and the cuts."""

from collections.abc import Sequence
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from agents.spending_spikes.rules import GRACE_MS, HOUR_MS, close, take_orders
from streams.events import OrderCreated, OrderCreatedData, UserSpendingSpike
from streams.operators.timed import TimedDict
from tables.timed import Spending

MINUTE_MS = 60_000
START_MS = 1_763_715_600_000


def order(at_min: float, amount: float = 10.0, user: str = "ada") -> OrderCreated:
    at_ms = START_MS + round(at_min * MINUTE_MS)
    data = OrderCreatedData(order_id="o", user_id=user, amount=amount)
    return OrderCreated(event_id="e", aggregate_id="o", timestamp=at_ms, data=data)


def told(batches: Sequence[Sequence[OrderCreated]]) -> tuple[list[UserSpendingSpike], int]:
    """Return the spikes, and how many orders were late; nothing is open in the end."""
    rows: TimedDict[Spending] = TimedDict()
    events: list[UserSpendingSpike] = []
    for batch in batches:
        take_orders(batch, rows)
        events += rows.fire(close)
    assert rows == rows_one_by_one(batches)
    rows.now_ms += 10 * HOUR_MS
    events += rows.fire(close)
    assert rows == {}
    return events, len(rows.late)


def rows_one_by_one(batches: Sequence[Sequence[OrderCreated]]) -> dict[str, Spending]:
    rows: TimedDict[Spending] = TimedDict()
    for each in chain.from_iterable(batches):
        take_orders([each], rows)
        rows.fire(close)
    return rows


def hours(events: Sequence[UserSpendingSpike]) -> list[tuple[float, int, float]]:
    """Return end (minutes), orders and amount of each spike."""
    return [
        ((e.data.ended_at - START_MS) / MINUTE_MS, e.data.orders, float(e.data.amount))
        for e in events
    ]


def test_five_orders_within_an_hour_are_a_spike_and_four_are_none() -> None:
    #  0  10  20  30  40        the hour that ends at the fifth order holds five
    five = [order(at) for at in (0, 10, 20, 30, 40)]
    events, _ = told([five])
    assert hours(events) == [(40.0, 5, 50.0)]
    assert events[0].event_id == (
        f"spending_spikes:ada:{START_MS - 20 * MINUTE_MS}-{START_MS + 40 * MINUTE_MS}"
    )
    assert events[0].timestamp == START_MS + 40 * MINUTE_MS
    assert told([five[:4]]) == ([], 0)


def test_an_hour_holds_both_of_its_ends_and_no_more() -> None:
    within = [order(0), order(1), order(2), order(3), order(60)]
    beyond = [*within[:-1], order(60 + 1 / MINUTE_MS)]
    assert hours(told([within])[0]) == [(60.0, 5, 50.0)]
    assert told([beyond]) == ([], 0)


def test_much_money_is_a_spike_to_the_cent() -> None:
    assert hours(told([[order(0, 2_500.0), order(30, 2_500.0)]])[0]) == [(30.0, 2, 5_000.0)]
    assert told([[order(0, 2_500.0), order(30, 2_499.99)]]) == ([], 0)


def test_a_spike_goes_on_while_its_hours_overlap_and_is_told_once() -> None:
    #  0  50  100 | 170         three hours touch one another, the last one is by itself
    events, _ = told([[order(at, 6_000.0) for at in (0, 50, 100, 170)]])
    assert hours(events) == [(0.0, 1, 6_000.0), (170.0, 1, 6_000.0)]


def test_an_order_that_is_late_for_its_own_hour_counts_in_those_that_are_open() -> None:
    events, late = told([[order(0, 3_000.0), order(40, 1_000.0), order(30, 1_000.0)]])
    assert (hours(events), late) == ([(40.0, 3, 5_000.0)], 0)
    _, late = told([[order(100), order(38, 9_000.0)]])
    assert late == 1


def test_a_row_is_the_same_whether_it_had_gone_meanwhile_or_not() -> None:
    told([[order(0, 6_000.0), order(150, user="bob"), order(200)]])


def oracle(placed: Sequence[OrderCreated]) -> tuple[list[tuple[str, int, int, int]], int]:
    """Return user, end, orders and cents of each spike by end and user; and how many were late."""
    now_ms = late = 0
    came: list[tuple[str, int, int, int]] = []
    for each in placed:
        now_ms = max(now_ms, each.timestamp)
        if each.timestamp + HOUR_MS + GRACE_MS < now_ms:
            late += 1
        else:
            came.append((each.data.user_id, each.timestamp, round(each.data.amount * 100), now_ms))
    ends = sorted({(end, user) for user, end, _, at_ms in came if at_ms <= end + GRACE_MS})
    spiking_until: dict[str, int] = {}
    spikes = []
    for end, user in ends:
        held = [
            cents
            for of, time_ms, cents, at_ms in came
            if of == user and end - HOUR_MS <= time_ms <= end and at_ms <= end + GRACE_MS
        ]
        if len(held) >= 5 or sum(held) >= 500_000:
            if end - HOUR_MS > spiking_until.get(user, -1):
                spikes.append((user, end, len(held), sum(held)))
            spiking_until[user] = end
    return spikes, late


ordered = st.builds(
    order,
    st.integers(0, 300) | st.sampled_from([0.5, 60 + 1 / MINUTE_MS, 61.0, 120.0]),
    st.sampled_from([10.0, 1_250.0, 2_500.0, 5_000.0]),
    st.sampled_from(["ada", "bob"]),
)


@given(placed=st.lists(ordered, max_size=25), cuts=st.lists(st.integers(1, 6), max_size=25))
def test_spikes_are_those_of_the_definition_however_the_orders_come(
    placed: list[OrderCreated], cuts: list[int]
) -> None:
    batches, rest = [], list(placed)
    for cut in [*cuts, len(rest) + 1]:
        batches.append(rest[:cut])
        rest = rest[cut:]
    events, late = told(batches)
    found = [
        (e.data.user_id, e.data.ended_at, e.data.orders, round(float(e.data.amount) * 100))
        for e in events
    ]
    assert (found, late) == oracle(placed)
