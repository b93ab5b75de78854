"""Child processes that die with their parent.

A child goes through a small wrapper (this file, run as a program) that asks the Linux kernel to
kill it when its parent dies, then execs the real command: the pid stays the same. Other systems
have no such request; there the wrapper only execs.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_EXIT_USAGE = 2
_EXIT_NOT_FOUND = 127  # what a shell answers for a command that is not there
_USAGE = "usage: python -m streams.child [--parent PID] -- CMD ARGS..."

Output: TypeAlias = int | IO[bytes] | None


def start_child(
    cmd: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdout: Output = None,
    stderr: Output = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start cmd in a session of its own, to be killed by the kernel when this process dies.

    Its own session keeps a terminal's Ctrl-C away from it: the parent ends it in order. May be
    called from any thread. Only Linux kills; elsewhere a killed parent leaves the child alone.
    A command that is not there ends with status 127.
    """
    # -I -S: an import path without surprises, and half of the interpreter's start time.
    wrapper = [sys.executable, "-I", "-S", __file__, "--parent", str(os.getpid()), "--"]
    return _spawner().start(
        [*wrapper, *(os.fspath(part) for part in cmd)],
        env=env,
        stdout=stdout,
        stderr=stderr,
        cwd=cwd,
        pass_fds=pass_fds,
    )


def end_child(process: subprocess.Popen[bytes], *, term_timeout_s: float = 10.0) -> int:
    """End the process and return its status: SIGTERM, then SIGKILL after term_timeout_s.

    Returning proves that it is gone and reaped. One that has ended already is left as it is.
    """
    if process.poll() is None:
        process.terminate()
        try:
            return process.wait(term_timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


@dataclass(frozen=True)
class _Order:
    """A child to start, and where its process (or the error) is handed back."""

    popen: Callable[[], subprocess.Popen[bytes]]
    done: Future[subprocess.Popen[bytes]] = field(default_factory=Future)


class _Spawner:
    """One thread that starts all children and lives as long as the process.

    Linux sends the parent-death signal when the *thread* that forked ends (prctl(2)), so a child
    started in an executor's thread would be killed with that executor.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._orders: queue.SimpleQueue[_Order] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="child-spawner", daemon=True).start()

    def start(
        self,
        cmd: list[str],
        *,
        env: Mapping[str, str] | None,
        stdout: Output,
        stderr: Output,
        cwd: Path | None,
        pass_fds: Sequence[int],
    ) -> subprocess.Popen[bytes]:
        def popen() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                cmd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )

        order = _Order(popen)
        self._orders.put(order)
        return order.done.result()

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            try:
                order.done.set_result(order.popen())
            except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
                order.done.set_exception(error)


_spawners: list[_Spawner] = []
_spawners_lock = threading.Lock()


def _spawner() -> _Spawner:
    with _spawners_lock:
        # A fork inherits the list but not the thread.
        if not _spawners or _spawners[-1].pid != os.getpid():
            _spawners[:] = [_Spawner()]
        return _spawners[-1]


def _die_with(parent: int) -> None:
    """Ask to be killed when the parent dies; exit at once if it has died already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    # The parent may have died between the fork and the request, which then never fires.
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)


def main(argv: Sequence[str]) -> int:
    """Exec the command after `--`; return a status only if that is impossible."""
    options, cmd = _split(argv)
    match options:
        case [] if cmd:
            parent = os.getppid()
        case ["--parent", pid] if cmd:
            parent = int(pid)
        case _:
            sys.stderr.write(f"{_USAGE}\n")
            return _EXIT_USAGE
    if sys.platform == "linux":
        _die_with(parent)
    try:
        os.execvp(cmd[0], cmd)  # noqa: S606 - our own commands, never a shell
    except OSError as error:
        sys.stderr.write(f"{cmd[0]}: {error.strerror}\n")
        return _EXIT_NOT_FOUND


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    words = list(argv)
    if "--" not in words:
        return words, []
    at = words.index("--")
    return words[:at], words[at + 1 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
