"""`headrace demo` on a terminal: the live view, its keys, and the terminal afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
PROGRAM = (
    "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "from commands.main import main; main()"
)
OTHER_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN_CURSOR, SHOWN_CURSOR = "\x1b[?25l", "\x1b[?25h"


class OnTerminal:
    """A demo on a terminal of its own, of 80 times 24."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (24, 80))
        self.modes = termios.tcgetattr(self.slave)
        outer = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HEADRACE_", "KAFKA_"))
            and name not in {"CI", "COLUMNS", "LINES", "NO_COLOR"}
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, "demo", *args],
            cwd=ROOT,
            env={**outer, "TMPDIR": str(folder), "TERM": "xterm-256color", **environment},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
        )
        self.shown = ""
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        data = b""
        while True:
            try:
                data += os.read(self.master, 65_536)
            except OSError:  # it is closed
                return
            with self._news:
                self.shown = data.decode(errors="ignore")
                self._news.notify_all()

    def wait_for(self, words: str, start: int = 0) -> int:
        """Return where the words end that were shown from `start` on."""
        deadline = time.monotonic() + DEADLINE_S
        with self._news:
            while (found := self.shown.find(words, start)) < 0:
                left = deadline - time.monotonic()
                assert left > 0, f"no {words!r} in {self.shown[-3_000:]}"
                assert self.process.poll() is None, f"it ended: {self.shown[-3_000:]}"
                self._news.wait(min(left, 0.2))
        return found + len(words)

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def end(self) -> tuple[str, int]:
        """Return what is said after the live view, and the exit status."""
        status = self.process.wait(DEADLINE_S)
        os.write(self.slave, b"<end>")
        with self._news:
            assert self._news.wait_for(lambda: self.shown.endswith("<end>"), DEADLINE_S)
        return self.shown.rpartition(FIRST_SCREEN)[2], status

    def is_as_before(self) -> bool:
        """Tell whether the terminal's modes, screen and cursor are what they were."""
        return (
            termios.tcgetattr(self.slave) == self.modes
            and self.shown.count(OTHER_SCREEN) == self.shown.count(FIRST_SCREEN) == 1
            and self.shown.rfind(SHOWN_CURSOR) > self.shown.rfind(HIDDEN_CURSOR) > 0
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)
        self._reader.join()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., OnTerminal]]:
    running: list[OnTerminal] = []

    def started(*args: str, **environment: str) -> OnTerminal:
        running.append(OnTerminal(tmp_path, *args, **environment))
        return running[-1]

    yield started
    for demo in running:
        demo.close()


def ended_by_q(demo: OnTerminal, at: int) -> str:
    """End a demo by its key; return what it told. All that came out equals the oracle."""
    demo.type("q")
    demo.wait_for("ending", at)
    told, status = demo.end()
    assert "everything that came out equals the plain-Python oracle" in told
    assert status == 0
    return told


def test_what_keys_do_to_it_changes_nothing_of_what_comes_out(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--seconds", "60", "--rate", "400")
    at = demo.wait_for("2 of 2 up", demo.wait_for(OTHER_SCREEN))
    assert termios.tcgetattr(demo.slave) != demo.modes
    demo.type("k")
    at = demo.wait_for("1 of 2 up", demo.wait_for("was killed with kill -9", at))
    demo.type("p")
    at = demo.wait_for("kinds of poison were sent", at)
    demo.type("s")
    at = demo.wait_for("starting", at)
    at = demo.wait_for("2 of 2 up", at)
    ended_by_q(demo, at)
    assert demo.is_as_before()


def test_windows_close_while_one_looks_and_a_kill_changes_nothing_of_them(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--group", "windows", "--seconds", "90", "--rate", "400", "--users", "300")
    at = demo.wait_for("2 of 2 up", demo.wait_for(OTHER_SCREEN))
    at = demo.wait_for("STATS", demo.wait_for("event time", at))
    demo.type("k")
    at = demo.wait_for("1 of 2 up", demo.wait_for("was killed with kill -9", at))
    at = demo.wait_for("SESSION", demo.wait_for("UNPAID", at))
    told = ended_by_q(demo, at)
    assert " 0 in " not in told


def test_sales_are_told_and_checked_though_a_worker_is_killed(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--group", "sales", "--seconds", "90", "--rate", "400", "--users", "300")
    at = demo.wait_for("2 of 2 up", demo.wait_for(OTHER_SCREEN))
    at = demo.wait_for("SOLD", at)
    demo.type("kp")
    at = demo.wait_for("1 of 2 up", demo.wait_for("kinds of poison were sent", at))
    at = demo.wait_for("WORTH", demo.wait_for("LOW", at))
    told = ended_by_q(demo, at)
    assert "late          0 late records" in told
    assert " 0 in " not in told


def test_repeats_are_left_out_though_workers_are_killed_and_the_producer_restarts(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--group", "deduplication", "--seconds", "90", "--rate", "400")
    at = demo.wait_for("2 of 2 up", demo.wait_for(OTHER_SCREEN))
    at = demo.wait_for("TWICE", demo.wait_for("RESENT", at))
    demo.type("k")
    at = demo.wait_for("1 of 2 up", demo.wait_for("was killed with kill -9", at))
    at = demo.wait_for("RESENT", demo.wait_for("orders-0,1,2,3", at))
    ended_by_q(demo, at)


def test_ctrl_c_ends_it_with_the_check_and_a_signal_s_status(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--seconds", "60", "--rate", "400", "--workers", "1", "--partitions", "1")
    demo.wait_for("sending", demo.wait_for(OTHER_SCREEN))
    demo.type("\x03")
    told, status = demo.end()
    assert "everything that came out equals the plain-Python oracle" in told
    assert status == 128 + signal.SIGINT
    assert demo.is_as_before()


def test_a_terminal_that_shows_no_view_is_told_that_keys_do_nothing(
    start: Callable[..., OnTerminal],
) -> None:
    demo = start("--seconds", "60", "--workers", "1", "--partitions", "1", TERM="dumb")
    demo.wait_for("keys do nothing, and it ends after 60 s, with the check")
    demo.process.terminate()
    _, status = demo.end()
    assert status == 128 + signal.SIGTERM
    assert OTHER_SCREEN not in demo.shown


def test_a_signal_leaves_the_terminal_as_it_was(start: Callable[..., OnTerminal]) -> None:
    demo = start("--rate", "400", "--workers", "1", "--partitions", "1")
    demo.wait_for("sending", demo.wait_for(OTHER_SCREEN))
    demo.process.terminate()
    told, status = demo.end()
    assert "ended: nothing that was started is left" in told
    assert status == 0
    assert demo.is_as_before()
