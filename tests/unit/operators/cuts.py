"""What the tests of windowed aggregates share: events, and runs of an operator over any cuts of them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple, TypeAlias

from hypothesis import strategies as st

from streams.operators.aggregates import Aggregate, fold
from streams.operators.timed import NEVER_MS, Late, RowCodec, TimedDict
from streams.operators.windowing import Aggregation, Open, Windowed, open_codec


class Event(NamedTuple):
    timestamp: int
    key: str
    n: int = 0


Ids: TypeAlias = tuple[int, ...]
Operator: TypeAlias = Aggregation[Event, Ids, Any]
Contents: TypeAlias = dict[tuple[str, int, int], Ids]
"""The events of windows, which are told by key, start and end."""


def key_of(event: Event) -> str:
    return event.key


def ids() -> Aggregate[Event, Ids, Ids]:
    """Return which events there are, by number."""
    return fold(
        (),
        lambda state, event: tuple(sorted((*state, event.n))),
        lambda a, b: tuple(sorted(a + b)),
        lambda state: state,
        tuple[int, ...],
    )


def in_order() -> Aggregate[Event, Ids, Ids]:
    """Return which events there are, as they came."""
    return fold(
        (),
        lambda state, event: (*state, event.n),
        lambda a, b: a + b,
        lambda state: state,
        tuple[int, ...],
    )


def at(*times_ms: int, key: str = "a") -> list[Event]:
    return [Event(time_ms, key, n) for n, time_ms in enumerate(times_ms)]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5) | st.sampled_from([13, 50]),  # how far the time goes on
        st.just(0) | st.integers(0, 30),  # how far behind it the event is
        st.sampled_from("aaab"),
    ),
    max_size=30,
)
EVENTS = STEPS.map(
    lambda steps: [
        Event(max(0, ahead_ms - behind_ms), key, n)
        for n, (ahead_ms, (_, behind_ms, key)) in enumerate(
            zip(accumulate(step[0] for step in steps), steps, strict=True)
        )
    ]
)
CUTS = st.lists(st.integers(0, 30), max_size=6)
GRACES = st.integers(0, 12) | st.just(1000)


class Run(NamedTuple):
    told: list[list[Windowed[Any]]]
    """By call of `add`."""
    fired: list[Windowed[Any]]
    rows: dict[str, Open[Any]]
    late: list[Late]
    now_ms: int

    def table(self) -> Contents:
        """Return the last update of each window; None ends it."""
        last = {(key, start, end): value for told in self.told for key, start, end, value in told}
        return {window: value for window, value in last.items() if value is not None}

    def final(self) -> Contents:
        """Return what closed windows were told with; none may be told twice."""
        final = {(key, start, end): value for key, start, end, value in self.fired}
        assert len(final) == len(self.fired)
        return final


class JsonRows(TimedDict[Open[Any]]):
    """Rows of which each `get` is a new one, read from JSON."""

    def __init__(self, codec: RowCodec[Any]) -> None:
        super().__init__()
        self.codec = codec

    def get(self, key: str, /) -> Open[Any] | None:  # type: ignore[override]
        row = super().get(key)
        return row and self.codec.decode(self.codec.encode(row))


def run(
    operator: Aggregation[Event, Any, Any], events: Sequence[Event], cuts: Iterable[int] = ()
) -> Run:
    """Add events up to each cut and fire then."""
    rows = JsonRows(open_codec(operator._aggregate))
    told, fired = [], []
    for begin, end in pairwise([0, *sorted(cuts), len(events)]):
        told.append(operator.add(events[begin:end], rows))
        fired += rows.fire(operator.fire)
    return Run(told, fired, dict(rows), rows.late, rows.now_ms)


def assert_cuts_change_nothing(
    operator: Operator, events: Sequence[Event], cuts: Iterable[int]
) -> Run:
    """Assert that a run does not hang on the cuts; return the one in a single step."""
    whole = run(operator, events)
    for cut in [run(operator, events, cuts), run(operator, events, range(len(events)))]:
        assert cut[1:] == whole[1:]
        assert cut.table() == whole.table()
        for told in cut.told:
            assert len({window[:3] for window in told}) == len(told)
    for key, row in whole.rows.items():
        assert_due_is_exact(operator.fire, key, row)
    return whole


def assert_due_is_exact(
    fire: Callable[[str, Any, int], Any], key: str, row: Open[Any] | None
) -> None:
    """Assert that each `due_ms` is the first time at which there is something to do, until all is done."""
    steps, results = 0, []
    last = row
    while last is not None:
        assert last.windows
        assert list(last.windows) == sorted(
            last.windows, key=lambda one: (one.start_ms, one.last_ms)
        )
        assert fire(key, last, last.due_ms - 1) == (last, [])
        left, closed = fire(key, last, last.due_ms)
        assert closed or left != last
        assert left is None or left.due_ms > last.due_ms
        last = left
        steps += 1
        results += closed
    if row is not None:
        at_once = fire(key, row, NEVER_MS)
        assert at_once[0] is None
        assert sorted(at_once[1]) == sorted(results)
