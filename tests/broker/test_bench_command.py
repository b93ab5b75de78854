"""`headrace bench`: it measures, on a real Kafka, and what it measures was right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands.main import run

SYSTEMS = ["headrace-eo", "kafka-streams-eo", "aiokafka-read"]


@pytest.mark.timeout(600)
def test_a_quick_bench_measures_every_part_and_finds_all_of_it_right(tmp_path: Path) -> None:
    file, page = tmp_path / "results.json", tmp_path / "performance.md"
    status = run(["bench", "--quick", "--systems", ",".join(SYSTEMS), "--json", str(file)])
    results = json.loads(file.read_bytes())
    assert [row["problems"] for row in results["rows"]] == [[], [], []]
    assert [point["problems"] for point in results["points"]] == [[]] * len(results["points"])
    assert status == 0
    assert [row["label"] for row in results["rows"]] == SYSTEMS
    for row in results["rows"]:
        assert row["events_per_s"] > 0
        assert row["cpu_s_per_million"] >= 0
        assert row["peak_rss_mb"] > 10
    for row in results["rows"][:2]:
        assert 0 < row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
        assert row["start_s"] > 0
        assert row["rebalance_pause_ms"] > 0
    assert {point["axis"] for point in results["points"]} == {
        "users",
        "partitions",
        "workers",
        "event_bytes",
    }
    assert results["machine"]["cores"] >= 1

    source = Path(__file__).parents[2] / "docs" / "performance.md"
    page.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    assert run(["bench", "report", str(file), "--page", str(page)]) == 0
    assert "| headrace-eo |" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--systems", "flink"], "no such system: flink"),
        (["--only", "speed"], "no such part: speed"),
    ],
)
def test_words_that_mean_nothing_are_refused_before_anything_starts(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "--quick", *arguments]) == 2
    assert said in capsys.readouterr().err
