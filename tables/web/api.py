"""What is answered to which path; docs/contract.md has the shapes."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from tables.queries import Tables
from tables.questions import (
    BadQuestionError,
    Count,
    Get,
    NoSuchRowError,
    NoSuchTableError,
    NotNowError,
    QueryError,
)
from tables.web.wire import FORWARDED, TABLES, query_of

log = logging.getLogger(__name__)

_FILES: Final = Path(__file__).parent / "page"
_PAGE: Final = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
_STATUS: Final = {
    BadQuestionError: 400,
    NoSuchTableError: 404,
    NoSuchRowError: 404,
    NotNowError: 503,
}
_RETRY_AFTER_S: Final = 1


def routes(tables: Callable[[], Tables]) -> list[web.RouteDef]:
    """Return the paths of the API and of the page; `tables` raises NotNowError until there are some."""
    api = _Api(tables)
    page = [web.get(path, _file(*named)) for path, named in _PAGE.items()]
    return [
        *page,
        web.get(TABLES, api.overview),
        web.get(f"{TABLES}/{{table}}", api.rows),
        # A key may hold anything, slashes and line ends too, and may be empty.
        web.get(rf"{TABLES}/{{table}}/{{key:[\s\S]*}}", api.row),
    ]


class _Api:
    """What another worker forwards is answered from this one's tasks alone, as parts."""

    def __init__(self, tables: Callable[[], Tables]) -> None:
        self._tables = tables

    async def overview(self, request: web.Request) -> web.Response:
        if FORWARDED in request.headers:
            return _json(self._tables().own_view())
        return _json(await self._tables().overview())

    async def row(self, request: web.Request) -> web.Response:
        if request.query_string:
            raise BadQuestionError("a row's path takes no parameters")
        query = Get(request.match_info["table"], request.match_info["key"])
        if FORWARDED in request.headers:
            return _json(await self._tables().own_parts(query))
        return _json(await self._tables().get(query))

    async def rows(self, request: web.Request) -> web.Response:
        query = query_of(request.match_info["table"], request.query.items())
        if FORWARDED in request.headers:
            return _json(await self._tables().own_parts(query))
        if isinstance(query, Count):
            return _json(await self._tables().count(query))
        return _json(await self._tables().scan(query))


def _file(name: str, content_type: str) -> Handler:
    body = (_FILES / name).read_bytes()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return answer


@web.middleware
async def errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer what cannot be answered with one line that says why."""
    try:
        return await handler(request)
    except QueryError as error:
        headers = {"Retry-After": str(_RETRY_AFTER_S)} if isinstance(error, NotNowError) else {}
        return error_answer(_STATUS[type(error)], str(error), headers=headers, **error.details)
    except web.HTTPException as error:
        return error_answer(error.status, f"{request.path[:100]}: {error.reason}")
    except Exception:
        log.exception("answering %s", request.path[:100])
        return error_answer(500, "this worker could not answer; its log says why")


def error_answer(
    status: int, line: str, *, headers: Mapping[str, str] | None = None, **more: Any
) -> web.Response:
    """Return the answer that says in one line why there is no other."""
    return _json({"error": line, **more}, status, headers)


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        content_type="application/json",
        charset="utf-8",
        headers=headers,
    )
