"""The HTTP server of a worker: tables as JSON for every key of the application, and a page at `/`."""

import logging
import socket
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from streams.engine.engine import Engine
from streams.engine.meters import Meters
from tables.queries import Tables
from tables.questions import NotNowError
from tables.web.address import is_loopback, listen, reached_by
from tables.web.api import error_answer, errors_in_json, routes
from tables.web.others import OtherWorkers
from tables.web.probes import probes
from tables.web.wire import APPLICATION

log = logging.getLogger(__name__)

_METHODS: Final = ("GET", "HEAD")
_SHUTDOWN_S: Final = 1.0
# What a browser may do with an answer: show it, and load nothing from elsewhere.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "headrace",
    "X-Content-Type-Options": "nosniff",
}


class WebView:
    """The web view of one worker: it listens, so that its address is known, then answers, then serves.

    On loopback it answers only who calls it by a name of loopback: a page from elsewhere could
    otherwise have its own name resolve to 127.0.0.1 and read along (DNS rebinding).
    """

    def __init__(self, application: str, host: str, port: int, brokers: Sequence[str]) -> None:
        """`port` or the next free one is taken. `brokers` tell by which address others reach us."""
        self.address = ""
        """`host:port` for others, once it listens."""
        self._application = application
        self._host = host
        self._port = port
        self._brokers = brokers
        self._socket: socket.socket | None = None
        self._runner: web.AppRunner | None = None
        self._others: OtherWorkers | None = None
        self._engine: Engine | None = None
        self._tables: Tables | None = None

    def listen(self) -> str:
        """Begin to listen; return the address for others. Raises HeadraceError where that cannot be.

        Who calls before `answer` waits.
        """
        self._socket = listen(self._host, self._port)
        port = self._socket.getsockname()[1]
        self.address = reached_by(self._host, port, self._brokers)
        taken = "" if port == self._port else f" (port {self._port} is taken)"
        log.info("web view at http://%s/%s", self.address, taken)
        return self.address

    async def answer(self, meters: Meters) -> None:
        """Answer probes; for tables there is `serve`. `listen` was called."""
        assert self._socket is not None  # noqa: S101 - see above
        self._others = OtherWorkers(self._application)
        app = web.Application(middlewares=[errors_in_json, _only_asked(self._host)])
        app.on_response_prepare.append(self._add_headers)
        app.add_routes([*probes(meters, lambda: self._engine), *routes(self._served)])
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,  # nobody waits for a count any more: it ends
            shutdown_timeout=_SHUTDOWN_S,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    def serve(self, engine: Engine) -> None:
        """Answer from this engine's tasks, and for those of others ask them; `answer` was called."""
        assert self._others is not None  # noqa: S101 - see above
        self._engine = engine
        self._tables = Tables(self._application, engine, self.address, self._others)

    async def stop(self) -> None:
        """Answer nobody any more."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._others is not None:
            await self._others.close()
        if self._socket is not None:
            self._socket.close()

    def _served(self) -> Tables:
        if self._tables is None:
            raise NotNowError("this worker is starting: it is not connected to Kafka yet")
        return self._tables

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        response.headers[APPLICATION] = self._application


def _only_asked(host: str) -> Middleware:
    """Return what lets through nothing but questions; on loopback, those that call it by such a name."""
    names = {"127.0.0.1", "[::1]", "localhost", host, f"[{host}]"} if is_loopback(host) else None

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method not in _METHODS:
            methods = ", ".join(_METHODS)
            msg = f"{request.method} is not for here: {methods}"
            return error_answer(405, msg, headers={"Allow": methods})
        called = request.headers.get("Host", "")
        name, _, port = called.rpartition(":")
        if names is not None and (name if port.isdecimal() else called).lower() not in names:
            msg = f"Host {called[:100]!r} is none of this worker's names: it is at {host}"
            return error_answer(403, msg)
        return await handler(request)

    return check
