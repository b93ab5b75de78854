"""From what was seen to figures: rates, percentiles, medians. Nothing here looks at a clock."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_PROFILE_PARTS = 10


class Observation(NamedTuple):
    """A look from outside: at what time, how many events the group had committed, CPU used so far."""

    at_s: float
    committed: int
    cpu_s: float


class Pace(NamedTuple):
    """How fast a system went between two commits, and what that cost."""

    events_per_s: float
    cpu_s_per_million: float
    events: int
    """How many it did between the two."""


def pace(
    seen: Sequence[Observation], total: int, *, warm_share: float = 0.5, until_share: float = 0.95
) -> Pace:
    """Return the pace from the commit that reached warm_share of total to that of until_share.

    Both ends are moments at which the committed offsets had just moved: what lies between was
    done between them. The last share is left out, where some partitions have ended already and
    the last commit waits for its interval. Where there were too few commits for that (a tiny run),
    it is from the first look on; so it is with a warm_share of 0. Raise ValueError if nothing was
    committed after the first look.
    """
    steps = [b for a, b in pairwise(seen) if b.committed > a.committed]
    if not steps:
        raise ValueError("nothing was committed while it was looked at")
    warm = (step for step in steps if step.committed >= warm_share * total)
    start = next(warm, seen[0]) if warm_share else seen[0]
    end = next((step for step in steps if step.committed >= until_share * total), steps[-1])
    if end.committed <= start.committed:
        start = seen[0]
    events, seconds = end.committed - start.committed, end.at_s - start.at_s
    cpu_s = end.cpu_s - start.cpu_s
    return Pace(events / seconds, cpu_s / events * 1_000_000, events)


def profile(seen: Sequence[Observation], total: int) -> list[float]:
    """Return the rate of each tenth of the input, to show whether the system was warm.

    Tenths that one look found done together have one rate.
    """
    rates: list[float] = []
    last = seen[0]
    for part in range(1, _PROFILE_PARTS + 1):
        wanted = total * part / _PROFILE_PARTS
        step = next((one for one in seen if one.committed >= wanted), seen[-1])
        if step is last:
            rates.append(rates[-1] if rates else 0.0)
            continue
        rates.append((step.committed - last.committed) / (step.at_s - last.at_s))
        last = step
    return rates


def least_done(seen: Sequence[Observation], between: Sequence[dict[str, int]]) -> list[Observation]:
    """Return how far a system was whose work goes through topics in between, in events of the input.

    `between` has what was committed of each of those at each look, and at the last look all of it: how
    many records an event becomes there is told by the whole. The looks are those from the first commit on.
    """
    total = seen[-1].committed
    ends = {"": total} | between[-1]

    def done_by(look: Observation, of_look: dict[str, int]) -> int:
        done = {"": look.committed} | of_look
        return round(total * min(done.get(topic, 0) / end for topic, end in ends.items() if end))

    looks = zip(seen, between, strict=True)
    return [
        look._replace(committed=done_by(look, of_look)) for look, of_look in looks if look.committed
    ]


def percentile(ascending: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: the smallest value that `share` of all are not above.

    Raise ValueError if there is none.
    """
    if not ascending:
        raise ValueError("no percentile of nothing")
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


class Spread(NamedTuple):
    """Several runs of the same: the middle one, and how far they lie apart."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Return the spread of at least one value. Raise ValueError if there is none."""
    if not values:
        raise ValueError("no spread of nothing")
    return Spread(statistics.median(values), min(values), max(values))


def longest_gaps(
    arrivals: dict[int, list[float]], start_s: float, end_s: float
) -> dict[int, float]:
    """Return by partition the longest time between two arrivals of which one lies within the times."""
    gaps = {}
    for partition, times in arrivals.items():
        near = [b - a for a, b in pairwise(times) if a < end_s and b > start_s]
        gaps[partition] = max(near, default=0.0)
    return gaps
