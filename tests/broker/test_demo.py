"""`headrace demo` in a process of its own: all of it, cut short, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from streams.broker import EmbeddedKafka

ROOT = Path(__file__).parents[2]
GONE_TIMEOUT_S = 15.0


class Demo:
    """A running demo, killed after a while so that no test waits without end."""

    def __init__(self, folder: Path, *args: str, **environment: str) -> None:
        folder.mkdir()
        outer = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))}
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from commands.main import main; main()", "demo", *args],
            cwd=ROOT,
            env={**outer, "TMPDIR": str(folder), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._limit = threading.Timer(100, self.process.kill)
        self._limit.start()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._limit.cancel()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def read_to(self, words: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if words in line:
                return line
        pytest.fail(f"the demo ended without {words!r}")

    def descendants(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def output_and_status(self) -> tuple[str, int]:
        output, _ = self.process.communicate()
        return output, self.process.returncode


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    running: list[Demo] = []

    def started(*args: str, **environment: str) -> Demo:
        running.append(Demo(tmp_path / f"demo-{len(running)}", *args, **environment))
        return running[-1]

    yield started
    for demo in running:
        demo.close()


def still_running(processes: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=GONE_TIMEOUT_S)
    return [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def test_it_ends_with_the_proof_and_leaves_nothing(start: Callable[..., Demo]) -> None:
    # The rules are the demo's own, whatever the surroundings say of a worker's.
    demo = start("--seconds", "4", "--rate", "1000", "--poison", "0.05", HEADRACE_VIP_ORDERS="3")
    demo.read_to("1 s  records")
    processes = demo.descendants()
    output, status = demo.output_and_status()
    assert "everything that came out equals the plain-Python oracle" in output
    assert "records in    4,000 in 4.0 s" in output
    assert status == 0
    assert len(processes) == 3
    assert still_running(processes) == []
    assert list(demo.folder.iterdir()) == []


def test_the_group_windows_ends_with_the_proof_as_well(start: Callable[..., Demo]) -> None:
    demo = start("--group", "windows", "--seconds", "6", "--rate", "1000", "--poison", "0.05")
    demo.read_to("1 s  records")
    output, status = demo.output_and_status()
    assert "everything that came out equals the plain-Python oracle" in output
    assert "records in    6,000 in 6.0 s" in output
    assert status == 0
    assert list(demo.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "number", "status"),
    [
        (["--seconds", "60"], signal.SIGINT, 130),
        ([], signal.SIGTERM, 0),
    ],
)
def test_a_signal_ends_all_that_it_started(
    start: Callable[..., Demo], args: list[str], number: signal.Signals, status: int
) -> None:
    demo = start("--rate", "500", *args)
    demo.read_to("1 s  records")
    processes = demo.descendants()
    demo.process.send_signal(number)
    assert demo.output_and_status()[1] == status
    assert len(processes) == 3
    assert still_running(processes) == []
    assert list(demo.folder.iterdir()) == []


def test_a_signal_during_the_start_leaves_nothing(start: Callable[..., Demo]) -> None:
    demo = start("--seconds", "60")
    demo.read_to("starting Kafka")
    demo.process.send_signal(signal.SIGINT)
    assert demo.output_and_status()[1] == 130
    assert list(demo.folder.iterdir()) == []


def test_killed_it_takes_all_that_it_started_along(start: Callable[..., Demo]) -> None:
    demo = start("--rate", "500")
    demo.read_to("1 s  records")
    processes = demo.descendants()
    demo.process.kill()
    assert len(processes) == 3
    assert still_running(processes) == []


def test_a_worker_that_dies_ends_it_in_one_line(start: Callable[..., Demo]) -> None:
    demo = start("--rate", "500")
    pid = int(demo.read_to("worker-2 (pid").split("(pid ")[1].split(")")[0])
    os.kill(pid, signal.SIGKILL)
    output, status = demo.output_and_status()
    assert status == 1
    last = output.splitlines()[-1]
    assert last.startswith("headrace: worker-2 was ended by SIGKILL: ")
    assert (next(demo.folder.iterdir()) / "worker-2.log").exists()


def test_topics_with_records_are_left_alone(start: Callable[..., Demo], tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path / "kafka") as kafka:
        args = ["--seconds", "1", "--rate", "200", "--workers", "1", "--partitions", "2"]
        first = start(*args, KAFKA_BROKERS=kafka.bootstrap)
        assert first.output_and_status()[1] == 0
        second = start(*args, KAFKA_BROKERS=kafka.bootstrap)
        output, status = second.output_and_status()
        assert status == 1
        assert "the demo needs empty topics" in output.splitlines()[-1]
        assert list(second.folder.iterdir()) == []
