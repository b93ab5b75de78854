"""Commands run as a user runs them, and what others on the machine can see of that."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

HEADRACE = Path(sys.executable).with_name("headrace")


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return an environment with these settings alone."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))}
    return kept | {name.upper(): str(value) for name, value in settings.items()}


def headrace(*arguments: str, folder: Path, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, which must come soon."""
    return subprocess.run(
        [HEADRACE, *arguments],
        env=environment({"headrace_data_dir": folder / "state", **settings}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def files_with(text: str, folder: Path) -> list[Path]:
    """Return the files below a folder that hold a text."""
    wanted = text.encode()
    return [f for f in folder.rglob("*") if f.is_file() and wanted in contents(f)]


def contents(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # a process, or a file of RocksDB's, that has just gone
        return b""


class Process(NamedTuple):
    """A process as the process list shows it."""

    parent: int
    command_line: bytes


def process_list() -> list[Process]:
    """Return every process on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        after_name = contents(folder / "stat").rpartition(b")")[2].split()
        if after_name:
            found.append(Process(int(after_name[1]), contents(folder / "cmdline")))
    return found
