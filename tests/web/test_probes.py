"""What a monitor sees of a worker: /metrics, /livez and /readyz."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from streams.engine.clock import SystemClock
from streams.engine.engine import Engine
from tests.flows.stories import orders
from tests.scraped import Scraped
from tests.waiting import until, until_true
from tests.web.running import Answer, Application, application

PROBES = ("/livez", "/readyz", "/metrics")


class AheadClock(SystemClock):
    """A clock that can be put forward."""

    ahead_s = 0.0

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Application]:
    async with application(tmp_path, workers=1) as running:
        yield running


def engine_of(app: Application, number: int = 0) -> Engine:
    engine = app.workers[number].engine
    assert engine is not None
    return engine


def address_of(app: Application, number: int = 0) -> str:
    web = app.workers[number].web
    return web.address if web else ""


async def test_before_kafka_is_there_a_worker_lives_and_is_not_ready(tmp_path: Path) -> None:
    app, connects = Application(tmp_path), asyncio.Event()
    starting = asyncio.create_task(app.start(connects=connects))
    try:
        await until_true(lambda: bool(app.workers) and address_of(app) != "")
        address = address_of(app)
        live, ready, metrics = [await app.ask(address, path) for path in PROBES]
        assert (live.status, live.text) == (200, "alive\n")
        assert (ready.status, ready.text) == (503, "connecting to Kafka\n")
        [build] = Scraped(metrics.text).series("headrace_build_info")
        assert (build.labels["application"], build.labels["guarantee"]) == ("web", "exactly_once")
        tables = await app.ask(address, "/api/tables")
        assert (tables.status, tables.headers["Retry-After"]) == (503, "1")
        assert tables.json == {"error": "this worker is starting: it is not connected to Kafka yet"}
        connects.set()
        assert await starting == address
        await app.settled()
        ready = await app.ask(address, "/readyz")
        assert (ready.status, ready.text) == (200, "ready\n")
    finally:
        connects.set()
        await starting
        await app.stop()


async def test_a_worker_is_ready_once_its_tasks_are_restored(app: Application) -> None:
    for partition in range(app.partitions):
        await app.run(partition, orders(range(3), user=f"user-{partition}"))
    restores = asyncio.Event()
    newcomer = await app.start(restores=restores)

    async def is_restoring() -> Answer | None:
        answer = await app.ask(newcomer, "/readyz")
        return answer if "at most" in answer.text else None

    answer = await until(is_restoring)
    assert answer is not None
    assert answer.status == 503
    moved = sorted(engine_of(app, 1).tasks)
    assert [line.split(":")[0] for line in sorted(answer.text.splitlines())] == moved
    assert "restoring, user_orders at most " in answer.text
    assert answer.text.count(" to go") >= len(moved)
    assert (await app.ask(newcomer, "/livez")).status == 200
    seen = Scraped((await app.ask(newcomer, "/metrics")).text)
    left = [seen.of("headrace_restore_remaining_records", task=task) for task in moved]
    assert all(left)
    assert seen.of("headrace_tasks", state="restoring") == len(moved)
    restores.set()
    await app.settled()
    assert (await app.ask(newcomer, "/readyz")).status == 200
    seen = Scraped((await app.ask(newcomer, "/metrics")).text)
    assert seen.of("headrace_restore_remaining_records") == 0


async def test_a_loop_that_stands_still_is_not_alive(app: Application) -> None:
    engine, clock, address = engine_of(app), AheadClock(), address_of(app)
    engine.clock = clock

    async def stands_still() -> Answer | None:
        clock.ahead_s += 10
        answer = await app.ask(address, "/livez")
        return answer if answer.status == 503 else None

    async def lives() -> bool:
        return (await app.ask(address, "/livez")).status == 200

    async with engine._turn:  # no step can be taken
        answer = await until(stands_still)
    assert answer is not None
    assert answer.text.startswith("the loop has not turned for ")
    await until(lives)


async def test_a_worker_without_tasks_is_ready(app: Application) -> None:
    for _ in range(app.partitions):
        await app.start()
    await app.settled()
    idle = next(
        n for n, worker in enumerate(app.workers) if worker.engine and not worker.engine.tasks
    )
    assert (await app.ask(address_of(app, idle), "/readyz")).text == "ready\n"


async def test_metrics_come_in_the_format_that_is_asked_for(app: Application) -> None:
    address = address_of(app)
    text = await app.ask(address, "/metrics", Accept="text/plain")
    assert text.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    answer = await app.ask(address, "/metrics", Accept=openmetrics)
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert list(text_string_to_metric_families(answer.text))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("path", PROBES)
async def test_on_loopback_probes_too_are_answered_by_its_names_alone(
    app: Application, path: str
) -> None:
    answer = await app.ask(address_of(app), path, Host="rebound.example")
    assert answer.status == 403
