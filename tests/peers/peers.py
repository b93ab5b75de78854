"""What Kafka Streams 4.3.1 made of the scripts: cases and results, as its own test driver gave them.

`python -m bench.expected` writes the files; results of an input record come before the next one goes in.
Each case is there with two kinds of stores, since in Kafka Streams results hang on what they forget:

- `kept`: they forget nothing. A session that has closed, final result and all, still merges with a
  record that is not late itself; a join finds partners however late a record is, whatever the grace.
- `rocksdb`: what Kafka Streams has by default. They forget by the highest time that was put into each,
  retention being size and grace, so a final result is lost when stream time goes on by more before the
  window closes: of most scripts more than half are. In memory it is worse: tumbling windows without
  grace, and sessions, have no final results at all.

Updates of tumbling, hopping and sliding windows are the same with both. Of joins:

- A record without a partner so far whose window ends before stream time comes alone at once, grace or
  not; partners that it finds later come as well.
- Others come alone with a record that moves stream time, once their window and grace are over, but
  maybe not with the first such: whether any is due is read off one that may not be the oldest waiting.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import msgspec

FOLDER: Final = Path(__file__).parent
Stores: TypeAlias = Literal["kept", "rocksdb"]


class ScriptRecord(NamedTuple):
    """A record that goes in. Windows take those of both topics alike."""

    topic: Literal["left", "right"]
    key: str
    value: int
    timestamp: int


class WindowCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Windows of one kind, aggregated by key: how many records, and the sum of their values."""

    name: str
    kind: Literal["tumbling", "hopping", "sliding", "session"]
    grace_ms: int
    emit: Literal["updates", "final"]
    stores: Stores
    size_ms: int = 0
    """Of sliding windows the time difference; 0 for sessions."""
    advance_ms: int = 0
    """0 for sliding windows and sessions."""
    gap_ms: int = 0
    """0 for all but sessions."""

    @property
    def closes_after_ms(self) -> int:
        """How far behind a window's `end_ms` stream time is when it has closed."""
        is_end_inside = self.kind in {"sliding", "session"}
        return self.grace_ms + self.gap_ms + is_end_inside


class JoinCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two topics joined: a right record from `before_ms` before to `after_ms` after a left one."""

    name: str
    kind: Literal["inner", "left", "outer"]
    before_ms: int
    after_ms: int
    grace_ms: int
    stores: Stores


class Total(NamedTuple):
    """What windows aggregate."""

    records: int
    sum: int


class WindowResult(NamedTuple):
    """A result that came of input record number `record`, counted from 0."""

    record: int
    key: str
    start_ms: int
    end_ms: int
    """Inside the window for sliding windows and sessions, outside for the others."""
    total: Total | None
    """None: the session is no more, it was merged into a longer one."""
    timestamp: int


class JoinResult(NamedTuple):
    """A result that came of input record number `record`, counted from 0."""

    record: int
    key: str
    left: int | None
    right: int | None
    timestamp: int


C = TypeVar("C", WindowCase, JoinCase)
R = TypeVar("R", WindowResult, JoinResult)


@dataclass(frozen=True)
class Run(Generic[C, R]):
    """A case on a script: what went in, and what came out, in order."""

    case: C
    script: str
    records: tuple[ScriptRecord, ...]
    results: tuple[R, ...]

    @property
    def id(self) -> str:
        """As tests show it."""
        return f"{self.case.name}/{self.script}"

    def steps(self) -> Iterator[tuple[ScriptRecord, tuple[R, ...]]]:
        """Yield each input record with the results that came of it."""
        by_record: defaultdict[int, list[R]] = defaultdict(list)
        for result in self.results:
            by_record[result.record].append(result)
        for number, record in enumerate(self.records):
            yield record, tuple(by_record[number])


WindowRun: TypeAlias = Run[WindowCase, WindowResult]
JoinRun: TypeAlias = Run[JoinCase, JoinResult]


@cache
def scripts() -> dict[str, tuple[ScriptRecord, ...]]:
    """Return the scripts by name."""
    files = sorted((FOLDER / "scripts").glob("*.json"))
    return {
        file.stem: tuple(ScriptRecord(*row) for row in json.loads(file.read_bytes()))
        for file in files
    }


@cache
def window_runs() -> tuple[WindowRun, ...]:
    """Return all cases of windows on all scripts."""
    return tuple(
        Run(msgspec.convert(case, WindowCase), script, scripts()[script], tuple(map(_window, rows)))
        for case, script, rows in _all_rows()
        if "emit" in case
    )


@cache
def join_runs() -> tuple[JoinRun, ...]:
    """Return all cases of joins on all scripts."""
    return tuple(
        Run(msgspec.convert(case, JoinCase), script, scripts()[script], tuple(map(_join, rows)))
        for case, script, rows in _all_rows()
        if "emit" not in case
    )


@cache
def _all_rows() -> tuple[tuple[dict[str, Any], str, list[list[Any]]], ...]:
    files = sorted((FOLDER / "expected").glob("*.json"))
    read = [json.loads(file.read_bytes()) for file in files]
    return tuple((one["case"], name, rows) for one in read for name, rows in one["results"].items())


def _window(row: list[Any]) -> WindowResult:
    record, key, start_ms, end_ms, text, timestamp = row
    total = None if text is None else Total(*map(int, text.split(",")))
    return WindowResult(record, key, start_ms, end_ms, total, timestamp)


def _join(row: list[Any]) -> JoinResult:
    record, key, text, timestamp = row
    left, right = (None if side == "null" else int(side) for side in text.split("|"))
    return JoinResult(record, key, left, right, timestamp)
