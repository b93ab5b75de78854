"""Catching up: how fast a system works off what lies in the topic, watched by its commits alone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from bench.figures import Observation, least_done, pace, profile
from bench.oracle import Oracle, TableCheck, Told, event_differences, told
from bench.processes import Running, SystemFailedError, Usage
from bench.results import Run
from bench.stage import Stage
from bench.systems.system import ChangelogRecord, Keeper, Place, System, does_the_work, label
from bench.work import OUTPUTS, TABLES

CATCH_UP_INTERVAL_MS = 1_000
"""Between commits, for systems that do not choose: what this project stretches its own to then."""
_LOOK_S = 0.1
_STALLED_S = 120.0
_MB = 1024 * 1024


class Watch:
    """Looks at a group's commits and at what its processes use, until all orders are committed.

    Where records go on through topics of the application's own (`app_id`), until it has done those, too.
    """

    def __init__(
        self, stage: Stage, group: str, running: Sequence[Running], app_id: str | None = None
    ) -> None:
        self.peak_rss_bytes = 0
        self._seen: list[Observation] = []
        self._between: list[dict[str, int]] = []
        self._stage = stage
        self._group = group
        self._running = running
        self._app_id = app_id

    @property
    def seen(self) -> list[Observation]:
        """What was seen; how far the group was is told by the topic of which it had done least."""
        return least_done(self._seen, self._between) if self._app_id else self._seen

    async def until(self, total: int) -> None:
        """Return once so many are committed. Raises SystemFailedError if it ends or stalls before."""
        moved_at_s, before = time.monotonic(), 0
        while not await self._is_done(total):
            for each in self._running:
                each.check()
            self._seen.append(await self._look())
            committed = self._seen[-1].committed
            if self._app_id is not None:
                self._between.append(await self._stage.between(self._group))
                committed += sum(self._between[-1].values())
            if committed > before:
                moved_at_s, before = time.monotonic(), committed
            elif time.monotonic() - moved_at_s > _STALLED_S:
                what = f"committed nothing for {_STALLED_S:g} s, at {before:,} of {total:,}"
                raise self._running[0].failure(what)
            await asyncio.sleep(_LOOK_S)

    async def _is_done(self, total: int) -> bool:
        if not self._seen or self._seen[-1].committed < total:
            return False
        return self._app_id is None or await self._stage.is_through(self._group, self._app_id)

    async def _look(self) -> Observation:
        used = [each.usage() for each in self._running]
        whole = Usage(sum(u.cpu_s for u in used), sum(u.rss_bytes for u in used))
        self.peak_rss_bytes = max(self.peak_rss_bytes, whole.rss_bytes)
        committed = await self._stage.committed(self._group)
        return Observation(time.monotonic(), committed, whole.cpu_s)


async def catch_up(
    stage: Stage,
    system: System,
    folder: Path,
    checked: Callable[[str], Awaitable[None]],
    *,
    workers: int = 1,
    has_between: bool = False,
) -> Run:
    """Let a system do all that is on the stage; return its figures once its output is found right.

    `checked` is given its application id, and raises SystemFailedError for output that is not right, as
    this does for a system that ends or stalls. `has_between`: records go on through topics of its own.
    """
    await stage.clear()
    app_id = f"bench-{folder.name}"
    bytes_before = stage.log_bytes()
    async with at_work(stage, system, app_id, folder, workers=workers) as running:
        between_of = app_id if has_between else None
        watch = Watch(stage, system.group(app_id), running, between_of)
        await watch.until(stage.total)
    bytes_sent = stage.log_bytes() - bytes_before
    await checked(app_id)
    # Of what comes in stages, the first may be far ahead of the last: half of one is not half of the work,
    # and from there on only the last one would be measured. So nothing is warm-up there.
    measured = pace(watch.seen, stage.total, warm_share=0.0 if has_between else 0.5)
    return Run(
        events_per_s=measured.events_per_s,
        measured_events=measured.events,
        cpu_s_per_million=measured.cpu_s_per_million,
        peak_rss_mb=watch.peak_rss_bytes / _MB,
        broker_bytes_per_event=bytes_sent / stage.total,
        profile=profile(watch.seen, stage.total),
    )


@contextlib.asynccontextmanager
async def at_work(
    stage: Stage,
    system: System,
    app_id: str,
    folder: Path,
    *,
    workers: int = 1,
    commit_interval_ms: int = CATCH_UP_INTERVAL_MS,
) -> AsyncIterator[list[Running]]:
    """Run so many processes of a system; they are ended on leaving, whatever happened."""
    with contextlib.ExitStack() as stack:
        running = []
        for number in range(workers):
            place = Place(stage.bootstrap, app_id, folder / f"worker-{number}", commit_interval_ms)
            running.append(
                stack.enter_context(Running(system.command(place), place.folder, label(system)))
            )
        yield running


async def check(stage: Stage, system: System, app_id: str, oracle: Oracle) -> None:
    """Compare events and tables with the oracle's. Raises SystemFailedError, with the first ones."""
    if not does_the_work(system):
        return
    wrong = [line async for line in _differences(stage, system, app_id, oracle)]
    if wrong:
        raise SystemFailedError(f"{label(system)}: its output is wrong: {'; '.join(wrong)}")


async def _differences(
    stage: Stage, system: Keeper, app_id: str, oracle: Oracle
) -> AsyncIterator[str]:
    for topic in OUTPUTS:
        events: list[Told] = []
        for partition in range(stage.partitions):
            async for records in stage.read([topic], partition):
                events += [told(record.value) for record in records]
        for line in event_differences(oracle, topic, events):
            yield line
    for table in TABLES:
        table_check = TableCheck(oracle, table)
        topic = system.changelog(app_id, table)
        if topic not in (present := await stage.topics()):
            yield f"there is no changelog {topic} among {', '.join(sorted(present))}"
            continue
        for partition in range(stage.partitions):
            last: dict[bytes, bytes] = {}
            async for records in stage.read([topic], partition):
                _fold(last, filter(system.is_row, records))
            table_check.add(system.row(table, key, value) for key, value in last.items())
        for line in table_check.differences():
            yield line


def _fold(last: dict[bytes, bytes], records: Iterable[ChangelogRecord]) -> None:
    """Keep each key's last value; a record without one removes it."""
    for record in records:
        if record.value is None:
            last.pop(record.key, None)
        else:
            last[record.key] = record.value
