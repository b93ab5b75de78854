"""What another worker may do instead of answering."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tables.questions import Get, UnansweredError
from tables.web import others
from tables.web.others import OtherWorkers

QUERY = Get("users", "ada")
HEADERS = "Headrace-Application: app\r\nContent-Length:"


@pytest.fixture
async def workers() -> AsyncIterator[OtherWorkers]:
    made = OtherWorkers("app")
    yield made
    await made.close()


async def served(workers: OtherWorkers, answer: str) -> object:
    """Ask somebody who answers with these bytes, whatever is asked."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await workers.parts(f"127.0.0.1:{port}", QUERY)


async def test_nobody_listens(workers: OtherWorkers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(UnansweredError, match=r"^does not answer$"):
        await workers.parts(f"127.0.0.1:{port}", QUERY)


async def test_one_that_is_frozen_is_not_waited_for(
    workers: OtherWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert others._PATIENCE.total == 2
    monkeypatch.setattr(others, "_PATIENCE", aiohttp.ClientTimeout(total=0.1))
    with socket.create_server(("127.0.0.1", 0)) as frozen:  # connected to, and nothing more
        port = frozen.getsockname()[1]
        with pytest.raises(UnansweredError, match=r"^does not answer$"):
            await workers.parts(f"127.0.0.1:{port}", QUERY)


@pytest.mark.parametrize("address", ["", "no port", "a:b:c", "worker:99999"])
async def test_an_address_that_is_none(workers: OtherWorkers, address: str) -> None:
    with pytest.raises(UnansweredError, match=r"^does not answer$"):
        await workers.parts(address, QUERY)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("", "does not answer"),
        ("what?\r\n\r\n", "does not answer"),
        (f"HTTP/1.1 200 OK\r\n{HEADERS} 100\r\n\r\n[]", "does not answer"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "something else answers"),
        (f"HTTP/1.1 200 OK\r\n{HEADERS} 2\r\n\r\n[]".replace("app", "x"), "something else answers"),
        (f"HTTP/1.1 200 OK\r\n{HEADERS} 2\r\n\r\n{{}}", "answers with status 200 and what cannot"),
        (f"HTTP/1.1 404 Not\r\n{HEADERS} 2\r\n\r\n{{}}", "answers with status 404 and what cannot"),
        (f"HTTP/1.1 302 No\r\nLocation: /\r\n{HEADERS} 0\r\n\r\n", "answers with status 302"),
    ],
    ids=["closed", "no http", "cut", "no name", "another name", "no parts", "error", "redirect"],
)
async def test_what_is_no_answer_is_told_apart(
    workers: OtherWorkers, answer: str, told: str
) -> None:
    with pytest.raises(UnansweredError, match=told):
        await served(workers, answer)


async def test_parts_of_no_task_are_an_answer(workers: OtherWorkers) -> None:
    assert await served(workers, f"HTTP/1.1 200 OK\r\n{HEADERS} 2\r\n\r\n[]") == []
