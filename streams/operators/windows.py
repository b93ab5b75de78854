"""Windows of event time, and what is late for them. The semantics are those of Kafka Streams."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

V = TypeVar("V")


class Timed(Protocol):
    """Whatever has an event time."""

    @property
    def timestamp(self) -> int:
        """Event time, ms since 1970 UTC."""


T = TypeVar("T", bound=Timed)


def at_least(least: int, **values: int) -> None:
    """Raise ValueError for the first of the values that is below `least`."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be {least} or more, not {value}")


@dataclass(frozen=True, slots=True)
class TumblingWindows:
    """Windows of `size_ms` side by side, `[start, start + size_ms)`, the first of them at 0.

    A window is gone, and what comes for it late, from the moment that stream time (the highest event
    time so far) reaches its end + `grace_ms`. Raises ValueError for a size below 1 or a grace below 0.
    """

    size_ms: int
    grace_ms: int

    def __post_init__(self) -> None:
        at_least(1, size_ms=self.size_ms)
        at_least(0, grace_ms=self.grace_ms)

    def start_ms(self, event_time_ms: int) -> int:
        """Return the start of the window that holds an event time."""
        return event_time_ms - event_time_ms % self.size_ms

    def gone_ms(self, stream_time_ms: int) -> int:
        """Return the latest start that a gone window can have; below 0 where none is gone yet."""
        return stream_time_ms - self.grace_ms - self.size_ms


def key_text(key: str, start_ms: int) -> str:
    """Return a key and its window's start as changelogs and the web view have them."""
    return f"{key}@{start_ms}"


def key_and_start_ms(text: str) -> tuple[str, int]:
    """Return the key and the window's start that a text stands for."""
    key, _, start = text.rpartition("@")
    return key, int(start)


# Longer than there are event times, and far from where 64 bits end.
_EVER_MS = 2**62


class StreamTime:
    """One windowed operator's stream time in one task, and how many events were late for it.

    Both begin at 0: no event time is below.
    """

    __slots__ = ("late", "now_ms", "windows")

    def __init__(self, windows: TumblingWindows, now_ms: int = 0) -> None:
        self.windows = windows
        self.now_ms = now_ms
        self.late = 0

    def on_time(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event that is not late, with the start of its window; count the others as late.

        Every event moves stream time before it is judged, so that none is late because of itself.
        """
        size_ms, grace_ms = self.windows.size_ms, self.windows.grace_ms
        for event in events:
            time_ms = event.timestamp
            start_ms = time_ms - time_ms % size_ms
            if time_ms > self.now_ms:
                self.now_ms = time_ms
            elif start_ms + size_ms + grace_ms <= self.now_ms:
                self.late += 1
                continue
            yield event, start_ms

    def judge(
        self, times_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
        """Do as `on_time` for many events at once, told by their times.

        Return the window's start of each event that is not late, and which events those are; None for
        all of them.
        """
        size_ms, grace_ms = self.windows.size_ms, self.windows.grace_ms
        starts_ms = times_ms - times_ms % size_ms
        if not len(times_ms):
            return starts_ms, None
        now_ms = np.maximum.accumulate(np.maximum(times_ms, self.now_ms))
        is_on_time = starts_ms > now_ms - min(size_ms + grace_ms, _EVER_MS)
        self.now_ms = int(now_ms[-1])
        if is_on_time.all():
            return starts_ms, None
        kept = np.flatnonzero(is_on_time)
        self.late += len(times_ms) - len(kept)
        return starts_ms[kept], kept


class WindowedRows(Protocol[V]):
    """What a rule sees of a windowed table: rows by key and window start.

    Rows of gone windows are not there.
    """

    def get(self, key: tuple[str, int], /) -> V | None:
        """Return the row, None where there is none."""

    def __setitem__(self, key: tuple[str, int], row: V, /) -> None: ...

    def on_time(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event that is not late with its window's start; see StreamTime."""


class WindowedDict(dict[tuple[str, int], V]):
    """A windowed table in memory, for tests of rules. Rows of gone windows stay in it."""

    def __init__(self, windows: TumblingWindows) -> None:
        super().__init__()
        self.stream_time = StreamTime(windows)

    def on_time(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event that is not late with its window's start; see StreamTime."""
        return self.stream_time.on_time(events)
