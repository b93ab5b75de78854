"""The page is made of results: what others are better at comes first, and all else stays."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.losses import OURS, losses
from bench.page import BEGIN, END, write_page
from bench.results import Input, Latency, Machine, Point, Results, Row, Run, load_results
from bench.systems.all import LABELS
from streams.errors import HeadraceError

INPUT = Input(events=1_000, users=10, partitions=4, event_bytes=400)
MACHINE = Machine(
    processor="a processor",
    cores=2,
    memory_gb=8.0,
    system="Linux",
    python="3.11.7",
    java="25",
    kafka="4.3.1",
    load_before=0.1,
)


def row(label: str, events_per_s: float, *, peak_rss_mb: float, p99: float) -> Row:
    """Return a system's row."""
    run = Run(
        events_per_s=events_per_s,
        measured_events=500,
        cpu_s_per_million=2.0,
        peak_rss_mb=peak_rss_mb,
        broker_bytes_per_event=30.0,
        profile=[events_per_s] * 10,
    )
    latencies = [
        Latency(rate=rate, events=100, p50=10.0, p99=p99, max=p99) for rate in (1_000, 10_000)
    ]
    return Row(
        system=LABELS[label].name,
        guarantee=LABELS[label].guarantee,
        label=label,
        version="1.0",
        input=INPUT,
        events_per_s=events_per_s,
        events_per_s_lowest=events_per_s,
        events_per_s_highest=events_per_s,
        cpu_s_per_million=2.0,
        peak_rss_mb=peak_rss_mb,
        broker_bytes_per_event=30.0,
        latency_ms=latencies[1],
        latencies=latencies,
        runs=[run],
        start_s=1.0,
        rebalance_pause_ms=200.0,
    )


@pytest.fixture
def results() -> Results:
    """Return results in which we are faster, larger and later."""
    points = [
        Point(axis="users", value=users, label=label, input=INPUT, workers=1, events_per_s=rate)
        for label, users, rate in (
            (OURS, 10, 100.0),
            (OURS, 100, 300.0),
            ("kafka-streams-eo", 10, 200.0),
            ("kafka-streams-eo", 100, 200.0),
        )
    ]
    rows = [
        row(OURS, 400_000.0, peak_rss_mb=120.0, p99=90.0),
        row("kafka-streams-eo", 100_000.0, peak_rss_mb=300.0, p99=80.0),
        row("faust-alo", 2_000.0, peak_rss_mb=80.0, p99=500.0),
    ]
    rows[2].problems.append("it does not follow 10,000 events a second")
    return Results(
        machine=MACHINE,
        command="headrace bench",
        finished_at="2026-01-01T00:00:00+00:00",
        rows=rows,
        points=points,
    )


def test_what_others_are_better_at_is_found(results: Results) -> None:
    assert losses(results) == [
        "peak memory: faust-alo 80 MB, headrace-eo 120",
        "p99 at 1,000 events/s: kafka-streams-eo 80 ms, headrace-eo 90",
        "p99 at 10,000 events/s: kafka-streams-eo 80 ms, headrace-eo 90",
        "catching up with users 10: kafka-streams-eo 200 events/s, headrace-eo 100",
    ]


def test_neither_the_ceiling_nor_our_own_variants_are_others(results: Results) -> None:
    results.rows = [
        results.rows[0],
        row("headrace-alo", 900_000.0, peak_rss_mb=1.0, p99=1.0),
        row("aiokafka-read", 900_000.0, peak_rss_mb=1.0, p99=1.0),
    ]
    results.points = []
    assert losses(results) == []


def test_without_our_own_row_nothing_is_compared(results: Results) -> None:
    results.rows = results.rows[1:]
    assert losses(results) == []


def test_the_page_keeps_what_stands_around_its_results(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n", encoding="utf-8")
    write_page(results, page)
    write_page(results, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Before")
    assert text.endswith("After\n")
    assert "old" not in text
    assert text.count("### Catching up") == 1
    assert text.index("peak memory: faust-alo") < text.index("### Catching up")
    assert "| kafka-streams-eo | 100,000 | 100,000 to 100,000 | 4.0 times as many |" in text
    assert "faust-alo: it does not follow 10,000 events a second" in text


def test_each_chart_of_the_page_is_a_picture(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"{BEGIN}{END}", encoding="utf-8")
    write_page(results, page)
    charts = sorted((tmp_path / "pictures").iterdir())
    text = page.read_text(encoding="utf-8")
    assert [chart.stem for chart in charts] == [
        f"bench-{name}" for name in ("latency", "throughput", "users", "warmth")
    ]
    for chart in charts:
        assert f"(pictures/{chart.name})" in text
        assert ET.parse(chart).getroot().tag.endswith("svg")  # noqa: S314 - our own file
        assert b"<script" not in chart.read_bytes()


def test_a_page_without_marks_is_left_alone(results: Results, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# A page\n", encoding="utf-8")
    with pytest.raises(HeadraceError, match="no marks"):
        write_page(results, page)
    assert page.read_text(encoding="utf-8") == "# A page\n"


def test_results_come_back_as_they_were_saved(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == results


def test_a_file_without_results_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(HeadraceError, match="holds no results"):
        load_results(file)
