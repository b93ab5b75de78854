"""Operators are judged by a second, direct reading of what each is; it tells every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.operators.inputs import placed, records
from bench.operators.kinds import KINDS, Kind, Operator
from bench.operators.oracle import (
    NOT_YET_MS,
    Key,
    Outcome,
    Placed,
    ResultJson,
    as_table,
    differences,
    outcomes,
)
from bench.operators.page import times_of_others
from bench.page import OPERATORS, write_page
from bench.results import OperatorRow, Results
from bench.work import ORDERS
from tests.unit.bench.test_page import MACHINE

END_MS = 1_763_715_600_000


def kind(operator: Operator, size_ms: int, advance_ms: int = 0) -> Kind:
    """Return an operator with a grace of 5 ms."""
    return Kind(name="a", operator=operator, size_ms=size_ms, advance_ms=advance_ms, grace_ms=5)


def counted(of: Kind, *times_ms: int, until_ms: int = 1_000) -> dict[int, tuple[int, int]]:
    """Return orders and cents of a user's windows by start; the order at t is of t cents."""
    orders = [Placed("u", time_ms, time_ms) for time_ms in times_ms]
    found = outcomes(of, [*orders, Placed("other", until_ms, 0)], [])
    return {
        start: (one.value[0] or 0, one.value[1] or 0)
        for (key, start), one in found.items()
        if key == "u"
    }


#           0         10        20        30        40
# orders        4        11 13            28
# tumbling  |--------||--------||--------|
def test_tumbling_windows_lie_side_by_side() -> None:
    assert counted(kind("tumbling", 10, 10), 13, 4, 11, 28) == {0: (1, 4), 10: (2, 24), 20: (1, 28)}


#           0         10        20
# orders               11
# hopping        [5 .. 14]
#                     [10 .. 19]
def test_hopping_windows_hold_an_order_each() -> None:
    assert counted(kind("hopping", 10, 5), 11) == {5: (1, 11), 10: (1, 11)}


#           0         10        20        30
# orders               11 13              30
# sliding    [1 .. 11]
#              [3 .. 13]
#                      [12 .. 22]
#                              [20 .. 30]
def test_sliding_windows_end_or_begin_at_orders() -> None:
    assert counted(kind("sliding", 10), 13, 11, 30) == {
        1: (1, 11),
        3: (2, 24),
        12: (1, 13),
        20: (1, 30),
    }


#           0         10        20
# orders      2     9    14          26
# sessions    [----------]           [
def test_a_session_ends_where_nothing_follows_within_its_gap() -> None:
    assert counted(kind("session", 7), 9, 26, 2, 14) == {2: (3, 25), 26: (1, 26)}


def test_what_closes_after_the_last_order_is_not_there_yet() -> None:
    found = outcomes(kind("tumbling", 10, 10), [Placed("u", 1, 1), Placed("u", 15, 1)], [])
    assert {start: one.due_ms for (_, start), one in found.items()} == {0: 15, 10: NOT_YET_MS}


def test_orders_and_payments_are_paired_and_an_outer_join_tells_the_others() -> None:
    orders = [Placed("o-1", 0, 100), Placed("o-2", 0, 200), Placed("o-3", 200, 300)]
    payments = [Placed("o-1", 10, 100), Placed("o-2", 11, 200), Placed("x", 5, 500)]
    inner = outcomes(kind("inner", 10), orders, payments)
    assert inner == {("o-1", 0): Outcome((100, 100, 0), 10)}
    outer = outcomes(kind("outer", 10), orders[::2], payments[::2])
    assert outer == inner | {
        ("o-3", 0): Outcome((300, None, 0), NOT_YET_MS),
        ("x", 0): Outcome((None, 500, 0), 5 + 10 + 5 + 1),
    }


ORDERED = [Placed("ada", 4, 100, "o-1"), Placed("ada", 10, 200, "o-2"), Placed("bo", 6, 300, "o-3")]
"""As they come: the third one is behind."""
USERS = [Placed("ada", 5, 1), Placed("bo", 9, 2), Placed("ada", 7, 3), Placed("bo", 11, None)]


def joined(operator: Operator) -> dict[str, tuple[int | None, int | None]]:
    """Return both sides of each result, by its key."""
    found = outcomes(kind(operator, 10), ORDERED, USERS)
    return {key: outcome.value[:2] for (key, _), outcome in found.items()}


#       turn   4         5        9      9 (7)    10        10 (6)    11
# orders       o-1 ada                            o-2 ada   o-3 bo
# users                  ada: 1   bo: 2  ada: 3                       bo: -
def test_an_order_is_joined_with_the_user_as_of_its_turn() -> None:
    assert joined("stream-table") == {"o-1": (100, None), "o-2": (200, 3), "o-3": (300, 2)}


def test_an_order_is_joined_with_the_user_as_of_its_own_time_when_the_grace_is_over() -> None:
    assert joined("versioned") == {"o-1": (100, None), "o-2": (200, 3), "o-3": (300, None)}
    dues_ms = [one.due_ms for one in outcomes(kind("versioned", 10), ORDERED, USERS).values()]
    assert dues_ms == [4 + 5, NOT_YET_MS, 6 + 5]


