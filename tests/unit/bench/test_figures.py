"""Rates come from commits alone; percentiles and spreads are the usual ones."""

from __future__ import annotations

import pytest

from bench.figures import Observation, least_done, longest_gaps, pace, percentile, profile, spread


def steady(seconds: int, *, rate: int, looks: int = 10) -> list[Observation]:
    """Return looks at a system that commits once a second and uses half of a core."""
    return [
        Observation(look / looks, look // looks * rate, look / looks / 2)
        for look in range(seconds * looks + 1)
    ]


def test_a_steady_pace_is_found_whatever_the_commits_interval() -> None:
    found = pace(steady(20, rate=1_000), 20_000)
    assert found.events_per_s == pytest.approx(1_000)
    assert found.cpu_s_per_million == pytest.approx(500)


def test_a_slow_start_does_not_count() -> None:
    cold = [Observation(float(second), second * 10, 0.0) for second in range(101)]
    warm = [Observation(100.0 + second, 1_000 + second * 100, 0.0) for second in range(1, 11)]
    assert pace([*cold, *warm], 2_000).events_per_s == pytest.approx(100)


def test_the_wait_for_the_last_commit_does_not_count() -> None:
    seen = [*steady(10, rate=1_000), Observation(60.0, 10_001, 5.0)]
    assert pace(seen, 10_001).events_per_s == pytest.approx(1_000)


def test_two_commits_are_too_few_to_leave_the_start_out() -> None:
    seen = [Observation(0.0, 0, 0.0), Observation(2.0, 100, 1.0)]
    assert pace(seen, 100).events_per_s == pytest.approx(50)


def test_who_commits_nothing_has_no_pace() -> None:
    with pytest.raises(ValueError, match="nothing was committed"):
        pace([Observation(0.0, 0, 0.0), Observation(9.0, 0, 1.0)], 100)


def test_the_profile_shows_that_a_system_grew_warm() -> None:
    seen = [Observation(0.0, 0, 0.0), Observation(10.0, 50, 0.0)]
    seen += [Observation(10.0 + tenth, 50 + tenth * 10, 0.0) for tenth in range(1, 6)]
    assert profile(seen, 100)[:1] == [pytest.approx(5.0)]
    assert profile(seen, 100)[5:] == [pytest.approx(10.0)] * 5


def test_tenths_that_were_done_between_two_looks_have_one_rate() -> None:
    seen = [Observation(0.0, 0, 0.0), Observation(1.0, 50, 0.0), Observation(3.0, 100, 0.0)]
    assert profile(seen, 100) == [50.0] * 5 + [25.0] * 5


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    assert percentile([float(n) for n in range(1, 101)], share) == expected


def test_of_nothing_there_is_neither_percentile_nor_spread() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="nothing"):
        spread([])


def test_a_spread_has_the_middle_run_and_both_ends() -> None:
    assert spread([5.0, 1.0, 2.0]) == (2.0, 1.0, 5.0)


def test_a_gap_counts_where_it_touches_the_time_that_is_asked_for() -> None:
    arrivals = {0: [0.0, 5.0, 5.1, 6.9, 7.0, 20.0], 1: [5.0, 5.1, 8.0]}
    assert longest_gaps(arrivals, 5.05, 7.0) == {0: pytest.approx(1.8), 1: pytest.approx(2.9)}


def test_where_records_go_on_the_topic_that_is_farthest_behind_tells_how_far_a_system_is() -> None:
    looks = [
        Observation(float(at_s), done, 0.0) for at_s, done in enumerate((0, 500, 1_000, 1_000))
    ]
    between = [{}, {"a": 20}, {"a": 70, "b": 1}, {"a": 100, "b": 4, "empty": 0}]
    assert [look.committed for look in least_done(looks, between)] == [0, 250, 1_000]


def test_without_warm_up_the_pace_is_that_from_the_first_look_on() -> None:
    cold = [Observation(float(second), second * 10, 0.0) for second in range(101)]
    found = pace([*cold, Observation(101.0, 2_000, 0.0)], 2_000, warm_share=0.0)
    assert found.events_per_s == pytest.approx(2_000 / 101)
