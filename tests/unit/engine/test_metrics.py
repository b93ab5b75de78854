"""The list of metrics keeps Prometheus' conventions, and docs/metrics.md is made from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.openmetrics import parser as openmetrics

from streams.engine import metrics
from streams.engine.meters import Meters
from streams.engine.metrics import METRICS, Kind, Metric, page
from tests.scraped import Scraped

ROOT = Path(__file__).parents[3]
# What dashboards of other clients know.
FOREIGN = {
    "kafka_producer_messages_total",
    "kafka_consumer_messages_total",
    "kafka_producer_errors_total",
    "kafka_consumer_errors_total",
}
each = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def test_the_page_of_metrics_is_what_the_list_makes() -> None:
    assert (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8") == page()


def test_every_metric_that_is_declared_is_listed_once() -> None:
    declared = [value for value in vars(metrics).values() if isinstance(value, Metric)]
    assert list(METRICS) == declared
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_documents_name_no_metric_that_there_is_not() -> None:
    told = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    named = set(re.findall(r"\bheadrace(?:_[a-z]+)+\b", told))
    assert len(named) > len(METRICS) / 2
    assert named <= {metric.name for metric in METRICS}


@each
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)+", metric.name)
    assert metric.name.startswith("headrace_") or metric.name in FOREIGN
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    # Base units alone, at the end; and no suffix that a histogram's own series have.
    assert not re.search(
        r"_(ms|millis\w*|minutes|kb|mb|percent|count|sum|bucket)(_|$)", metric.name
    )


@each
def test_help_is_a_sentence_that_names_the_unit(metric: Metric) -> None:
    assert re.fullmatch(r"[A-Z0-9][^|\n]*\.", metric.help)
    for unit in ("seconds", "bytes"):
        assert (unit in metric.name) <= (unit in metric.help.lower())


@each
def test_labels_are_names_and_buckets_rise(metric: Metric) -> None:
    assert all(re.fullmatch(r"[a-z]+", label) for label in metric.labels)
    assert not {"le", "quantile", "job", "instance"} & set(metric.labels)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def full() -> Meters:
    """Return meters with a value in each metric."""
    meters = Meters()
    gauges = []
    for metric in METRICS:
        match metric.kind:
            case Kind.COUNTER:
                meters.add(metric, 3, *metric.labels)
            case Kind.HISTOGRAM:
                meters.observe(metric, 0.2, *metric.labels)
            case Kind.GAUGE:
                gauges.append((metric, metric.labels, 2.0))
    meters.watch(lambda: gauges)
    return meters


def test_both_formats_hold_every_metric_with_its_type_and_help() -> None:
    meters = full()
    body, content_type = meters.exposition("text/html, application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    parsed = openmetrics.text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    families = {family.name: family for family in parsed}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
    text, content_type = meters.exposition("*/*")
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    for metric in METRICS:
        assert f"# TYPE {metric.name} {metric.kind}\n" in text.decode()
    assert "_created" not in text.decode()


def test_each_worker_counts_for_itself_and_tells_of_its_process() -> None:
    one, other = Meters(), Meters()
    one.add(metrics.COMMITS, 2)
    scraped = [Scraped(each.exposition("")[0].decode()) for each in (one, other)]
    assert [s.of("headrace_commits_total") for s in scraped] == [2, 0]
    assert scraped[0].series("process_resident_memory_bytes")
    assert scraped[0].series("python_gc_collections_total")
