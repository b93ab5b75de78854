"""The terminal that the live view is shown on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Protocol

from rich.console import Console
from rich.live import Live

from demo.keys import Command, commands_of, each_key_at_once
from demo.snapshot import Snapshot
from demo.view import View

_MOST_KEYS = 1_024


class Screen(Protocol):
    """Where snapshots are shown, and commands come from."""

    def shown(
        self, obey: Callable[[Command], None]
    ) -> contextlib.AbstractContextManager[Callable[[Snapshot], None]]:
        """Give what draws a snapshot; meanwhile each command goes to `obey`, in the event loop."""


class Terminal:
    """The terminal of standard input and output. Its other screen is used: what was on it stays."""

    @contextlib.contextmanager
    def shown(self, obey: Callable[[Command], None]) -> Iterator[Callable[[Snapshot], None]]:
        """Give what draws a snapshot. However it ends, the terminal is then as it was before."""
        loop = asyncio.get_running_loop()
        fd = sys.stdin.fileno()

        def read() -> None:
            try:
                typed = os.read(fd, _MOST_KEYS)
            except OSError:
                typed = b""
            if not typed:  # the terminal has gone
                loop.remove_reader(fd)
            for command in commands_of(typed):
                obey(command)

        with each_key_at_once(fd), Live(screen=True, auto_refresh=False) as live:
            loop.add_reader(fd, read)
            try:
                yield lambda snapshot: live.update(View(snapshot), refresh=True)
            finally:
                loop.remove_reader(fd)


def terminal() -> Terminal | None:
    """Return the terminal, if there is one that can show the live view and somebody at it."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("CI"):
        return None
    if _in_background(sys.stdin.fileno()):
        return None
    if logging.getLogger().isEnabledFor(logging.DEBUG):  # the lines of --verbose would cover it
        return None
    console = Console()
    if console.is_dumb_terminal or not console.encoding.startswith("utf"):
        return None
    return Terminal()


def _in_background(fd: int) -> bool:
    """Tell whether the terminal's keys are somebody else's: to take them would stop this process."""
    try:
        return os.tcgetpgrp(fd) != os.getpgrp()
    except OSError:  # a terminal that controls nobody
        return False
