"""How far apart commits are."""

from pathlib import Path

import pytest

from streams.engine.config import EngineConfig
from streams.engine.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def wall_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pace_of(clock: Clock, interval_ms: int = 100) -> Pace:
    config = EngineConfig(
        application_id="app", data_dir=Path("unused"), commit_interval_ms=interval_ms
    )
    return Pace(config, clock)


def worked(pace: Pace, records_per_s: int, seconds: int = 2) -> None:
    for _ in range(seconds):
        pace.processed(records_per_s, 1.0)


def test_without_backlog_commits_are_as_far_apart_as_asked(clock: Clock) -> None:
    assert pace_of(clock).interval_s(backlog=0, tasks=4) == 0.1
    assert pace_of(clock, interval_ms=3_000).interval_s(backlog=0, tasks=4) == 3.0


def test_more_than_a_second_of_work_behind_stretches_the_interval(clock: Clock) -> None:
    pace = pace_of(clock)
    worked(pace, records_per_s=1_000)
    assert pace.interval_s(backlog=1_000, tasks=4) == 0.1
    assert pace.interval_s(backlog=1_001, tasks=4) == 1.0


def test_an_interval_that_is_longer_than_the_stretched_one_stays(clock: Clock) -> None:
    pace = pace_of(clock, interval_ms=5_000)
    assert pace.interval_s(backlog=1_000_000, tasks=4) == 5.0


def test_before_anything_was_measured_a_small_backlog_stretches_nothing(clock: Clock) -> None:
    assert pace_of(clock).interval_s(backlog=10_000, tasks=4) == 0.1


def test_the_rate_is_that_of_the_last_work(clock: Clock) -> None:
    pace = pace_of(clock)
    worked(pace, records_per_s=10)
    worked(pace, records_per_s=5_000, seconds=1)
    assert pace.interval_s(backlog=4_000, tasks=1) == 0.1


def test_all_tasks_together_commit_no_more_than_100_times_a_second(clock: Clock) -> None:
    pace = pace_of(clock)
    for tasks in (1, 10, 32, 200):
        assert tasks / pace.interval_s(backlog=0, tasks=tasks) <= 100 + 1e-9


@pytest.mark.parametrize("partitions", [range(4), range(28, 32), [31], [0, 7, 31]])
def test_first_commits_are_spread_over_the_interval_and_none_is_due_later(
    clock: Clock, partitions: list[int]
) -> None:
    pace = pace_of(clock)
    due_s = [pace.first_due_s(partition, len(partitions)) for partition in partitions]
    assert all(clock.now_s < due <= clock.now_s + 0.1 for due in due_s)
    if len(partitions) == 4:
        assert len(set(due_s)) == 4


def test_a_fetch_without_work_to_commit_waits_its_longest(clock: Clock) -> None:
    assert pace_of(clock).fetch_timeout_s([]) == 0.2
