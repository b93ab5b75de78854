"""What the metrics of one worker stand at. The one module that knows prometheus-client.

Values are told once a batch or a commit, never per event; a gauge that is cheap to work out is read
when somebody asks (`watch`).
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from streams.engine.metrics import METRICS, Kind, Metric

Reading: TypeAlias = tuple[Metric, tuple[str, ...], float]
"""A gauge, the values of its labels, and its own."""

# A second series for each counter that tells when it began: the process' start time tells that too.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Meters:
    """The metrics of one worker, in a registry of its own: several may live in one process."""

    def __init__(self) -> None:
        self._registry: Final = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._counters = {m: self._counter(m) for m in METRICS if m.kind is Kind.COUNTER}
        self._histograms = {m: self._histogram(m) for m in METRICS if m.kind is Kind.HISTOGRAM}
        self._gauges: dict[Metric, dict[tuple[str, ...], float]] = {
            m: {} for m in METRICS if m.kind is Kind.GAUGE
        }
        self._watched: list[Callable[[], Iterable[Reading]]] = []
        self._registry.register(self)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count so much more; 0 makes the series appear, so that its first increase is one."""
        counter: Any = self._counters[metric]
        (counter.labels(*labels) if labels else counter).inc(amount)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count an observation into its bucket."""
        histogram: Any = self._histograms[metric]
        (histogram.labels(*labels) if labels else histogram).observe(value)

    def set(self, metric: Metric, value: float, *labels: str) -> None:
        """Say what a gauge stands at."""
        self._gauges[metric][labels] = value

    def remove(self, metric: Metric, *labels: str) -> None:
        """Drop a gauge's series: what it told of is gone. There need be none."""
        self._gauges[metric].pop(labels, None)

    def value(self, metric: Metric, *labels: str) -> float:
        """Return what a gauge was `set` to; 0 where it was not."""
        return self._gauges[metric].get(labels, 0.0)

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Ask for these gauges whenever somebody wants to know."""
        self._watched.append(read)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges (prometheus-client calls it)."""
        families = {m: GaugeMetricFamily(m.name, m.help, labels=m.labels) for m in self._gauges}
        readings = {(m, labels): v for m, of in self._gauges.items() for labels, v in of.items()}
        for read in self._watched:
            readings |= {(metric, labels): value for metric, labels, value in read()}
        for (metric, labels), value in readings.items():
            families[metric].add_metric(labels, value)
        yield from families.values()

    def _counter(self, metric: Metric) -> Counter:
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, metric: Metric) -> Histogram:
        return Histogram(
            metric.name,
            metric.help,
            metric.labels,
            registry=self._registry,
            buckets=metric.buckets,
        )
