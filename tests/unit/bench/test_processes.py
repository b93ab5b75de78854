"""Processes are measured with all that they start, and none outlives its measure."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.processes import Running, SystemFailedError
from bench.systems.system import Command

BUSY = "while True: pass"
WITH_A_CHILD = (
    "import subprocess, sys, time\n"
    f"child = subprocess.Popen([sys.executable, '-c', {BUSY!r}])\n"
    "print(child.pid, flush=True)\n"
    "time.sleep(600)\n"
)
DEADLINE_S = 30.0


def python(code: str) -> Command:
    """Return the command that runs this code."""
    return Command((sys.executable, "-c", code), {})


def child_of(running: Running) -> psutil.Process:
    """Return the process that it has started, once there is one."""
    deadline = time.monotonic() + DEADLINE_S
    while not running.log.read_text(encoding="utf-8").strip():
        assert time.monotonic() < deadline
    return psutil.Process(int(running.log.read_text(encoding="utf-8")))


def test_what_a_process_started_counts_as_its_own_and_ends_with_it(tmp_path: Path) -> None:
    with Running(python(WITH_A_CHILD), tmp_path / "it", "it") as running:
        child = child_of(running)
        deadline = time.monotonic() + DEADLINE_S
        while running.usage().cpu_s < 0.5:
            assert time.monotonic() < deadline
        assert running.usage().rss_bytes > child.memory_info().rss
    assert running.process.poll() is not None
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert running.usage().cpu_s >= 0.5


def test_one_that_ends_by_itself_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    code = "import sys; print('first'); sys.exit('no such broker')"
    with Running(python(code), tmp_path, "it") as running:
        running.process.wait(DEADLINE_S)
        with pytest.raises(SystemFailedError, match=r"^it ended by itself with status 1: .*broker"):
            running.check()


def test_settings_of_the_caller_do_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_VIP_ORDERS", "3")
    code = "import os; print(sorted(n for n in os.environ if n.startswith(('HEADRACE', 'KAFKA'))))"
    with Running(python(code), tmp_path, "it") as running:
        running.process.wait(DEADLINE_S)
    assert running.log.read_text(encoding="utf-8").strip() == "[]"
