"""What several runs come to: a median, and nothing of a system that was wrong in one of them."""

from __future__ import annotations

import pytest

from bench.results import Latency, Row, Run
from bench.run import _main_latency, summarize


def after(*rates: float) -> Row:
    """Return a row after runs with these rates."""
    runs = [
        Run(
            events_per_s=rate,
            measured_events=500,
            cpu_s_per_million=1_000_000 / rate,
            peak_rss_mb=rate / 10,
            broker_bytes_per_event=30.0,
            profile=[rate] * 10,
        )
        for rate in rates
    ]
    return Row(system="headrace", guarantee="exactly_once", label="headrace-eo", runs=runs)


def test_the_median_counts_and_the_most_memory() -> None:
    row = after(100.0, 400.0, 200.0)
    summarize(row)
    assert (row.events_per_s, row.events_per_s_lowest, row.events_per_s_highest) == (200, 100, 400)
    assert row.cpu_s_per_million == 5_000
    assert row.peak_rss_mb == 40


def test_who_was_wrong_once_has_no_figures() -> None:
    row = after(100.0, 400.0)
    row.problems.append("its output is wrong")
    summarize(row)
    assert (row.events_per_s, row.peak_rss_mb, row.runs) == (None, None, [])


@pytest.mark.parametrize(
    ("rates", "main"), [((1_000, 10_000, 50_000), 10_000), ((500,), 500), ((50_000,), None)]
)
def test_the_latency_that_is_shown_is_that_at_ten_thousand(
    rates: tuple[int, ...], main: int | None
) -> None:
    found = [Latency(rate=rate, events=1, p50=1.0, p99=1.0, max=1.0) for rate in rates]
    shown = _main_latency(found)
    assert (shown and shown.rate) == main
