"""Starts: with the state on disk, and without it, which takes reading the changelogs first."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import NamedTuple

from bench.latency import LATENCY_INTERVAL_MS
from bench.orders import Orders
from bench.processes import Running
from bench.results import Input
from bench.stage import Stage, Writer
from bench.systems.system import System
from bench.throughput import Watch, at_work, check

_MORE_ORDERS = 1_000
_LOOK_S = 0.01
_TIMEOUT_S = 600.0
_SEED = 8


class Restart(NamedTuple):
    """How long a start takes, and how fast rows come back."""

    start_s: float
    rows: int
    rows_per_s: float | None
    """None where there were so few that it made no difference."""


class _Tried(NamedTuple):
    """A system that is started again and again on the same application."""

    stage: Stage
    system: System
    app_id: str
    folder: Path
    orders: Orders


async def restart(stage: Stage, system: System, wanted: Input, folder: Path) -> Restart:
    """Measure both on tables that hold the stage's orders. Raises SystemFailedError.

    What restoring takes is the difference of the two starts, so that neither Java's start nor
    Python's is counted as restoring; each ends with the first commit of orders that waited.
    """
    await stage.clear()
    app_id = f"bench-{folder.name}"
    async with at_work(stage, system, app_id, folder) as running:
        await Watch(stage, system.group(app_id), running).until(stage.total)
    orders = Orders(seed=_SEED, users=wanted.users, event_bytes=wanted.event_bytes)
    tried = _Tried(stage, system, app_id, folder, orders)
    start_s = await _start(tried)
    shutil.rmtree(folder / "worker-0")
    restore_s = await _start(tried) - start_s
    oracle = await stage.expected(wanted.users)
    rows = sum(len(rows) for rows in oracle.tables.values())
    await check(stage, system, app_id, oracle)
    return Restart(start_s, rows, rows / restore_s if restore_s > start_s / 10 else None)


async def _start(tried: _Tried) -> float:
    """Return the seconds from a process's start to its first commit; it ends when it has done all."""
    stage, before = tried.stage, tried.stage.total
    async with Writer(stage.client, stage.partitions) as writer:
        for _ in range(_MORE_ORDERS):
            key, value = tried.orders.at(round(time.time() * 1000), b"-again")
            await writer.write(key, value)
    stage.total += _MORE_ORDERS
    group = tried.system.group(tried.app_id)
    start_s = time.monotonic()
    async with at_work(
        stage, tried.system, tried.app_id, tried.folder, commit_interval_ms=LATENCY_INTERVAL_MS
    ) as running:
        await _first_commit(stage, group, before, running[0])
        seconds = time.monotonic() - start_s
        await Watch(stage, group, running).until(stage.total)
    return seconds


async def _first_commit(stage: Stage, group: str, before: int, running: Running) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while await stage.committed(group) <= before:
        running.check()
        if time.monotonic() > deadline:
            raise running.failure(f"committed nothing for {_TIMEOUT_S:g} s after its start")
        await asyncio.sleep(_LOOK_S)
