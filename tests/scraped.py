"""A worker's metrics as Prometheus scrapes them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


class Scraped:
    """What one scrape brought."""

    def __init__(self, text: str) -> None:
        self.samples: list[Sample] = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def of(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels, 0 without any."""
        return sum(sample.value for sample in self.series(name, **labels))

    def series(self, name: str, **labels: str) -> list[Sample]:
        """Return a metric's series with these labels."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def ended(self, **labels: str) -> float:
        """Return how many records were processed, late, skipped or dead."""
        ends = ("processed", "late", "skipped", "dead")
        return sum(self.of(f"headrace_records_{end}_total", **labels) for end in ends)
