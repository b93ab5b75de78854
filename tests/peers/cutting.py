"""What the comparisons share: scripts, where they are cut, and a test for each of their runs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Final, TypeVar

import pytest

from tests.peers.peers import (
    JoinCase,
    JoinResult,
    Run,
    ScriptRecord,
    WindowCase,
    WindowResult,
)

C = TypeVar("C", WindowCase, JoinCase)
R = TypeVar("R", WindowResult, JoinResult)
CUTS_OF_EACH: Final = 5


def stream_times(records: Iterable[ScriptRecord]) -> list[int]:
    return list(accumulate((record.timestamp for record in records), max))


def some_cuts(run: Run[C, R]) -> Iterator[list[int]]:
    """Yield where to cut a script, the same each time."""
    rng = random.Random(run.id)
    numbers = range(len(run.records))
    for _ in range(CUTS_OF_EACH):
        yield sorted(rng.sample(numbers, rng.randint(0, 30)))


def a_run_each(runs: Sequence[Run[Any, Any]]) -> pytest.MarkDecorator:
    assert runs
    return pytest.mark.parametrize("run", runs, ids=[run.id for run in runs])


def key_of(record: Any) -> str:
    key: str = record.key
    return key
