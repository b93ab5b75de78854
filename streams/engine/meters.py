"""What the metrics of one worker stand at. The one module that knows prometheus-client.

Counters are told once a batch or a commit, never per event; gauges are read when somebody asks.
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
        self._kept: dict[Metric, Any] = {
            metric: self._made(metric) for metric in METRICS if metric.kind is not Kind.GAUGE
        }
        # Looking a series up by its labels costs the library ten times what counting does.
        self._series: dict[tuple[Metric, tuple[str, ...]], Any] = {}
        self._watched: list[Callable[[], Iterable[Reading]]] = []
        self._registry.register(self)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Count so much more; 0 makes the series appear, so that its first increase is one."""
        self._of(metric, labels).inc(amount)

    def observe(self, metric: Metric, value: float, *labels: str) -> None:
        """Count an observation into its bucket."""
        self._of(metric, labels).observe(value)

    def watch(self, read: Callable[[], Iterable[Reading]]) -> None:
        """Ask for these gauges whenever somebody wants to know."""
        self._watched.append(read)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all gauges (prometheus-client calls it)."""
        gauges = [m for m in METRICS if m.kind is Kind.GAUGE]
        families = {m: GaugeMetricFamily(m.name, m.help, labels=m.labels) for m in gauges}
        for read in self._watched:
            for metric, labels, value in read():
                families[metric].add_metric(labels, value)
        yield from families.values()

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        series = self._series.get((metric, labels))
        if series is None:
            kept = self._kept[metric]
            series = self._series[metric, labels] = kept.labels(*labels) if labels else kept
        return series

    def _made(self, metric: Metric) -> Counter | Histogram:
        named = metric.name, metric.help, metric.labels
        if metric.kind is Kind.COUNTER:
            return Counter(*named, registry=self._registry)
        return Histogram(*named, registry=self._registry, buckets=metric.buckets)