def test_two_tables_have_the_last_of_both_sides() -> None:
    assert joined("table-table") == {"ada": (200, 3)}


def test_a_foreign_key_joins_each_order_with_the_last_of_its_user() -> None:
    assert joined("foreign-key") == {"o-1": (100, 3), "o-2": (200, 3)}


def test_orders_by_another_key_are_counted_though_their_windows_are_open() -> None:
    found = outcomes(kind("repartition", 10, 10), [Placed("p", 1, 5), Placed("p", 3, 6)], [])
    assert found == {("p", 0): Outcome((2, 11, 10), 15)}


def test_changes_leave_the_last_row_of_each_key_and_none_that_is_deleted() -> None:
    changes = [
        ResultJson("a", 0, 0, 1, 1),
        ResultJson("b", 0, 0, 1, 1),
        ResultJson("a", 0, 0, None, None),
        ResultJson("b", 0, 0, 2, None),
    ]
    assert as_table(changes) == [changes[-1]]


EXPECTED: dict[Key, Outcome] = {
    ("u", 0): Outcome((1, 5, 10), 15),
    ("u", 10): Outcome((2, 9, 20), 25),
}


def result(start: int, left: int, right: int) -> ResultJson:
    """Return a window of ten ms."""
    return ResultJson("u", start, start + 10, left, right)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([result(0, 1, 5)], ["('u', 10): missing"]),
        ([result(0, 1, 5), result(10, 2, 9), result(0, 1, 5)], ["('u', 0): told twice"]),
        ([result(0, 1, 6), result(10, 2, 9)], ["('u', 0): (1, 6, 10), not (1, 5, 10)"]),
        (
            [result(0, 1, 5), result(10, 2, 9), result(20, 1, 1)],
            ["('u', 20): (1, 1, 30), not None"],
        ),
        ([result(10, 2, 9), result(0, 1, 5)], []),
    ],
    ids=["missing", "twice", "other", "made up", "right"],
)
def test_wrong_results_are_told(results: list[ResultJson], said: list[str]) -> None:
    assert list(differences(EXPECTED, results, until_ms=25)) == said


def test_what_may_be_held_back_may_be_missing() -> None:
    assert list(differences(EXPECTED, [result(0, 1, 5)], until_ms=24)) == []


def test_of_many_wrong_results_the_first_are_told() -> None:
    many = [result(start, 1, 1) for start in range(100, 200, 10)]
    assert list(differences({}, many, until_ms=0))[3:] == ["and 7 more"]


@pytest.mark.parametrize("of", KINDS, ids=lambda of: of.name)
def test_every_input_ends_with_results_and_has_nothing_late(of: Kind) -> None:
    stream_ms: dict[str, int] = {}
    events: dict[str, list[Placed]] = {topic: [] for topic in of.inputs}
    for topic, key, value in records(of, 20_000, END_MS):
        one = placed(of, topic, value)
        own_key = one.order_id if topic == ORDERS and of.is_by_order else one.key
        assert of.operator == "repartition" or own_key == key.decode()
        stream_ms[topic] = max(stream_ms.get(topic, 0), one.time_ms)
        assert one.time_ms > stream_ms[topic] - of.grace_ms
        events[topic].append(one)
    orders, *others = events.values()
    found = outcomes(of, orders, others[0] if others else []).values()
    if of.size_ms < 100_000:
        assert sum(one.due_ms < NOT_YET_MS for one in found) > len(found) / 2


def rows() -> list[OperatorRow]:
    """Return an operator of two systems, and one of ours alone."""
    figures = {"a": (300.0, 100.0), "b": (50.0, None)}
    return [
        OperatorRow(operator=name, label=label, version="1", events=10, users=3, events_per_s=rate)
        for name, rates in figures.items()
        for label, rate in zip(("headrace-eo", "kafka-streams-eo"), rates, strict=True)
        if rate
    ]


def test_operators_have_a_place_of_their_own_on_the_page(tmp_path: Path) -> None:
    results = Results(machine=MACHINE, command="c", finished_at="now", operators=rows())
    assert times_of_others(results) == {"a": 3.0}
    page = tmp_path / "performance.md"
    (begin, end), (begin_tables, end_tables) = OPERATORS[False], OPERATORS[True]
    of_tables = f"{begin_tables}\nkept\n{end_tables}\n\nafter\n"
    page.write_text(f"before\n\n{begin}\nold\n{end}\n\n{of_tables}", "utf-8")
    write_page(results, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before")
    assert text.endswith(of_tables)
    assert "old" not in text
    assert "| a | kafka-streams-eo | 100 |  | 3.0 times as many |" in text
    assert not (tmp_path / "pictures").exists()

    for row in results.operators:
        row.operator = row.operator.replace("a", "table-table join")
    write_page(results, page)
    of_streams, _, of_tables = page.read_text(encoding="utf-8").partition(begin_tables)
    assert "| table-table join | kafka-streams-eo | 100 |  | 3.0 times as many |" in of_tables
    assert "| a | kafka-streams-eo |" not in of_streams
    assert "kept" not in of_tables
