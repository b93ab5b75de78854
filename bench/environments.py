"""Peers' own Python environments, made by pip from locks with hashes, in build/bench."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.systems.system import BUILD, CannotMeasureError

_LOCKS = Path(__file__).parent / "peers"
_TIMEOUT_S = 600


@dataclass(frozen=True)
class Environment:
    """The environment of one peer: `name` is its lock's, `package` the one that its version is of."""

    name: str
    package: str

    @property
    def lock(self) -> Path:
        """The requirements, each with its hashes, as `make lock` writes them."""
        return _LOCKS / f"{self.name}.lock"

    @property
    def folder(self) -> Path:
        """Where it is; another lock or another Python is another folder."""
        text = self.lock.read_bytes() + sys.version.encode()
        return BUILD / f"{self.name}-{hashlib.sha256(text).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def make(self) -> str:
        """Make it if it is not there; return the package's version. Raises CannotMeasureError."""
        complete = self.folder / "complete"
        if not complete.exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._run(sys.executable, "-m", "venv", str(self.folder))
            pip = (str(self.python), "-m", "pip", "install", "--quiet")
            self._run(*pip, "--disable-pip-version-check", "--require-hashes", "-r", str(self.lock))
            complete.touch()
        pins = self.lock.read_text(encoding="utf-8").splitlines()
        pin = next(line for line in pins if line.startswith(f"{self.package}=="))
        return pin.split("==")[1].split()[0]

    def _run(self, *command: str) -> None:
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as error:
            raise CannotMeasureError(
                f"{self.package} could not be installed within {_TIMEOUT_S} s"
            ) from error
        except subprocess.CalledProcessError as error:
            lines = error.stderr.decode(errors="replace").strip().splitlines() or [
                "no reason given"
            ]
            raise CannotMeasureError(
                f"{self.package} cannot be installed here: {lines[-1]}"
            ) from error
