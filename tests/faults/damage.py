"""What can happen to a task's folder, or to its files, while nobody looks."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

Damage = Callable[[Path, Random], None]


def _one(path: Path, pattern: str, chance: Random) -> Path | None:
    """Return a file of that kind, if there is one that is not empty."""
    files = [file for file in sorted(path.glob(pattern)) if file.stat().st_size]
    return chance.choice(files) if files else None


def _flip(pattern: str) -> Damage:
    """Return what flips up to eight bytes, anywhere in a file."""

    def flip(path: Path, chance: Random) -> None:
        if (file := _one(path, pattern, chance)) is None:
            return
        content = bytearray(file.read_bytes())
        for _ in range(chance.choice([1, 1, 3, 8])):
            content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        file.write_bytes(content)

    return flip


def _flip_end(path: Path, chance: Random) -> None:
    """Flip a byte of what stands at the end of a file of rows: its footer, its index, its filter."""
    if (file := _one(path, "*.sst", chance)) is None:
        return
    content = bytearray(file.read_bytes())
    content[-chance.randrange(1, min(2_000, len(content)))] ^= 0xFF
    file.write_bytes(content)


def _cut(pattern: str) -> Damage:
    def cut(path: Path, chance: Random) -> None:
        if (file := _one(path, pattern, chance)) is not None:
            os.truncate(file, chance.randrange(file.stat().st_size))

    return cut


def _empty(pattern: str) -> Damage:
    def empty(path: Path, _: Random) -> None:
        for file in path.glob(pattern):
            os.truncate(file, 0)

    return empty


def _remove(pattern: str) -> Damage:
    def remove(path: Path, chance: Random) -> None:
        if (file := _one(path, pattern, chance)) is not None:
            file.unlink()

    return remove


def _nonsense_in_current(path: Path, chance: Random) -> None:
    (path / "CURRENT").write_bytes(chance.randbytes(20))


DAMAGE: Mapping[str, Damage] = {
    "the folder deleted": lambda path, _: shutil.rmtree(path),
    "bytes of an SST flipped": _flip("*.sst"),
    "the end of an SST flipped": _flip_end,
    "an SST cut": _cut("*.sst"),
    "an SST gone": _remove("*.sst"),
    "the WAL garbled": _flip("*.log"),
    "the WAL cut": _cut("*.log"),
    "the WAL gone": _remove("*.log"),
    "the MANIFEST cut": _cut("MANIFEST*"),
    "the MANIFEST garbled": _flip("MANIFEST*"),
    "the MANIFEST gone": _remove("MANIFEST*"),
    "CURRENT gone": _remove("CURRENT"),
    "nonsense in CURRENT": _nonsense_in_current,
    "OPTIONS garbled": _flip("OPTIONS*"),
    "all files empty": _empty("*"),
}
