"""What tables can be asked, and what is answered: as they travel in URLs and JSON (docs/contract.md)."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from streams.errors import HeadraceError

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000
"""The most rows of one page."""


# -- questions -------------------------------------------------------------------------------------


class Get(msgspec.Struct, frozen=True):
    """The row of a key."""

    table: str
    key: str


class Scan(msgspec.Struct, frozen=True):
    """A page of rows, in key order: those whose key begins with `prefix` and is above `after`.

    With `key` (of windowed tables only) instead the windows of that key whose start lies in
    [`from_ms`, `to_ms`); None is no bound.
    """

    table: str
    prefix: str = ""
    key: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    after: str | None = None
    limit: int = DEFAULT_LIMIT

    def begins(self) -> str:
        """Return what the wanted rows' keys begin with."""
        return self.prefix if self.key is None else f"{self.key}@"

    def wants(self, text: str) -> bool:
        """Tell whether a row is wanted whose key begins so."""
        if self.key is None:
            return True
        key, _, start = text.rpartition("@")
        return (
            key == self.key
            and (self.from_ms is None or int(start) >= self.from_ms)
            and (self.to_ms is None or int(start) < self.to_ms)
        )


class Count(msgspec.Struct, frozen=True):
    """The number of rows whose key begins with `prefix`."""

    table: str
    prefix: str = ""


Query: TypeAlias = Get | Scan | Count


# -- answers ---------------------------------------------------------------------------------------


class Row(msgspec.Struct, frozen=True):
    """A row as the changelog has it, and the task that keeps it."""

    key: str
    value: msgspec.Raw
    task: str


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one task says to a question; this is what workers tell each other."""

    task: str
    worker: str
    sources: Mapping[str, int] = {}
    """The next offset of each input, by topic: what the rows contain lies below. Rows may be newer."""
    rows: Sequence[Row] = ()
    upto: str | None = None
    """Of a page that ends early: up to this key nothing is missing. None: nothing is missing at all."""
    count: int = 0
    why: str = ""
    """Why it cannot say anything now; empty if it can."""


class Answered(msgspec.Struct, frozen=True):
    """Who answered, and from which source offsets."""

    task: str
    worker: str
    sources: Mapping[str, int]


class Found(msgspec.Struct, frozen=True):
    """The row of a key, who has it, and from which source offsets it is."""

    table: str
    key: str
    value: msgspec.Raw
    worker: str
    task: str
    sources: Mapping[str, int]


class Page(msgspec.Struct, frozen=True):
    """Rows in key order. `next`, if there is more, is the `after` of the page behind this one."""

    table: str
    rows: Sequence[Row]
    next: str | None
    answered: Sequence[Answered]


class Counted(msgspec.Struct, frozen=True):
    """How many rows there are."""

    table: str
    count: int
    answered: Sequence[Answered]


class TaskView(msgspec.Struct, frozen=True):
    """A task in the overview. `state` is one of streams/engine/reads.py, or `unknown`."""

    task: str
    state: str
    sources: Mapping[str, int] = {}


class WorkerView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A worker in the overview. `why`: why nothing is known of its tasks."""

    worker: str
    tasks: Sequence[TaskView]
    why: str = ""


class TableView(msgspec.Struct, frozen=True, omit_defaults=True):
    """A table in the overview. `kind` is `plain` or `windowed`; the windows' times in ms."""

    table: str
    kind: str
    tasks: Sequence[str]
    size_ms: int = 0
    grace_ms: int = 0


class Overview(msgspec.Struct, frozen=True):
    """All tables and all workers, as the worker that was asked sees them."""

    application: str
    worker: str
    tables: Sequence[TableView]
    workers: Sequence[WorkerView]


class QueryError(HeadraceError):
    """There is no answer. `str()` is one line that says why; `details` has the same for programs."""

    def __init__(self, line: str, **details: object) -> None:
        super().__init__(line)
        self.details = details


class BadQuestionError(QueryError):
    """The question makes no sense."""


class NoSuchTableError(QueryError):
    """There is no table of that name. The line names those that there are."""


class NoSuchRowError(QueryError):
    """No task has the key, and each has been asked: `details` tells `answered`."""


class NotNowError(QueryError):
    """A task that may have what is asked for cannot say so now: `details` tells `why`, by task."""


class UnansweredError(Exception):
    """Another worker did not answer. `str()` is what it did instead, to be read behind its address."""
