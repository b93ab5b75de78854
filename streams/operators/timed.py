"""Rows with something to be done at a time: how operators keep what is open until event time closes it.

An operator keeps one row a key with all that is open for it, immutable: a change is a new row. The
row's `due_ms` is the stream time from which on something of it has closed, exactly: a function of the
row alone (law 1). Whoever keeps the rows calls the operator's `fire` for those that are due, each at
its due time, behind the last event of a step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, get_origin

import msgspec

from streams.operators.windows import T

NEVER_MS: Final = 2**62
"""Of a row that has nothing to close."""


class TimedRow(Protocol):
    """A row that knows when something of it is due."""

    @property
    def due_ms(self) -> int:
        """Stream time, ms, from which on `fire` has something to do."""


V = TypeVar("V", bound=TimedRow)
R = TypeVar("R")
Fired: TypeAlias = tuple[V | None, list[R]]
"""What is left of a row, None for nothing; and what has closed."""
Fire: TypeAlias = Callable[[str, V, int], Fired[V, R]]
"""Closes what is due of a key's row at a stream time: its `due_ms`, which is later afterwards."""


class RowCodec(NamedTuple, Generic[V]):
    """Rows as JSON, and back without loss; `due_ms` reads of a row's JSON nothing but that."""

    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]
    due_ms: Callable[[bytes], int]


class _Due(msgspec.Struct, frozen=True, gc=False):
    due_ms: int


class _DueFirst(msgspec.Struct, frozen=True, gc=False, array_like=True):
    due_ms: int


def row_codec(row_type: Any) -> RowCodec[Any]:
    """Return how rows of a msgspec type are written and read. One that is array-like has `due_ms` first."""
    is_array = (get_origin(row_type) or row_type).__struct_config__.array_like
    due: type[_Due | _DueFirst] = _DueFirst if is_array else _Due
    decode_due = msgspec.json.Decoder(due).decode
    return RowCodec(
        msgspec.json.Encoder().encode,
        msgspec.json.Decoder(row_type).decode,
        lambda value: decode_due(value).due_ms,
    )


class Late(NamedTuple):
    """An event that came too late for a window [start_ms, end_ms), and by how much, ms (0 or more)."""

    event: Any
    start_ms: int
    end_ms: int
    by_ms: int


class TimedRows(Protocol[V]):
    """What an operator sees of its rows."""

    def get(self, key: str, /) -> V | None:
        """Return the key's row, None where there is none."""

    def __setitem__(self, key: str, row: V, /) -> None: ...

    def __delitem__(self, key: str, /) -> None: ...

    def update(self, rows: Mapping[str, V], /) -> None:
        """Set many rows."""

    def turns(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event with stream time at its turn, ms: its own time is included."""

    def is_late(self, late: Late) -> None:
        """Take note of an event that was not used: it is counted, and goes to the late records."""


class TimedDict(dict[str, V], Generic[V]):
    """Such rows in memory, for tests of operators and rules."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.late: list[Late] = []

    def turns(self, events: Iterable[T]) -> Iterator[tuple[T, int]]:
        """Yield each event with stream time at its turn, ms: its own time is included."""
        for event in events:
            self.now_ms = max(self.now_ms, event.timestamp)
            yield event, self.now_ms

    def is_late(self, late: Late) -> None:
        """Take note of an event that was not used."""
        self.late.append(late)

    def fire(self, fire: Fire[V, R]) -> list[R]:
        """Close all that is due now; return what has closed, as it came due, by key where together.

        Each row is fired at its own due time, not at the present one: so the order is the same
        however the input was cut.
        """
        due = [(row.due_ms, key) for key, row in self.items() if row.due_ms <= self.now_ms]
        heapify(due)
        closed: list[R] = []
        while due:
            due_ms, key = heappop(due)
            row, results = fire(key, self[key], due_ms)
            closed += results
            if row is None:
                del self[key]
                continue
            self[key] = row
            if row.due_ms <= self.now_ms:
                heappush(due, (row.due_ms, key))
        return closed
