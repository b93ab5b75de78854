"""Joins of a stream with a table: each event with the table's row as of its turn."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, get_args

E = TypeVar("E")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
TableJoinKind: TypeAlias = Literal["inner", "left"]
"""Whether an event whose key has no row in the table is a result too."""


def check_kind(kind: str, kinds: Any) -> None:
    """Raise ValueError for a kind of join that is none of a Literal's."""
    if kind not in get_args(kinds):
        raise ValueError(f"a join's kind is one of {', '.join(get_args(kinds))}, not {kind}")


class Rows(Protocol[R_co]):
    """A table that is read: what `joins=` gives a rule, or a dict."""

    def get(self, key: str, /) -> R_co | None:
        """Return the key's row, None where there is none."""


@dataclass(frozen=True, kw_only=True)
class StreamTableJoin(Generic[E, R]):
    """A stream, the left side, joined with a table: each event with the row that its key has at its turn.

    `key` may be any text that an event leads to, None for none. One without a row is joined with None
    where `kind` is left, and is no result where it is inner. A change of the table alone gives nothing.

    Raises ValueError for a kind that there is not.
    """

    kind: TableJoinKind
    key: Callable[[E], str | None]

    def __post_init__(self) -> None:
        check_kind(self.kind, TableJoinKind)

    def join(self, events: Iterable[E], rows: Rows[R]) -> Iterator[tuple[E, R | None]]:
        """Yield events with their rows, in turn: each is looked up when it is asked for, and not before."""
        is_inner, key_of, get = self.kind == "inner", self.key, rows.get
        for event in events:
            key = key_of(event)
            row = None if key is None else get(key)
            if row is not None or not is_inner:
                yield event, row
