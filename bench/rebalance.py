"""A second worker joins: for how long nothing comes from the tasks that the first one keeps."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bench.figures import longest_gaps
from bench.latency import LATENCY_INTERVAL_MS, Arrival, Scene, scene
from bench.processes import Running, SystemFailedError
from bench.results import Input
from bench.stage import Stage
from bench.systems.system import Place, System, label
from demo.generator import partition_of

_JOIN_TIMEOUT_S = 60.0
_SETTLED_S = 3.0
_STEP_S = 0.2


class Pause(NamedTuple):
    """The longest pause of a kept task, and how many tasks moved."""

    kept_ms: float
    moved: int


async def rebalance_pause(
    stage: Stage, system: System, wanted: Input, folder: Path, *, rate: int, warm_s: float
) -> Pause:
    """Start a second worker under load and watch the first one's tasks. Raises SystemFailedError."""
    app_id = f"bench-{folder.name}"
    group = system.group(app_id)
    async with scene(stage, system, wanted, app_id, folder) as at:
        await at.load.run(rate, warm_s)
        before = await stage.owners(group)
        start_s = time.time()
        place = Place(stage.bootstrap, app_id, folder / "worker-1", LATENCY_INTERVAL_MS)
        with Running(system.command(place), place.folder, label(system)) as second:
            after = await _settled(stage, group, at, second, rate)
            end_s = time.time()
            if not await at.caught_up():
                raise second.failure("did not catch up after the rebalance")
            await at.check(wanted.users)
    kept = {number for number, owner in after.items() if before.get(number) == owner}
    if not kept or len(kept) == len(before):
        raise SystemFailedError(f"{label(system)}: {len(kept)} of {len(before)} tasks were kept")
    gaps = longest_gaps(_by_partition(at.onlooker.arrivals.values(), stage), start_s, end_s)
    return Pause(max(gaps[number] for number in kept) * 1000, len(before) - len(kept))


async def _settled(
    stage: Stage, group: str, at: Scene, second: Running, rate: int
) -> dict[int, str]:
    """Go on with the load until tasks have moved and stay; return who has them."""
    deadline = time.monotonic() + _JOIN_TIMEOUT_S
    owners = await stage.owners(group)
    since_s = time.monotonic()
    while len(set(owners.values())) < 2 or time.monotonic() - since_s < _SETTLED_S:  # noqa: PLR2004 - two workers
        await at.load.run(rate, _STEP_S)
        second.check()
        now = await stage.owners(group)
        if now != owners or len(now) < stage.partitions:
            owners, since_s = now, time.monotonic()
        if time.monotonic() > deadline:
            break
    await asyncio.sleep(_STEP_S)
    return owners


def _by_partition(arrivals: Iterable[Arrival], stage: Stage) -> dict[int, list[float]]:
    """Return when events were seen, by the input's partition: that of the task."""
    found: dict[int, list[float]] = defaultdict(list)
    for each in arrivals:
        found[partition_of(each.user_id.encode(), stage.partitions)].append(each.seen_s)
    return {partition: sorted(times) for partition, times in found.items()}
