"""The plain lines: how it stands, and each event once."""

from __future__ import annotations

import pytest

from demo.report import Reading, Report, news

NOW = Reading(seconds=1, records=10, derived=2, dead_letters=0, lag=0, latencies_ms=())


def test_each_event_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    for vip in ("VIP   ada", "VIP   ada", "VIP   ada", "VIP   bob", "VIP   bob"):
        report.reading(NOW, {"vips": vip})
    told = [line.strip() for line in capsys.readouterr().out.splitlines() if "VIP" in line]
    assert told == ["VIP   ada", "VIP   bob"]


def test_kinds_take_turns_and_one_without_news_has_none() -> None:
    told: dict[str, str] = {}
    assert news({}, told) is None
    assert news({"a": "a1", "b": "b1"}, told) == "a1"
    assert news({"a": "a2", "b": "b1"}, told) == "b1"
    assert news({"a": "a2", "b": "b1"}, told) == "a2"
    assert news({"a": "a3", "b": "b1"}, told) == "a3"
    assert news({"a": "a3", "b": "b1"}, told) is None
