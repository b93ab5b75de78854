"""Writes tests/peers/scripts and table_scripts: out-of-order records of two topics, by seed.

`python -m tests.peers.make_scripts`, and then `python -m bench.expected` for what becomes of them.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Final, TypeAlias

SCRIPTS: Final = Path(__file__).with_name("scripts")
TABLE_SCRIPTS: Final = Path(__file__).with_name("table_scripts")
SEEDS: Final = (1, 2, 3)
CALM_MS: Final = 4
"""In the script `calm` no record is further behind stream time: with as much grace none is late."""
Line: TypeAlias = tuple[str, str, int | None, int]
"""Topic, key, value (None, in scripts for tables alone, deletes) and event time, ms."""

_EARLY: Final = 16
_RECORDS: Final = 100
_FAR_MS: Final = 1000
_DELETED: Final = 0.2
_MORE_KEYS: Final = 0.3


def scripts() -> dict[str, list[Line]]:
    """Return every script by its name, which is its file's."""
    calm = script(len(SEEDS) + 1, CALM_MS, CALM_MS)
    return {"calm": calm, **{f"seed-{seed}": script(seed) for seed in SEEDS}}


def script(seed: int, early_ms: int = 13, back_ms: int = 24) -> list[Line]:
    """Return a seed's records: some near time 0, a long mixed part, and two that close everything.

    The first are within early_ms, and none of the others is further behind than back_ms.
    """
    rng = random.Random(seed)
    lines = [_line(rng, rng.randint(0, early_ms)) for _ in range(_EARLY)]
    now_ms = max(line[3] for line in lines)
    while len(lines) < _RECORDS:
        what = rng.choices(("on", "back", "tie", "again", "jump"), (40, 34, 8, 8, 10))[0]
        if what == "on":
            lines.append(_line(rng, now_ms + rng.randint(1, 4)))
        elif what == "back":
            lines.append(_line(rng, max(0, now_ms - rng.randint(1, back_ms))))
        elif what == "tie":
            lines.append(_line(rng, now_ms))
        elif what == "again":
            lines.append(
                rng.choice([one for one in lines[-3:] if now_ms - one[3] <= back_ms] or lines[-1:])
            )
        else:
            lines.append(_line(rng, now_ms + rng.randint(8, 45)))
        now_ms = max(now_ms, lines[-1][3])
    return [*lines, ("left", "z", 1, now_ms + _FAR_MS), ("right", "z", 1, now_ms + 2 * _FAR_MS)]


def table_scripts() -> dict[str, list[Line]]:
    """Return every script for joins with tables by its name, which is its file's."""
    return {f"seed-{seed}": table_script(seed) for seed in SEEDS}


def table_script(seed: int) -> list[Line]:
    """Return a seed's records for tables: each value is another, some delete, the left has more keys."""
    rng = random.Random(f"tables {seed}")
    lines: list[Line] = []
    for number, (topic, key, _, time_ms) in enumerate(script(seed)):
        is_more = topic == "left" and rng.random() < _MORE_KEYS
        value = None if rng.random() < _DELETED else number
        lines.append((topic, rng.choice("de") if is_more else key, value, time_ms))
    return lines


def _line(rng: random.Random, time_ms: int) -> Line:
    topic = rng.choice(("left", "right"))
    key = rng.choices("abc", (5, 3, 2))[0]
    return topic, key, rng.randint(1, 9), time_ms


def text(lines: list[Line]) -> str:
    """Return a script's JSON, a line a record."""
    rows = ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines)
    return f"[\n{rows}\n]\n"


def main() -> None:
    """Write all scripts."""
    for folder, made in ((SCRIPTS, scripts()), (TABLE_SCRIPTS, table_scripts())):
        folder.mkdir(exist_ok=True)
        for name, lines in made.items():
            (folder / f"{name}.json").write_text(text(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
