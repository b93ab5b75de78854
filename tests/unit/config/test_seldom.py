"""Lines that repeat: the first at once, the rest as one with their number."""

import io
import logging

import pytest

from config import seldom
from config.seldom import SeldomHandler
from tests.waiting import until_true


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def handler(stream: io.StringIO) -> SeldomHandler:
    made = SeldomHandler(stream, libraries=("aiokafka",))
    made.setFormatter(logging.Formatter("%(message)s x%(repeated)s", defaults={"repeated": 1}))
    return made


def say(
    handler: logging.Handler,
    text: str,
    *values: object,
    name: str = "streams.engine",
    level: int = logging.WARNING,
) -> None:
    handler.handle(logging.LogRecord(name, level, __file__, 1, text, values, None))


def test_the_first_of_a_kind_is_written_at_once(
    handler: SeldomHandler, stream: io.StringIO
) -> None:
    say(handler, "%s: not taken", "orders-1")
    say(handler, "%s: not taken", "orders-2")
    assert stream.getvalue().splitlines() == ["orders-1: not taken x1", "orders-2: not taken x1"]
    handler.close()


def test_those_that_follow_become_one_with_their_number(
    handler: SeldomHandler, stream: io.StringIO
) -> None:
    for offset in range(1000):
        say(handler, "dead letter: %s-%d offset %d: %s: %s", "orders", 0, offset, "vip", "KeyError")
    say(handler, "dead letter: %s-%d offset %d: %s: %s", "orders", 0, 7, "users", "KeyError")
    handler.close()
    assert stream.getvalue().splitlines() == [
        "dead letter: orders-0 offset 0: vip: KeyError x1",
        "dead letter: orders-0 offset 7: users: KeyError x1",
        "dead letter: orders-0 offset 999: vip: KeyError x999",
    ]


async def test_they_are_written_when_their_time_has_come(
    handler: SeldomHandler, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seldom, "_QUIET_S", 0.01)
    for _ in range(3):
        say(handler, "the group: gone")
    await until_true(lambda: "the group: gone x2" in stream.getvalue())
    # Later it is a new kind: written at once.
    await until_true(lambda: not handler._held)
    say(handler, "the group: gone")
    assert stream.getvalue().splitlines()[-1] == "the group: gone x1"
    handler.close()


def test_a_library_repeats_itself_in_other_words(
    handler: SeldomHandler, stream: io.StringIO
) -> None:
    for port in range(3):
        say(handler, "Unable connect to %s", port, name="aiokafka.client", level=logging.ERROR)
    handler.close()
    assert stream.getvalue().splitlines() == ["Unable connect to 0 x1", "Unable connect to 2 x2"]


def test_what_is_no_warning_is_never_held_back(handler: SeldomHandler, stream: io.StringIO) -> None:
    for _ in range(3):
        say(handler, "restored", level=logging.INFO)
    assert stream.getvalue() == "restored x1\n" * 3
