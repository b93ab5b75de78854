"""The server itself: headers, who may ask, what is refused, and the page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.web.running import Application, application

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Application]:
    """One worker for all tests of this module, which only ask."""
    async with application(tmp_path_factory.mktemp("web"), workers=1) as running:
        yield running


@pytest.fixture
def address(app: Application) -> str:
    web = app.workers[0].web
    assert web is not None
    return web.address


PATHS = ["/", "/page.css", "/page.js", "/api/tables", "/api/tables/users", "/api/tables/users/x"]
PATHS += ["/nowhere", "/api/tables/nope", "/api/tables/users?limit=x", "/api/tables/"]


@pytest.mark.parametrize("path", PATHS)
async def test_every_answer_tells_browsers_what_they_may_do_with_it(
    app: Application, address: str, path: str
) -> None:
    answer = await app.ask(address, path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Headrace-Application"] == "web"
    assert "aiohttp" not in answer.headers["Server"]
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
    head = await app.ask(address, path, method="HEAD")
    assert (head.status, head.text) == (answer.status, "")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/tables/users/x"])
async def test_nothing_but_questions_is_taken(
    app: Application, address: str, path: str, method: str
) -> None:
    answer = await app.ask(address, path, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:6066", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:6066", 200),
        ("rebound.example:6066", 403),
        ("localhost.rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("", 403),
    ],
)
async def test_on_loopback_only_names_of_loopback_are_answered(
    app: Application, address: str, host: str, status: int
) -> None:
    answer = await app.ask(address, "/api/tables", Host=host)
    assert answer.status == status
    assert ("tables" in answer.json) == (status == 200)


async def test_a_view_that_is_open_to_others_answers_by_any_name(tmp_path: Path) -> None:
    running = Application(tmp_path)
    try:
        address = await running.start(host="0.0.0.0")  # noqa: S104 - what a container needs
        assert (await running.ask(address, "/api/tables", Host="worker-1:6066")).status == 200
    finally:
        await running.stop()


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/tables/users?limit=0", 400, "limit must be a whole number from 1 to 1000"),
        ("/api/tables/users?limit=1001", 400, "limit must be a whole number from 1 to 1000"),
        ("/api/tables/users?limit=ten", 400, "limit='ten': it must be a whole number, 0 or more"),
        ("/api/tables/users?limit=", 400, "limit='': it must be a whole number, 0 or more"),
        ("/api/tables/user_order_minutes?key=a&from=-1", 400, "from='-1': it must be"),
        ("/api/tables/user_order_minutes?from=1", 400, "from and to go with key"),
        ("/api/tables/users?limit=1&limit=2", 400, "limit is given twice"),
        ("/api/tables/users?offset=2", 400, "no parameter 'offset' here; there are prefix, key"),
        ("/api/tables/users?count=yes", 400, "count='yes': it must be true"),
        ("/api/tables/users?count=true&limit=3", 400, "no parameter 'limit' here; there are count"),
        ("/api/tables/users?key=ada", 400, "table users has no windows"),
        ("/api/tables/users/ada?limit=3", 400, "a row's path takes no parameters"),
        ("/api/tables/orders/ada", 404, "there is no table 'orders'; there are user_order_minutes"),
        ("/api/tables/orders", 404, "there is no table 'orders'"),
        ("/favicon.ico", 404, "/favicon.ico: Not Found"),
    ],
)  # fmt: skip
async def test_what_cannot_be_answered_says_why_in_one_line(
    app: Application, address: str, path: str, status: int, told: str
) -> None:
    answer = await app.ask(address, path)
    assert answer.status == status
    assert answer.json["error"].startswith(told)
    assert "\n" not in answer.json["error"]


async def test_what_goes_wrong_inside_is_told_to_the_log_and_not_to_the_asker(
    app: Application,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object) -> None:
        msg = "a secret detail"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr("tables.queries.read_row", broken)
    answer = await app.ask(address, "/api/tables/users/x")
    assert (answer.status, "secret" in answer.text) == (500, False)
    assert "a secret detail" in caplog.text


async def test_the_page_loads_nothing_from_elsewhere(app: Application, address: str) -> None:
    page = await app.ask(address, "/")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    linked = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page.text)
    assert set(linked) == {"/page.css", "/page.js", "/api/tables"}
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        part = await app.ask(address, path)
        assert (part.status, part.headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", part.text)
    assert "prefers-color-scheme: dark" in (await app.ask(address, "/page.css")).text


async def test_the_page_makes_text_of_what_it_shows_and_never_html(
    app: Application, address: str
) -> None:
    script = (await app.ask(address, "/page.js")).text
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert dangerous not in script
    page = (await app.ask(address, "/")).text
    assert re.search(r"\son\w+=|style=|<script>|<style>", page) is None  # the policy forbids them
