"""Aggregates: what they say of events, and that any parts of the events may be merged."""

from collections.abc import Sequence
from statistics import fmean, pvariance
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.aggregates import (
    Aggregate,
    collect,
    count,
    first,
    fold,
    highest,
    last,
    lowest,
    mean,
    ranked,
    several,
    total,
    variance,
)
from streams.operators.sketches import distinct, quantiles, top


class Sale(NamedTuple):
    timestamp: int
    cents: int
    user: str


def cents(sale: Sale) -> int:
    return sale.cents


def user(sale: Sale) -> str:
    return sale.user


ALL: dict[str, Aggregate[Sale, Any, Any]] = {
    "count": count(),
    "total": total(cents),
    "lowest": lowest(cents),
    "highest": highest(cents),
    "mean": mean(cents),
    "variance": variance(cents),
    "first": first(user, str),
    "last": last(user, str),
    "collect": collect(user, 3, str),
    "ranked": ranked(lambda sale: (-sale.cents, sale.user), 2, tuple[int, str]),
    "fold": fold(
        frozenset(), lambda s, e: s | {e.user}, lambda a, b: a | b, len, frozenset[str]
    ),
}  # fmt: skip
ALL |= {
    "distinct": distinct(user),
    "quantiles": quantiles(cents, [0.5]),
    "top": top(user, 1),
}
ALL["several"] = several(**ALL)
SALES = [Sale(5, 300, "ada"), Sale(3, 100, "bob"), Sale(5, 200, "cyd"), Sale(3, 100, "dan")]


def state_of(aggregate: Aggregate[Sale, Any, Any], sales: Sequence[Sale]) -> Any:
    state = aggregate.initial
    for sale in sales:
        state = aggregate.add(state, sale)
    return state


def result_of(aggregate: Aggregate[Sale, Any, Any], sales: Sequence[Sale]) -> Any:
    return aggregate.result(state_of(aggregate, sales))


@pytest.mark.parametrize(
    ("name", "result", "of_nothing"),
    [
        ("count", 4, 0),
        ("total", 700, 0),
        ("lowest", 100, None),
        ("highest", 300, None),
        ("mean", 175.0, None),
        ("variance", 6875.0, None),
        ("first", "bob", None),
        ("last", "cyd", None),
        ("collect", ("ada", "bob", "cyd"), ()),
        ("ranked", ((-300, "ada"), (-200, "cyd")), ()),
        ("fold", 4, 0),
        ("distinct", 4, 0),
        ("quantiles", ((100,), 1 / 128), None),
        ("top", (("ada", 1, 1),), ()),
    ],
)
def test_what_aggregates_say_of_events_and_of_none(name: str, result: Any, of_nothing: Any) -> None:
    assert result_of(ALL[name], SALES) == result
    assert result_of(ALL[name], []) == of_nothing
    assert result_of(ALL["several"], SALES)[name] == result


def test_money_is_summed_exactly_at_any_size() -> None:
    sales = [Sale(0, 10**18 + n, "ada") for n in range(3)]
    assert result_of(total(cents), sales) == 3 * 10**18 + 3
    assert result_of(mean(cents), sales) == float(10**18 + 1)
    assert result_of(variance(cents), sales) == 2 / 3


def test_fewer_than_one_cannot_be_collected() -> None:
    with pytest.raises(ValueError, match=r"^most must be 1 or more, not 0$"):
        collect(cents, 0)
    with pytest.raises(ValueError, match=r"^most must be 1 or more, not 0$"):
        ranked(cents, 0)


# -- laws ------------------------------------------------------------------------------------------

LISTS = st.lists(
    st.builds(
        Sale,
        timestamp=st.integers(0, 5),
        cents=st.integers(0, 2**40),
        user=st.sampled_from(["ada", "bob", "cyd", "dan"]),
    ),
    max_size=6,
)


@given(LISTS, LISTS, LISTS)
def test_the_merged_states_of_parts_are_the_state_of_the_whole(
    a: list[Sale], b: list[Sale], c: list[Sale]
) -> None:
    for aggregate in ALL.values():
        assert_parts_make_the_whole(aggregate, a, b, c)


def assert_parts_make_the_whole(
    aggregate: Aggregate[Sale, Any, Any], *parts: Sequence[Sale]
) -> None:
    merge = aggregate.merge
    a, b, c = (state_of(aggregate, part) for part in parts)
    whole = state_of(aggregate, [sale for part in parts for sale in part])
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == whole
    assert merge(aggregate.initial, whole) == whole == merge(whole, aggregate.initial)


@given(LISTS, LISTS.filter(bool))
def test_many_events_are_added_as_one_after_the_other(
    before: list[Sale], sales: list[Sale]
) -> None:
    for aggregate in ALL.values():
        state = state_of(aggregate, before)
        assert aggregate.add_all(state, sales) == state_of(aggregate, [*before, *sales])


@given(LISTS)
def test_states_come_back_from_json_as_they_were(sales: list[Sale]) -> None:
    for aggregate in ALL.values():
        state = state_of(aggregate, sales)
        read = msgspec.json.decode(msgspec.json.encode(state), type=aggregate.state_type)
        assert read == state
        hash(read)  # what cannot change


@given(LISTS, st.randoms(use_true_random=False))
def test_only_aggregates_about_order_hang_on_it(sales: list[Sale], random: Any) -> None:
    shuffled = random.sample(sales, len(sales))
    for name in ALL.keys() - {"first", "last", "collect", "several"}:
        assert result_of(ALL[name], sales) == result_of(ALL[name], shuffled)


@given(LISTS)
def test_results_are_those_of_the_definition(sales: list[Sale]) -> None:
    results = result_of(ALL["several"], sales)
    values = [sale.cents for sale in sales]
    assert results["count"] == len(values)
    assert results["total"] == sum(values)
    if values:
        assert (results["lowest"], results["highest"]) == (min(values), max(values))
        assert results["mean"] == pytest.approx(fmean(values))
        assert results["variance"] == pytest.approx(float(pvariance(values)))
        assert results["first"] == min(sales, key=lambda sale: sale.timestamp).user
        assert results["last"] == max(reversed(sales), key=lambda sale: sale.timestamp).user


@pytest.mark.parametrize("count_of_parts", range(len(ALL)))
def test_however_many_go_together_each_is_as_it_is_alone(count_of_parts: int) -> None:
    parts = {
        name: ALL[name] for name in [name for name in ALL if name != "several"][:count_of_parts]
    }
    alone = {name: result_of(part, SALES) for name, part in parts.items()}
    together = several(**parts)
    assert result_of(together, SALES) == alone
    merged = together.merge(state_of(together, SALES[:1]), state_of(together, SALES[1:]))
    assert together.result(merged) == alone
