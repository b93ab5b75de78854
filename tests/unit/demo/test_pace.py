"""How many records are due, whatever happens to the rate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from demo.pace import Pace

MANY = 10**9


@given(st.integers(1, 100_000), st.lists(st.floats(0, 100), min_size=1).map(sorted))
def test_at_one_rate_as_many_are_due_as_the_time_says(rate: int, asked_s: list[float]) -> None:
    pace = Pace(rate)
    assert sum(pace.take_due(at_s, MANY) for at_s in asked_s) == int(rate * asked_s[-1])


def test_what_is_too_much_is_due_the_next_time() -> None:
    pace = Pace(100)
    assert [pace.take_due(1.0, 60), pace.take_due(1.0, 60)] == [60, 40]


def test_another_rate_counts_from_where_it_began() -> None:
    pace = Pace(100)
    assert pace.take_due(2.0, MANY) == 200
    pace.change(rate=10)
    assert pace.take_due(4.0, MANY) == 20
    assert pace.rate == 10


def test_a_backlog_is_given_up_when_the_rate_changes() -> None:
    pace = Pace(1_000)
    pace.take_due(10.0, 1)
    pace.change(rate=1)
    assert pace.take_due(11.0, MANY) == 1


def test_in_a_pause_only_bursts_are_sent() -> None:
    pace = Pace(100)
    pace.change(paused=True)
    pace.add_burst([("orders", None, b"x")])
    assert pace.take_due(5.0, MANY) == 0
    assert pace.take_burst() == [("orders", None, b"x")]
    assert pace.take_burst() == []
    pace.change(paused=False)
    assert pace.take_due(6.0, MANY) == 100
