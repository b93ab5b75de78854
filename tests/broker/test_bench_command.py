"""`headrace bench`: it measures, on a real Kafka, and what it measures was right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from commands.main import run


def measured(file: Path, *arguments: str) -> dict[str, Any]:
    """Run a quick bench that goes well; return what it wrote."""
    assert run(["bench", "--quick", *arguments, "--json", str(file)]) == 0
    results: dict[str, Any] = json.loads(file.read_bytes())
    assert [each["problems"] for each in (*results["rows"], *results["points"])] == [
        [] for _ in (*results["rows"], *results["points"])
    ]
    return results


@pytest.mark.timeout(600)
def test_a_quick_bench_measures_every_part_and_finds_all_of_it_right(tmp_path: Path) -> None:
    file, page = tmp_path / "results.json", tmp_path / "performance.md"
    results = measured(file, "--systems", "headrace-eo,aiokafka-read")
    ours, ceiling = results["rows"]
    assert (ours["label"], ceiling["label"]) == ("headrace-eo", "aiokafka-read")
    for row in (ours, ceiling):
        assert row["events_per_s"] > 0
        assert row["cpu_s_per_million"] >= 0
        assert row["peak_rss_mb"] > 10
    assert 0 < ours["latency_ms"]["p50"] <= ours["latency_ms"]["p99"]
    assert ours["broker_bytes_per_event"] > 1
    assert ours["start_s"] > 0
    assert ours["restored_rows"] > 5_000
    assert ours["rebalance_pause_ms"] > 0
    axes = {point["axis"] for point in results["points"]}
    assert axes == {"users", "partitions", "workers", "event_bytes"}
    assert results["machine"]["cores"] >= 1

    source = Path(__file__).parents[2] / "docs" / "performance.md"
    page.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(["bench", "report", str(file), "--page", str(page)]) == 0
    assert "| headrace-eo |" in page.read_text(encoding="utf-8")


@pytest.mark.timeout(600)
def test_one_point_of_a_curve_can_be_measured_alone(tmp_path: Path) -> None:
    asked = ("--only", "curves", "--points", "partitions=2", "--systems", "headrace-eo")
    [point] = measured(tmp_path / "results.json", *asked)["points"]
    assert (point["axis"], point["value"], point["input"]["partitions"]) == ("partitions", 2, 2)
    assert point["events_per_s"] > 0


@pytest.mark.timeout(600)
def test_kafka_streams_does_the_same_work_without_a_jdk(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results = measured(file, "--only", "throughput", "--systems", "kafka-streams-eo")
    [row] = results["rows"]
    assert (row["system"], row["guarantee"]) == ("kafka-streams", "exactly_once")
    assert row["events_per_s"] > 0


@pytest.mark.timeout(600)
def test_operators_are_measured_beside_those_of_kafka_streams(tmp_path: Path) -> None:
    file, page = tmp_path / "operators.json", tmp_path / "performance.md"
    asked = ["operators", "--quick", "--only", "session,outer,a", "--json", str(file)]
    assert run(["bench", *asked]) == 0
    rows = json.loads(file.read_bytes())["operators"]
    assert [(row["operator"], row["label"], row["problems"]) for row in rows] == [
        ("session 30 s", "headrace-eo", []),
        ("session 30 s", "kafka-streams-eo", []),
        ("outer join", "headrace-eo", []),
        ("outer join", "kafka-streams-eo", []),
        ("a million open, closing", "headrace-eo", []),
        ("a million open, none closing", "headrace-eo", []),
    ]
    assert all(row["events_per_s"] > 0 for row in rows)

    source = Path(__file__).parents[2] / "docs" / "performance.md"
    page.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(["bench", "report", str(file), "--page", str(page)]) == 0
    assert "| outer join | kafka-streams-eo |" in page.read_text(encoding="utf-8")


@pytest.mark.timeout(600)
def test_joins_with_tables_and_what_is_re_keyed_are_right_in_both_systems(tmp_path: Path) -> None:
    file, kinds = tmp_path / "operators.json", "foreign-key,versioned"
    assert run(["bench", "operators", "--quick", "--only", kinds, "--json", str(file)]) == 0
    rows = json.loads(file.read_bytes())["operators"]
    assert [row["problems"] for row in rows] == [[]] * 4
    assert all(row["events_per_s"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--systems", "flink"], "no such system: flink"),
        (["--only", "speed"], "no such part: speed"),
        (["--points", "keys=5"], "'keys=5' is no point of a curve"),
        (["--points", "users=0"], "'users=0' is no point of a curve"),
        (["--points", "event_bytes=300"], "events have 200, 400, 1000 bytes, not 300"),
        (["operators", "--only", "windows"], "no such operator: windows; there are tumbling"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--quick", *arguments]) == 2
    assert said in capsys.readouterr().err
