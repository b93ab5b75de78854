"""The demo's workers: `headrace worker` processes that die with the demo."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from config.settings import Settings, environment_name
from demo.watched import APP_ID, MAIN_GROUP, Watched
from streams.child import end_child, start_child
from streams.errors import HeadraceError

MOST_WORKERS = 16
_ROOT = Path(__file__).parents[1]
_COMMAND = (sys.executable, "-c", "from commands.main import main; main()", "worker")
_LOOK_S = 0.2
_STOP_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 3.0
_TAIL_LINES = 3
_TAIL_CHARACTERS = 300
# The default's 3 s would be the time until the first worker hears that a second has joined.
_HEARTBEAT_MS = 500


class WorkerError(HeadraceError):
    """A worker ended that should not have, or ended badly."""


@dataclass
class Worker:
    """A worker, and the process that it has, or had, last."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    starts: int = 1
    killed: bool = False
    """Whether its process was killed on purpose, and not started again."""

    @property
    def name(self) -> str:
        """What people call it."""
        return f"worker-{self.number}"

    @property
    def client_id(self) -> str:
        """What Kafka calls its process: the group may know those that were killed for a while."""
        return f"{APP_ID}-{_called(self.number, self.starts)}"

    @property
    def label(self) -> str:
        """Its name and pid."""
        return f"{self.name} (pid {self.process.pid})"


def _called(number: int, start: int) -> str:
    return f"worker-{number}" if start == 1 else f"worker-{number}.{start}"


class Workers:
    """Worker processes, each with a data folder and a log of its own under `folder`."""

    def __init__(self, folder: Path, settings: Settings, group: Watched = MAIN_GROUP) -> None:
        """They work on the Kafka of these settings, and do the flows of this group."""
        self._folder = folder
        self._group = group
        self._settings = settings
        self._workers: list[Worker] = []
        self._killed_last = 0

    def start(self) -> Worker | None:
        """Start the first one that was killed, else a new one; None if there are enough."""
        for worker in self._workers:
            if worker.killed:
                worker.starts += 1
                worker.process = self._process(worker.number, worker.starts)
                worker.killed = False
                return worker
        if len(self._workers) == MOST_WORKERS:
            return None
        number = len(self._workers) + 1
        self._workers.append(
            Worker(number, self._process(number, 1), self._folder / f"worker-{number}.log")
        )
        return self._workers[-1]

    def kill(self, number: int | None = None) -> Worker | None:
        """Kill this one, or the next in turn, as kill -9 does; None if it does not run."""
        running = self.running()
        if number is None:
            running.sort(key=lambda worker: (worker.number <= self._killed_last, worker.number))
        else:
            running = [worker for worker in running if worker.number == number]
        if not running:
            return None
        worker = running[0]
        self._killed_last = worker.number
        worker.killed = True
        worker.process.kill()
        worker.process.wait()
        return worker

    def all(self) -> list[Worker]:
        """Return every worker, also those that were killed."""
        return list(self._workers)

    def running(self) -> list[Worker]:
        """Return those that were not killed."""
        return [worker for worker in self._workers if not worker.killed]

    def data_folders(self) -> list[Path]:
        """Return where the workers keep the application's tasks."""
        return [self._folder / worker.name / self._group.app_id for worker in self._workers]

    async def watch(self) -> None:
        """Raise WorkerError as soon as one ends by itself; else go on without end."""
        while True:
            for worker in self.running():
                if worker.process.poll() is not None:
                    raise WorkerError(f"{_end_of(worker)}: {_tail(worker.log)}")
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """End them all in order; returning proves that each committed and ended with status 0."""
        stops = [
            asyncio.to_thread(end_child, worker.process, term_timeout_s=_STOP_TIMEOUT_S)
            for worker in self.running()
        ]
        await asyncio.gather(*stops)
        for worker in self.running():
            if worker.process.returncode != 0:
                raise WorkerError(f"{_end_of(worker)} at SIGTERM: {_tail(worker.log)}")

    def end(self) -> None:
        """End those that still run, within a few seconds; returning proves that they are gone."""
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.terminate()
        deadline = time.monotonic() + _END_TIMEOUT_S
        for worker in self._workers:
            end_child(worker.process, term_timeout_s=max(0.0, deadline - time.monotonic()))

    def _process(self, number: int, start: int) -> subprocess.Popen[bytes]:
        name = f"worker-{number}"
        environment = worker_environment(
            os.environ, self._settings, _called(number, start), self._folder / name
        )
        with (self._folder / f"{name}.log").open("ab") as file:
            # Elsewhere than here: a .env of the working directory is not to change the demo.
            return start_child(
                (*_COMMAND, "--group", self._group.name),
                env=environment,
                cwd=self._folder,
                stdout=file,
                stderr=file,
            )


def worker_environment(
    outer: Mapping[str, str], settings: Settings, name: str, data_dir: Path
) -> dict[str, str]:
    """Return a worker's environment: the outer one, where settings are concerned the demo's alone.

    What the settings say of Kafka (also by .env) counts; the rules are always the default ones,
    which are the ones that the outcome is checked by.
    """
    kept = {n: v for n, v in outer.items() if not n.startswith(("HEADRACE_", "KAFKA_"))}
    kafka = dict(_kafka_variables(settings))
    if "kafka_heartbeat_interval_ms" not in settings.model_fields_set:
        kafka["KAFKA_HEARTBEAT_INTERVAL_MS"] = str(
            min(_HEARTBEAT_MS, settings.kafka_heartbeat_interval_ms)
        )
    path = os.pathsep.join(filter(None, [str(_ROOT), outer.get("PYTHONPATH")]))
    return {
        **kept,
        **kafka,
        "KAFKA_CLIENT_ID": f"{APP_ID}-{name}",
        "HEADRACE_APP_ID": APP_ID,
        "HEADRACE_DATA_DIR": str(data_dir),
        "PYTHONPATH": path,
    }


def _kafka_variables(settings: Settings) -> Iterator[tuple[str, str]]:
    for field in type(settings).model_fields:
        value = getattr(settings, field)
        if field.startswith("kafka_") and value is not None:
            yield environment_name(field), _as_text(value)


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _end_of(worker: Worker) -> str:
    status = worker.process.returncode
    if status is not None and status < 0:
        return f"{worker.name} was ended by {signal.Signals(-status).name}"
    return f"{worker.name} ended with status {status}"


def _tail(log: Path) -> str:
    """Return the last lines of a log as one line; of lines in JSON their messages."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    told = " | ".join(map(_message, lines[-_TAIL_LINES:]))
    return told[-_TAIL_CHARACTERS:] or "its log is empty"


def _message(line: str) -> str:
    try:
        document = json.loads(line)
    except ValueError:
        return line.strip()
    return str(document.get("message", line)) if isinstance(document, dict) else line.strip()
