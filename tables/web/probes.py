"""What a monitor asks of one worker: its metrics, whether it lives, and whether it is ready."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from streams.engine.engine import Engine
from streams.engine.health import what_is_missing, why_dead
from streams.engine.meters import Meters

METRICS: Final = "/metrics"
LIVE: Final = "/livez"
READY: Final = "/readyz"


def probes(meters: Meters, engine: Callable[[], Engine | None]) -> list[web.RouteDef]:
    """Return the paths of probes; `engine` gives None until there is one."""

    async def metrics(request: web.Request) -> web.Response:
        body, content_type = meters.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def live(_request: web.Request) -> web.Response:
        running = engine()
        return _answer("alive", why_dead(running) if running else "")

    async def ready(_request: web.Request) -> web.Response:
        running = engine()
        missing = what_is_missing(running) if running else ["connecting to Kafka"]
        return _answer("ready", "\n".join(missing))

    return [web.get(METRICS, metrics), web.get(LIVE, live), web.get(READY, ready)]


def _answer(good: str, bad: str) -> web.Response:
    return web.Response(text=f"{bad or good}\n", status=503 if bad else 200)
