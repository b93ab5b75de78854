"""Writes tests/peers/expected: what Kafka Streams makes of the scripts there, case by case.

`python -m bench.expected`: fetches the jars (once, checked), compiles bench/peers/WindowsAndJoins.java
and Tables.java, and runs them. Written twice, the files are the same; tests read them and need no Java.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

from bench import java
from bench.systems.system import ROOT

_PROGRAMS: Final = Path(__file__).parent / "peers"
_PEERS: Final = ROOT / "tests" / "peers"
_TIMEOUT_S: Final = 600

Case: TypeAlias = dict[str, str | int]
_WINDOWS: Final[dict[str, Case]] = {
    "tumbling-10": {"kind": "tumbling", "size_ms": 10, "advance_ms": 10},
    "hopping-10-by-4": {"kind": "hopping", "size_ms": 10, "advance_ms": 4},
    "hopping-10-by-5": {"kind": "hopping", "size_ms": 10, "advance_ms": 5},
    "sliding-10": {"kind": "sliding", "size_ms": 10},
    "session-5": {"kind": "session", "gap_ms": 5},
}
# "kept": nothing is ever forgotten, so results hang on windows alone. "rocksdb": the stores that
# Kafka Streams has by default, which forget by rules of their own.
_STORES: Final = ("kept", "rocksdb")


def cases() -> Iterator[Case]:
    """Yield every case, with a name that is its file's."""
    for stores, (name, windows) in product(_STORES, _WINDOWS.items()):
        for grace_ms, emit in product((0, 7), ("updates", "final")):
            full = f"{name}-grace-{grace_ms}-{emit}-{stores}"
            yield {"name": full, **windows, "grace_ms": grace_ms, "emit": emit, "stores": stores}
    for stores, kind, (before_ms, after_ms), grace_ms in product(
        _STORES, ("inner", "left", "outer"), ((5, 5), (3, 9)), (0, 4)
    ):
        yield {
            "name": f"{kind}-{before_ms}-{after_ms}-grace-{grace_ms}-{stores}",
            "kind": kind,
            "before_ms": before_ms,
            "after_ms": after_ms,
            "grace_ms": grace_ms,
            "stores": stores,
        }


def table_cases() -> Iterator[Case]:
    """Yield every case of joins with tables, with a name that is its file's."""
    kinds = {
        "stream-table": ("inner", "left"),
        "table-table": ("inner", "left", "outer"),
        "foreign-key": ("inner", "left"),
    }
    for operator, of_operator in kinds.items():
        for kind in of_operator:
            yield {"name": f"{operator}-{kind}", "operator": operator, "kind": kind}
    for kind, (history_ms, grace_ms) in product(
        ("inner", "left"), ((8, 0), (8, 8), (40, 0), (40, 12))
    ):
        yield {
            "name": f"stream-versioned-{kind}-history-{history_ms}-grace-{grace_ms}",
            "operator": "stream-versioned",
            "kind": kind,
            "history_ms": history_ms,
            "grace_ms": grace_ms,
        }
    for history_ms, operator in product((8, 40), ("table-table", "foreign-key")):
        for kind in kinds[operator]:
            yield {
                "name": f"versioned-{operator}-{kind}-history-{history_ms}",
                "operator": f"versioned-{operator}",
                "kind": kind,
                "history_ms": history_ms,
            }
    for limit_ms in (3, 8, 30):
        yield {
            "name": f"suppression-{limit_ms}",
            "operator": "suppression",
            "limit_ms": limit_ms,
        }
    yield {"name": "split", "operator": "split"}


def _answers(
    source: Path, scripts_at: Path, asked: list[Case]
) -> dict[str, dict[str, list[list[Any]]]]:
    files = sorted(scripts_at.glob("*.json"))
    scripts = {file.stem: json.loads(file.read_bytes()) for file in files}
    with tempfile.TemporaryDirectory() as temporary:
        ask, answer = Path(temporary) / "asked.json", Path(temporary) / "answer.json"
        ask.write_text(json.dumps({"scripts": scripts, "cases": asked}), encoding="utf-8")
        program = java.program(source, java.DRIVER_MANIFEST)
        done = subprocess.run(
            [*program, str(ask), str(answer)],
            capture_output=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
        if done.returncode:
            sys.exit(f"{source.name} failed: {done.stderr.decode(errors='replace')[-2000:]}")
        found: dict[str, dict[str, list[list[Any]]]] = json.loads(answer.read_bytes())
        return found


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def text(case: Case, results: Mapping[str, list[list[Any]]]) -> str:
    """Return a case's file: the case, and a line for every result, by script."""
    by_script = [
        f'"{name}":[\n' + ",\n".join(map(_compact, rows)) + "\n]" for name, rows in results.items()
    ]
    return f'{{"case":{_compact(case)},\n"results":{{\n' + ",\n".join(by_script) + "\n}}\n"


def _write(program: str, scripts: str, folder: str, asked: list[Case]) -> None:
    answers = _answers(_PROGRAMS / program, _PEERS / scripts, asked)
    expected = _PEERS / folder
    expected.mkdir(exist_ok=True)
    for old in expected.glob("*.json"):
        old.unlink()
    for case in asked:
        name = str(case["name"])
        (expected / f"{name}.json").write_text(text(case, answers[name]), encoding="utf-8")
    sys.stdout.write(f"wrote {len(asked)} cases to {expected.relative_to(ROOT)}\n")


def main() -> None:
    """Write all files anew, and nothing else into their folders."""
    _write("WindowsAndJoins.java", "scripts", "expected", list(cases()))
    _write("Tables.java", "table_scripts", "expected_tables", list(table_cases()))


if __name__ == "__main__":
    main()
