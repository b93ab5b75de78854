"""How far the restore of a table is: what the log tells once a second, and metrics show."""

from dataclasses import dataclass, field
from typing import Final

from streams.engine.records import Run

_MB: Final = 1e6
_LINE_EACH_S: Final = 1.0


@dataclass(slots=True)
class Restoring:
    """A table's part while it is read from its changelog."""

    table: str
    begin: int
    end: int
    position: int = field(init=False)
    records: int = 0
    bytes: int = 0
    """Of keys and values."""
    begun_s: float = 0.0
    _told_s: float = 0.0

    def __post_init__(self) -> None:
        self.position = self.begin

    @property
    def remaining(self) -> int:
        """Return how many records are left at most: offsets, among which compaction left gaps."""
        return max(0, self.end - self.position)

    def start(self, now_s: float) -> None:
        """Begin to count the time."""
        self.begun_s = self._told_s = now_s

    def add(self, run: Run) -> None:
        """Count a run that was read."""
        self.position = run.next_offset
        self.records += len(run.offsets)
        self.bytes += sum(map(len, filter(None, run.keys)))
        self.bytes += sum(map(len, filter(None, run.values)))

    def is_line_due(self, now_s: float) -> bool:
        """Tell, once a second, that it is time for a line."""
        if now_s - self._told_s < _LINE_EACH_S:
            return False
        self._told_s = now_s
        return True

    def so_far(self, now_s: float) -> str:
        """Tell what was read: `12,000 records (1.4 MB) in 0.1 s, 120,000/s`."""
        took_s = max(now_s - self.begun_s, 0.001)
        megabytes, rate = self.bytes / _MB, self.records / took_s
        return f"{self.records:,} records ({megabytes:,.1f} MB) in {took_s:.1f} s, {rate:,.0f}/s"

    def ahead(self, now_s: float) -> str:
        """Tell what is left, at the pace until now: `at most 88,000 to go, 1 s`."""
        pace = (self.position - self.begin) / max(now_s - self.begun_s, 0.001)
        return f"at most {self.remaining:,} to go, {self.remaining / max(pace, 1.0):,.0f} s"
