"""What Kafka Streams 4.3.1 made of the scripts for joins with tables, as its own test driver gave them.

As peers.py; a value may be None: the record deletes. Caches are off, so that each change is told.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

FOLDER: Final = Path(__file__).parent
_FOREIGN_KEYS: Final = ("a", "b", "c", "nowhere", None)


class TableRecord(NamedTuple):
    """A record that goes in; its value is its number in the script, or None."""

    topic: Literal["left", "right"]
    key: str
    value: int | None
    timestamp: int


class TableCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A join of the topics left and right, of which the right one, or both, are tables.

    Or both as one table whose changes are suppressed, or as one stream that is split; see
    bench/peers/Tables.java.
    """

    name: str
    operator: Literal[
        "stream-table",
        "stream-versioned",
        "table-table",
        "foreign-key",
        "versioned-table-table",
        "versioned-foreign-key",
        "suppression",
        "split",
    ]
    kind: Literal["inner", "left", "outer"] = "inner"
    history_ms: int = 0
    grace_ms: int = 0
    limit_ms: int = 0


class TableResult(NamedTuple):
    """A result that came of input record number `record`; without left and right, a deletion."""

    record: int
    key: str
    left: int | None
    right: int | None
    timestamp: int

    @property
    def is_deletion(self) -> bool:
        return self.left is None and self.right is None


@dataclass(frozen=True)
class TableRun:
    """A case on a script: what went in, and what came out, in order."""

    case: TableCase
    script: str
    records: tuple[TableRecord, ...]
    results: tuple[TableResult, ...]

    @property
    def id(self) -> str:
        """As tests show it."""
        return f"{self.case.name}/{self.script}"

    def by_record(self) -> Iterator[list[TableResult]]:
        """Yield what came of each input record."""
        found: defaultdict[int, list[TableResult]] = defaultdict(list)
        for result in self.results:
            found[result.record].append(result)
        for number in range(len(self.records)):
            yield found[number]


def foreign_key(left: int) -> str | None:
    """Return the right key that a left value names, as bench/peers/Tables.java has it."""
    return _FOREIGN_KEYS[left % len(_FOREIGN_KEYS)]


@cache
def table_scripts() -> dict[str, tuple[TableRecord, ...]]:
    """Return the scripts by name."""
    files = sorted((FOLDER / "table_scripts").glob("*.json"))
    return {
        file.stem: tuple(TableRecord(*row) for row in json.loads(file.read_bytes()))
        for file in files
    }


@cache
def table_runs() -> tuple[TableRun, ...]:
    """Return all cases on all scripts."""
    read = [json.loads(f.read_bytes()) for f in sorted((FOLDER / "expected_tables").glob("*.json"))]
    return tuple(
        TableRun(
            msgspec.convert(one["case"], TableCase),
            script,
            table_scripts()[script],
            tuple(map(_result, rows)),
        )
        for one in read
        for script, rows in one["results"].items()
    )


def runs_of(*operators: str) -> list[TableRun]:
    """Return the runs of some operators."""
    return [run for run in table_runs() if run.case.operator in operators]


def _result(row: list[Any]) -> TableResult:
    record, key, text, timestamp = row
    sides = "null|null" if text is None else text
    left, right = (None if side == "null" else int(side) for side in sides.split("|"))
    return TableResult(record, key, left, right, timestamp)
