"""What keys ask for, and that the terminal gets its modes back."""

from __future__ import annotations

import os
import pty
import termios
from collections.abc import Iterator

import pytest

from demo.keys import Command, Do, commands_of, each_key_at_once


@pytest.mark.parametrize(
    ("typed", "commands"),
    [
        ("k", [Command(Do.KILL)]),
        ("K", [Command(Do.KILL)]),
        ("2s", [Command(Do.KILL, 2), Command(Do.START)]),
        (
            "p+=- q",
            [Command(d) for d in (Do.POISON, Do.FASTER, Do.FASTER, Do.SLOWER, Do.PAUSE, Do.END)],
        ),
        ("0xyz\r\n\t", []),
        ("\x1b[A\x1b[5~\x1bOq\x1bp\x1b[1;5Cs", [Command(Do.START)]),
        ("\x1b", []),
        ("ä\u20ack", [Command(Do.KILL)]),
    ],
)
def test_what_is_typed_is_what_is_asked_for(typed: str, commands: list[Command]) -> None:
    assert commands_of(typed.encode()) == commands


def test_bytes_that_are_no_text_ask_for_nothing() -> None:
    assert commands_of(b"\xff\xfeq\xc3") == [Command(Do.END)]


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Yield both ends of a terminal: whose keys are typed, and whose are read."""
    typist, reader = pty.openpty()
    yield typist, reader
    os.close(reader)
    os.close(typist)


def test_each_key_comes_at_once_and_unseen(terminal: tuple[int, int]) -> None:
    typist, reader = terminal
    with each_key_at_once(reader):
        os.write(typist, b"k\x1a\x13\x1c")  # Ctrl-Z, Ctrl-S and Ctrl-\ too
        assert os.read(reader, 10) == b"k\x1a\x13\x1c"
        os.write(reader, b"!")
        assert os.read(typist, 10) == b"!"


def test_ctrl_c_stays_a_signal(terminal: tuple[int, int]) -> None:
    with each_key_at_once(terminal[1]):
        modes = termios.tcgetattr(terminal[1])
        assert modes[3] & termios.ISIG
        assert modes[6][termios.VINTR] == b"\x03"


def test_the_terminal_gets_its_modes_back(terminal: tuple[int, int]) -> None:
    before = termios.tcgetattr(terminal[1])
    found = []

    def work() -> None:
        with each_key_at_once(terminal[1]):
            found.append(termios.tcgetattr(terminal[1]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert found != [before]
    assert termios.tcgetattr(terminal[1]) == before


def test_a_terminal_that_has_gone_is_no_error() -> None:
    typist, reader = pty.openpty()
    with each_key_at_once(reader):
        os.close(typist)
        os.close(reader)
