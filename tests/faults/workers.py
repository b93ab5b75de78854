"""Worker processes of the tests: started, killed, paused, ended by their pid."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from streams.child import end_child, start_child
from tests.waiting import until_true

_WEB_VIEW = re.compile(r"web view at http://([^/]+)/")
_HEADRACE = Path(sys.executable).with_name("headrace")


class WorkerProcess:
    """One `headrace worker` with a data folder of its own, started again as often as wanted."""

    def __init__(
        self, folder: Path, bootstrap: str, application_id: str, **settings: object
    ) -> None:
        self.folder = folder
        self.log = folder / "worker.log"
        self.state = folder / "state" / application_id
        """The folder of its tasks' stores."""
        self._process: subprocess.Popen[bytes] | None = None
        self._begun_at = 0
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))},
            "KAFKA_BROKERS": bootstrap,
            "HEADRACE_APP_ID": application_id,
            "HEADRACE_DATA_DIR": str(folder / "state"),
            **{name.upper(): str(value) for name, value in settings.items()},
        }
        folder.mkdir(parents=True, exist_ok=True)

    def start(
        self,
        *options: str,
        verbose: bool = False,
        largest_file_bytes: int | None = None,
        **settings: object,
    ) -> None:
        """Start the process; no file that it writes may grow beyond `largest_file_bytes`."""
        self._begun_at = self.log.stat().st_size if self.log.exists() else 0
        limit = [] if largest_file_bytes is None else ["prlimit", f"--fsize={largest_file_bytes}"]
        more = {name.upper(): str(value) for name, value in settings.items()}
        with self.log.open("ab") as log:
            self._process = start_child(
                [*limit, _HEADRACE, "worker", *options, *(["--verbose"] if verbose else [])],
                env=self._environment | more,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that was started last."""
        assert self._process is not None
        return self._process

    @property
    def was_started(self) -> bool:
        """Whether it ever ran."""
        return self._process is not None

    def is_alive(self) -> bool:
        """Tell whether its process runs, or stands still."""
        return self._process is not None and self._process.poll() is None

    def stands_still(self) -> bool:
        """Tell whether its process is stopped, by SIGSTOP, and can go on."""
        status = Path(f"/proc/{self.process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        """Kill it as kill -9 does; nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP)."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def end(self, term_timeout_s: float = 15.0) -> int:
        """End it as SIGTERM does; return its status."""
        return end_child(self.process, term_timeout_s=term_timeout_s)

    def said(self) -> str:
        """Return its log, of all its lives."""
        return self.log.read_text() if self.log.exists() else ""

    def said_in_this_life(self) -> str:
        """Return what it has logged since it was started last."""
        with self.log.open("rb") as log:
            log.seek(self._begun_at)
            return log.read().decode()

    def web_address(self) -> str:
        """Return host:port of its web view; "" until it has said where that is."""
        found = _WEB_VIEW.search(self.said_in_this_life())
        return found[1] if found else ""

    async def says(self, words: str, *, times: int = 1, deadline_s: float = 90.0) -> None:
        """Return once it has logged the words so often since it was started last."""
        await until_true(
            lambda: self.said_in_this_life().count(words) >= times, deadline_s=deadline_s
        )

    async def refuses(self, *, deadline_s: float = 90.0) -> str:
        """Return the one line that it says when it ends by itself, with status 1."""
        await until_true(lambda: not self.is_alive(), deadline_s=deadline_s)
        said = self.said_in_this_life()
        assert self.process.returncode == 1, said[-4_000:]
        lines = [line for line in said.splitlines() if line.startswith("headrace:")]
        assert len(lines) == 1, said[-4_000:]
        return lines[0]

    def lose_state(self) -> None:
        """Delete all that it has on disk; it must not run."""
        shutil.rmtree(self.state, ignore_errors=True)
