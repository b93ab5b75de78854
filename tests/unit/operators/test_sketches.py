"""Sketches beside the exact answers: any order, cut and merge, and how far they are off."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from itertools import chain
from random import Random
from statistics import fmean
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.operators.aggregates import Aggregate, several
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sketches import Frequent, distinct, quantiles, top
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.windowing import Aggregation, HoppingWindows, WindowAggregation
from streams.operators.windows import TumblingWindows
from tests.unit.operators.cuts import (
    CUTS,
    EVENTS,
    Event,
    assert_cuts_change_nothing,
    ids,
    key_of,
    run,
)

OfAny: TypeAlias = Aggregate[Any, Any, Any]


def itself(value: Any) -> Any:
    return value


# Small ones, so that few values are many.
FEW_REGISTERS: OfAny = distinct(itself, standard_error=0.13)
FEW_BUCKETS: OfAny = quantiles(itself, [0, 0.25, 0.5, 1], most_buckets=130)
FEW_COUNTERS: OfAny = top(itself, 3, counters=4)

EXTREMES = [0, 1, -1, 2**53 + 1, -(2**63), 2**64, -(10**30), 10**400]
RUNS = st.builds(
    lambda first, step, size: [first + step * n for n in range(size)],
    st.integers(-1000, 1000) | st.sampled_from(EXTREMES),
    st.integers(-3, 3) | st.sampled_from([97, 10**9, 2**61 - 1]),
    st.integers(0, 100),
)
NUMBERS = st.lists(RUNS | st.lists(st.integers()), max_size=4).map(lambda runs: list(chain(*runs)))
TEXTS = st.lists(st.text(max_size=3) | st.sampled_from(["", "é", "e\u0301", "日本", "\0"]))
FEW_NUMBERS = st.lists(st.integers(0, 12), max_size=80)
SEEDS = st.integers(0, 2**32)


def grown(aggregate: OfAny, values: Sequence[Any], random: Random) -> Any:
    """Return a state of values that were cut and merged, or added, in one of all the ways."""
    at = random.randrange(len(values) + 1)
    way = random.choice(["merge", "then", "many", "one"]) if len(values) > 1 else "one"
    if way == "one":
        return reduce(aggregate.add, values, aggregate.initial)
    if way == "many":
        return aggregate.add_all(aggregate.initial, values)
    left = grown(aggregate, values[:at], random)
    if way == "merge":
        return aggregate.merge(left, grown(aggregate, values[at:], random))
    return aggregate.add_all(left, values[at:]) if values[at:] else left


def result_of(aggregate: OfAny, values: Sequence[Any]) -> Any:
    return aggregate.result(aggregate.add_all(aggregate.initial, values))


def as_json(aggregate: OfAny, state: Any) -> bytes:
    """Return a state as JSON, from which it comes back as it was."""
    written = msgspec.json.encode(state)
    read = msgspec.json.decode(written, type=aggregate.state_type)
    assert read == state
    assert msgspec.json.encode(read) == written
    hash(read)  # what cannot change
    return written


# -- laws ------------------------------------------------------------------------------------------


@given(NUMBERS, SEEDS)
def test_distinct_and_quantiles_have_one_state_for_any_order_cut_and_merge(
    values: list[int], seed: int
) -> None:
    random = Random(seed)
    shuffled = random.sample(values, len(values))
    for aggregate in (FEW_REGISTERS, FEW_BUCKETS):
        state = reduce(aggregate.add, values, aggregate.initial)
        written = as_json(aggregate, state)
        for order in (values, shuffled):
            again = grown(aggregate, order, random)
            assert again == state
            assert as_json(aggregate, again) == written
        assert aggregate.merge(aggregate.initial, state) == state
        assert aggregate.merge(state, aggregate.initial) == state


@given(TEXTS, TEXTS, SEEDS)
def test_distinct_texts_have_one_state_too_and_none_counts_twice(
    a: list[str], b: list[str], seed: int
) -> None:
    state = grown(FEW_REGISTERS, a + b, Random(seed))
    assert state == grown(FEW_REGISTERS, b + a + b, Random(seed + 1))
    assert FEW_REGISTERS.merge(state, state) == state


@given(FEW_NUMBERS, SEEDS)
def test_top_keeps_to_its_bounds_for_any_cut_and_merge(values: list[int], seed: int) -> None:
    state = grown(FEW_COUNTERS, values, Random(seed))
    as_json(FEW_COUNTERS, state)
    assert_bounds(values, state, counters=4)
    told = FEW_COUNTERS.result(state)
    assert list(told) == sorted(told, key=lambda each: (-each.at_least, each.value))[:3]
    assert FEW_COUNTERS.merge(FEW_COUNTERS.initial, state) == state
    assert FEW_COUNTERS.merge(state, FEW_COUNTERS.initial) == state


def assert_bounds(values: Sequence[int], state: Any, counters: int) -> None:
    """Assert what is told of all the counters, and of values that have none."""
    truth = Counter(values)
    told = {each.value: each for each in top(itself, counters, counters).result(state)}
    most = len(values) / (counters + 1)
    assert len(told) <= counters
    assert {value for value, count in truth.items() if count > most} <= told.keys()
    for value, at_least, at_most in told.values():
        assert at_least <= truth[value] <= at_most <= at_least + most
    if len(truth) <= counters:
        assert told == {value: Frequent(value, n, n) for value, n in truth.items()}


@given(FEW_NUMBERS, SEEDS)
def test_top_has_one_state_for_any_cut_of_an_order(values: list[int], seed: int) -> None:
    random, state, left = Random(seed), FEW_COUNTERS.initial, values
    whole = reduce(FEW_COUNTERS.add, values, state)
    alone = [FEW_COUNTERS.add(FEW_COUNTERS.initial, value) for value in values]
    while left:
        size = random.randint(1, 9)
        state, left = FEW_COUNTERS.add_all(state, left[:size]), left[size:]
    assert state == whole
    # As sliding windows add them.
    assert reduce(FEW_COUNTERS.merge, alone, FEW_COUNTERS.initial) == whole


SHARES = st.floats(0, 1) | st.sampled_from([0.0, 0.07, 0.5, 0.99, 1.0])


@given(NUMBERS.filter(bool), st.lists(SHARES, max_size=3), st.sampled_from([0.9, 0.1, 0.01, 1e-6]))
def test_quantiles_are_within_the_error_that_they_tell(
    values: list[int], at: list[float], error: float
) -> None:
    aggregate: OfAny = quantiles(itself, at, error, most_buckets=130)
    state = aggregate.add_all(aggregate.initial, values)
    told = aggregate.result(state)
    ranked = sorted(values)
    halved = state[0]
    assert (told.relative_error <= error) or halved
    for share, value in zip(at, told.values, strict=True):
        # In fractions: the place is not to hang on how a product is rounded.
        place = next(
            n for n in range(1, len(ranked) + 1) if n >= Fraction(str(share)) * len(ranked)
        )
        truth = ranked[place - 1]
        assert abs(Fraction(value) - truth) <= Fraction(told.relative_error) * abs(truth)
        if not halved and abs(truth) < 1 / error:
            assert value == truth
    if all(-(2**63) <= value < 2**64 for value in values):
        assert told.relative_error <= 0.5


@given(st.integers(0, 3000), SEEDS, st.sampled_from([0.05, 0.02]))
def test_distinct_is_within_five_standard_errors(size: int, seed: int, error: float) -> None:
    aggregate: OfAny = distinct(itself, error)
    values = [f"{seed}-{n}" for n in range(size)]
    told = result_of(aggregate, values * 2)
    assert abs(told - size) <= 5 * error * size
    if size <= 1 / (15 * error**2):
        assert told == size


# -- how far off, and how large --------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 40, 100, 200, 400, 2000])
def test_the_standard_error_of_distinct_is_what_was_asked_for(size: int) -> None:
    told = [result_of(FEW_REGISTERS, [f"{trial} {n}" for n in range(size)]) for trial in range(400)]
    off = [each / size - 1 for each in told]
    assert fmean(each**2 for each in off) ** 0.5 <= 0.13 * 1.08  # 400 trials tell it within 3.5 %
    assert abs(fmean(off)) <= 0.13 / 3


def test_a_hundred_thousand_values_are_told_nearly_from_four_thousand_bytes() -> None:
    aggregate: OfAny = distinct(itself)
    state = aggregate.initial
    for begin in range(0, 100_000, 1000):
        state = aggregate.add_all(state, range(begin, begin + 1000))
        assert len(as_json(aggregate, state)) <= 4096 + 2
    assert abs(aggregate.result(state) - 100_000) <= 0.03 * 100_000


@pytest.mark.parametrize("error", [0.0041, 0.01, 0.02, 0.1, 0.13, 0.99])
def test_a_state_of_distinct_is_never_larger_than_it_says(error: float) -> None:
    aggregate: OfAny = distinct(itself, error)
    state, largest = aggregate.initial, max(2.2 / error**2, 66)
    for n in range(5000):
        state = aggregate.add_all(state, [n])
        if n & (n + 1) == 0 or n in range(250, 260):
            assert len(as_json(aggregate, state)) <= largest


def test_buckets_suffice_for_a_factor_of_sixty_thousand() -> None:
    aggregate: OfAny = quantiles(itself, [0, 0.5, 0.99, 1])
    state = aggregate.add_all(aggregate.initial, range(1000, 60_000_000, 59))
    assert len(as_json(aggregate, state)) < 1024 * 12
    told = aggregate.result(state)
    assert told.relative_error == 1 / 128
    assert told.values == pytest.approx((1000, 30_000_500, 59_400_010, 60_000_000), rel=1 / 128)


def test_buckets_that_do_not_suffice_become_wider_for_all() -> None:
    aggregate: OfAny = quantiles(itself, [0, 0.5, 1])
    wide = [sign * 3**n for n in range(40) for sign in (-1, 1)]
    many = [value * n for value in wide for n in range(1, 60)]
    state = aggregate.add_all(aggregate.initial, many)
    assert (state[0], len(state[1].keys)) == (4, 532)
    values, error = aggregate.result(state)
    assert error == 2**4 / 128
    assert values == pytest.approx((-59 * 3**39, -1, 59 * 3**39), rel=error)


def test_numbers_of_any_size_fit_and_keep_their_signs_and_zero() -> None:
    aggregate: OfAny = quantiles(itself, [0, 0.5, 1], most_buckets=130)
    values = [0, *(sign * 2**power for power in range(1000) for sign in (-1, 1))]
    state = aggregate.add_all(aggregate.initial, values)
    assert len(state[1].keys) <= 130
    (lowest, median, highest), error = aggregate.result(state)
    assert (median, error) == (0, 1.0)
    assert -(2**999) <= lowest < 0 < highest <= 2**999


def test_counters_are_never_more_than_was_asked_for() -> None:
    aggregate: OfAny = top(itself, 10)
    values = [n if n % 3 else 7 for n in range(30_000)]
    state = aggregate.add_all(aggregate.initial, values)
    assert len(state[1].keys) <= 256
    first, *_ = aggregate.result(state)
    assert (first.value, first.at_least <= 10_001 <= first.at_most) == (7, True)
    assert_bounds(values, state, counters=256)


# -- what they say ---------------------------------------------------------------------------------


def test_what_a_value_hashes_to_is_the_same_everywhere() -> None:
    aggregate: OfAny = distinct(itself)
    hashes = {value: aggregate.add(aggregate.initial, value) for value in ("", "ada", "é", -1)}
    assert hashes == {
        "": (140_759_916_582_082,),
        "ada": (75_194_495_172_655,),
        "é": (10_996_944_014_515,),
        -1: (184_400_441_221_663,),
    }


def test_a_number_and_its_text_are_one_value_and_half_a_character_is_one_as_well() -> None:
    assert result_of(distinct(itself), [1, "1", "01", "\ud800", "\ud801"]) == 4


def test_quantiles_are_told_in_the_order_in_which_they_were_asked_for() -> None:
    told = result_of(quantiles(itself, [1, 0.07, 0, 0.071]), range(1, 101))
    assert told == ((100, 7, 1, 8), 1 / 128)
    assert result_of(quantiles(itself, [0.5]), [5, -7, 0, 0]) == ((0,), 1 / 128)


def test_the_most_frequent_are_told_first_and_equals_by_value() -> None:
    told = result_of(top(itself, 2), ["bob", "ada", "cyd", "bob", "cyd", "ada"])
    assert told == (Frequent("ada", 2, 2), Frequent("bob", 2, 2))


@pytest.mark.parametrize("error", [0, 0.004, 1, float("nan")])
def test_errors_of_distinct_that_cannot_be_are_refused(error: float) -> None:
    with pytest.raises(ValueError, match=r"^standard_error must be 0.0041 to 1, not "):
        distinct(itself, error)


@pytest.mark.parametrize("error", [0, 1e-7, 1, float("nan")])
def test_errors_of_quantiles_that_cannot_be_are_refused(error: float) -> None:
    with pytest.raises(ValueError, match=r"^relative_error must be 2 \*\* -20 or more"):
        quantiles(itself, [], error)


@pytest.mark.parametrize("share", [-0.1, 1.1, 99, float("nan")])
def test_quantiles_that_are_none_are_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"^a quantile is from 0 to 1, not "):
        quantiles(itself, [0.5, share])


def test_too_few_buckets_and_counters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^most_buckets must be 130 or more, not 129$"):
        quantiles(itself, [], most_buckets=129)
    with pytest.raises(ValueError, match=r"^most must be 1 or more, not 0$"):
        top(itself, 0)
    with pytest.raises(ValueError, match=r"^counters must be 3 or more, not 2$"):
        top(itself, 3, counters=2)


# -- in windows ------------------------------------------------------------------------------------

KINDS = ["tumbling", "hopping", "sliding", "sessions"]


def value_of(event: Event) -> int:
    return event.n % 7


def operator(kind: str, aggregate: OfAny) -> Aggregation[Event, Any, Any]:
    match kind:
        case "tumbling":
            return WindowAggregation(TumblingWindows(10, 4), aggregate, key=key_of)
        case "hopping":
            return WindowAggregation(HoppingWindows(20, 5, 4), aggregate, key=key_of)
        case "sliding":
            return SlidingAggregation(SlidingWindows(10, 4), aggregate, key=key_of)
    return SessionAggregation(SessionWindows(5, 4), aggregate, key=key_of)


@pytest.mark.parametrize("kind", KINDS)
@given(events=EVENTS, cuts=CUTS)
def test_windows_tell_of_their_events_wherever_the_input_is_cut(
    kind: str, events: list[Event], cuts: list[int]
) -> None:
    sketches = several(
        distinct=distinct(value_of, 0.13),
        quantiles=quantiles(value_of, [0.5, 1]),
        top=top(value_of, 2, counters=8),
    )
    whole = assert_cuts_change_nothing(operator(kind, sketches), events, cuts)
    contents = run(operator(kind, ids()), events)
    assert whole.final() == {
        window: result_of(sketches, [events[n] for n in numbers])
        for window, numbers in contents.final().items()
    }


@pytest.mark.parametrize("kind", KINDS)
@given(events=EVENTS, cuts=CUTS)
def test_windows_with_more_values_than_counters_tell_of_them_within_bounds(
    kind: str, events: list[Event], cuts: list[int]
) -> None:
    counters = 2
    # Together with another, so that `several` is seen to pass on that merges are not exact.
    aggregate = several(top=top(value_of, counters, counters), distinct=distinct(value_of))
    whole = assert_cuts_change_nothing(operator(kind, aggregate), events, cuts)
    found: dict[Any, Any] = whole.final()
    contents = run(operator(kind, ids()), events).final()
    assert found.keys() == contents.keys()
    for window, numbers in contents.items():
        truth = Counter(value_of(events[n]) for n in numbers)
        for value, at_least, at_most in found[window]["top"]:
            assert at_least <= truth[value] <= at_most <= at_least + len(numbers) / (counters + 1)
