"""What every run of a bench needs: a broker, folders, results kept as they come, problems that are said."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import this_machine
from bench.results import Results
from bench.stage import BROKER
from bench.systems.system import BUILD
from streams.broker import EmbeddedKafka


class Measuring:
    """A base of runs; `say` is told each step, `save` is called whenever there is more."""

    def __init__(
        self, command: str, say: Callable[[str], None], save: Callable[[Results], None]
    ) -> None:
        self.results = Results(machine=this_machine(), command=command, finished_at="")
        self._say = say
        self._save = save
        self._folders = 0

    @contextlib.contextmanager
    def _broker(self) -> Iterator[tuple[EmbeddedKafka, Path]]:
        """Yield a running broker and the folder of its data. Raises HeadraceError if it cannot be had."""
        BUILD.mkdir(parents=True, exist_ok=True)
        # Beside what is built: a system's folder for temporary files may lie in memory.
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="run-") as temporary:
            self._folder = Path(temporary)
            data = self._folder / "kafka"
            self._say(f"starting Kafka {self.results.machine.kafka}")
            with EmbeddedKafka(data, properties=BROKER) as kafka:
                yield kafka, data

    def _new_folder(self, name: str) -> Path:
        """Return a folder for one run; the one before the last is removed."""
        self._folders += 1
        shutil.rmtree(self._folder / "runs", ignore_errors=True)
        folder = self._folder / "runs" / f"{name}-{self._folders}"
        folder.mkdir(parents=True)
        return folder

    def _problem(self, problems: list[str], error: Exception) -> None:
        problems.append(str(error))
        self._say(f"PROBLEM {error}")

    def _keep(self) -> None:
        self.results.finished_at = datetime.now(UTC).isoformat(timespec="seconds")
        self._save(self.results)
