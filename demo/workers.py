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
from pathlib import Path
from typing import NamedTuple

from pydantic import SecretStr

from config.settings import Settings, environment_name
from streams.child import end_child, start_child
from streams.errors import HeadraceError

APP_ID = "demo"
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


class _Worker(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def client_id(self) -> str:
        return f"{APP_ID}-{self.name}"


class Workers:
    """Worker processes, each with a data folder and a log of its own under `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: list[_Worker] = []

    def start(self, count: int, settings: Settings) -> None:
        """Start them on the Kafka of these settings."""
        for number in range(1, count + 1):
            name = f"worker-{number}"
            log = self._folder / f"{name}.log"
            environment = worker_environment(os.environ, settings, name, self._folder / name)
            with log.open("wb") as file:
                # Elsewhere than here: a .env of the working directory is not to change the demo.
                process = start_child(
                    _COMMAND, env=environment, cwd=self._folder, stdout=file, stderr=file
                )
            self._workers.append(_Worker(name, process, log))

    def names(self) -> dict[str, str]:
        """Return each worker's name and pid for people, by its client id in Kafka."""
        return {w.client_id: f"{w.name} (pid {w.process.pid})" for w in self._workers}

    def data_folders(self) -> list[Path]:
        """Return where the workers keep the application's tasks."""
        return [self._folder / worker.name / APP_ID for worker in self._workers]

    async def watch(self) -> None:
        """Raise WorkerError as soon as one ends; else go on without end."""
        while True:
            for worker in self._workers:
                if worker.process.poll() is not None:
                    raise WorkerError(f"{_end_of(worker)}: {_tail(worker.log)}")
            await asyncio.sleep(_LOOK_S)

    async def stop(self) -> None:
        """End them all in order; returning proves that each committed and ended with status 0."""
        stops = [
            asyncio.to_thread(end_child, worker.process, term_timeout_s=_STOP_TIMEOUT_S)
            for worker in self._workers
        ]
        await asyncio.gather(*stops)
        for worker in self._workers:
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


def _end_of(worker: _Worker) -> str:
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
