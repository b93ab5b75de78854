"""Processes that are measured: started, looked at from outside with what they started, ended."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import psutil

from bench.systems.system import Command
from streams.child import end_child, start_child
from streams.errors import HeadraceError

_KEPT = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "TMPDIR")
_END_TIMEOUT_S = 30.0
_KILLED_TIMEOUT_S = 1.0
_TAIL_CHARACTERS = 400
_TAIL_LINES = 4


class SystemFailedError(HeadraceError):
    """A system ended by itself, or did not do its work in time. The line ends with its log's last."""


class Usage(NamedTuple):
    """What a process and all that it started have used so far, and have in memory now."""

    cpu_s: float
    rss_bytes: int


class Running:
    """A process; use it with `with`: on leaving it is ended, in order if it lets itself be."""

    def __init__(self, command: Command, folder: Path, name: str) -> None:
        """Start it in its folder. It dies with this process."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        self.name = name
        kept = {variable: os.environ[variable] for variable in _KEPT if variable in os.environ}
        with self.log.open("ab") as log:
            self.process: subprocess.Popen[bytes] = start_child(
                command.arguments,
                env=kept | command.environment,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        self._last = Usage(0.0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def usage(self) -> Usage:
        """Return what it uses; once it has ended, what it had used last."""
        try:
            root = psutil.Process(self.process.pid)
            tree = [root, *root.children(recursive=True)]
            cpu_s, rss_bytes = 0.0, 0
            for process in tree:
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                rss_bytes += process.memory_info().rss
            self._last = Usage(cpu_s, rss_bytes)
        except psutil.NoSuchProcess:
            pass
        return self._last

    def check(self) -> None:
        """Raise SystemFailedError if it has ended."""
        if self.process.poll() is not None:
            raise self.failure(f"ended by itself with status {self.process.returncode}")

    def failure(self, what: str) -> SystemFailedError:
        """Return the error that says what happened, with the end of its log."""
        lines = self.log.read_text("utf-8", errors="replace").strip().splitlines()
        told = " | ".join(line.strip() for line in lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]
        return SystemFailedError(
            f"{self.name} {what}: {told or 'its log is empty'} (log: {self.log})"
        )

    def end(self) -> None:
        """End it, in order within half a minute, else by force. Returning proves that it is gone.

        What it started and left behind is killed.
        """
        children = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children(recursive=True)
        end_child(self.process, term_timeout_s=_END_TIMEOUT_S)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        # Nobody's children any more: one that is not reaped stays there, dead.
        psutil.wait_procs(children, timeout=_KILLED_TIMEOUT_S)
