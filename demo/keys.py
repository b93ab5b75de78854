"""The keys of the live view: a terminal that hands over each at once, and what each asks for."""

from __future__ import annotations

import contextlib
import os
import re
import termios
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final, NamedTuple


class Do(Enum):
    """What a key asks for."""

    KILL = auto()
    START = auto()
    POISON = auto()
    FASTER = auto()
    SLOWER = auto()
    PAUSE = auto()
    END = auto()


class Command(NamedTuple):
    """What was asked for; `number` is the worker to kill, None: the next in turn."""

    do: Do
    number: int | None = None


_COMMANDS: Final = {
    "k": Command(Do.KILL),
    **{str(number): Command(Do.KILL, number) for number in range(1, 10)},
    "s": Command(Do.START),
    "p": Command(Do.POISON),
    "+": Command(Do.FASTER),
    "=": Command(Do.FASTER),  # + without Shift on many keyboards
    "-": Command(Do.SLOWER),
    " ": Command(Do.PAUSE),
    "q": Command(Do.END),
}
# Arrows, function keys and Alt begin with ESC: none of their letters is a key of ours.
_ESCAPED: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|.)?", re.DOTALL)
_INPUT, _LOCAL, _CHARACTERS = 0, 3, 6  # where termios keeps these modes


def commands_of(typed: bytes) -> list[Command]:
    """Return what was asked for by what was typed; what means nothing is left out."""
    text = _ESCAPED.sub("", typed.decode(errors="replace"))
    return [_COMMANDS[key] for key in text.lower() if key in _COMMANDS]


@contextlib.contextmanager
def each_key_at_once(fd: int) -> Iterator[None]:
    """Have the terminal hand over each key as it is typed, unseen; at the end it is as before.

    Ctrl-C stays a signal. What else would stop or end it, and leave the terminal as it is
    then, is an ordinary key meanwhile.
    """
    before = termios.tcgetattr(fd)
    modes = termios.tcgetattr(fd)
    modes[_INPUT] &= ~termios.IXON
    modes[_LOCAL] &= ~(termios.ICANON | termios.ECHO)
    nothing = os.fpathconf(fd, "PC_VDISABLE").to_bytes(1, "little")
    modes[_CHARACTERS][termios.VSUSP] = nothing
    modes[_CHARACTERS][termios.VQUIT] = nothing
    modes[_CHARACTERS][termios.VMIN] = b"\x01"
    modes[_CHARACTERS][termios.VTIME] = b"\x00"
    try:
        termios.tcsetattr(fd, termios.TCSANOW, modes)
        yield
    finally:
        # A terminal that has gone has no modes; keys that came too late are not for the shell.
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSANOW, before)
            termios.tcflush(fd, termios.TCIFLUSH)
