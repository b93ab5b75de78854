"""`headrace broker` in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    code = "from commands.main import main; main()"
    args = ["broker", "--port", "0", "--data", str(tmp_path / "kafka")]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_address_and_ends_in_order(
    running: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert running.stdout is not None
    assert running.stdout.readline().startswith("127.0.0.1:")
    running.send_signal(number)
    assert running.wait(20) == 0


def test_a_folder_that_is_in_use_is_one_line(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert running.stdout is not None
    running.stdout.readline()
    second = subprocess.run(
        [*running.args[:-1], str(tmp_path / "kafka")],  # type: ignore[index]
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 1
    assert second.stderr.startswith("headrace: ")
    assert len(second.stderr.splitlines()) == 1
