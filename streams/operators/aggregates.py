"""Aggregates: how the events of a window become one value.

A state is an immutable value that JSON can hold. Sums are of whole numbers, money in cents: exact at any
size. So no result hangs on the order of events, except where it is about order: `collect`, and `first`
and `last` among events of the same time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import truediv
from types import GenericAlias
from typing import Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from streams.operators.windows import T

E = TypeVar("E")
E_contra = TypeVar("E_contra", contravariant=True)
S = TypeVar("S")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V")

_Dated: TypeAlias = tuple[int, V] | None
"""An event's time, and what was picked from it."""


class Number(NamedTuple):
    """A number that is kept of events: the sum of their values, or the lowest or highest of them."""

    name: str
    of: Callable[[Any], int]
    keeps: Literal["sum", "lowest", "highest"]


class Numbers(NamedTuple):
    """An aggregate as numbers, which can be kept in columns, beside that of its events.

    `results` takes how many events there are, one at least, and the numbers: a list of each, for many at
    once; it returns what `result` does of each.
    """

    numbers: tuple[Number, ...]
    results: Callable[..., Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[E_contra, S, R_co]):
    """How events become one value.

    `merge` takes the states of two runs of events, of which the left one came first. It is associative,
    and `initial` changes nothing in it. Where it is so but within bounds, `merges_exactly` says it; with
    the state of one event it is always the same as `add`.
    """

    initial: S
    add: Callable[[S, E_contra], S]
    merge: Callable[[S, S], S]
    result: Callable[[S], R_co]
    state_type: Any
    """What msgspec reads a state as."""
    add_many: Callable[[S, Sequence[E_contra]], S] | None = None
    """What `add` makes of a state and one event after the other, where that can be had for less."""
    numbers: Numbers | None = None
    """The same as numbers, where it is that."""
    merges_exactly: bool = True
    """Whether a state merged with that of several events is what `add` makes of them, one after the other."""

    def add_all(self, state: S, events: Sequence[E_contra]) -> S:
        """Return a state with one event or more added, in their order."""
        if len(events) == 1:
            return self.add(state, events[0])
        if self.add_many is None:
            return reduce(self.add, events, state)
        return self.add_many(state, events)


def fold(
    initial: S,
    add: Callable[[S, E], S],
    merge: Callable[[S, S], S],
    result: Callable[[S], R],
    state_type: Any,
) -> Aggregate[E, S, R]:
    """Return an aggregate of your own; see Aggregate for what it has to fulfil."""
    return Aggregate(initial, add, merge, result, state_type)


def count() -> Aggregate[Any, int, int]:
    """Return how many events there are."""
    return Aggregate(
        0,
        lambda n, _: n + 1,
        lambda a, b: a + b,
        _as_it_is,
        int,
        add_many=lambda n, events: n + len(events),
        numbers=Numbers((), _as_it_is),
    )


def total(of: Callable[[E], int]) -> Aggregate[E, int, int]:
    """Return the sum of the events' values."""
    return Aggregate(
        0,
        lambda n, event: n + of(event),
        lambda a, b: a + b,
        _as_it_is,
        int,
        add_many=lambda n, events: n + sum(map(of, events)),
        numbers=Numbers((Number("total", of, "sum"),), lambda _, totals: totals),
    )


def lowest(of: Callable[[E], int]) -> Aggregate[E, int | None, int | None]:
    """Return the lowest of the events' values, None without events."""
    return _chosen(of, min, "lowest")


def highest(of: Callable[[E], int]) -> Aggregate[E, int | None, int | None]:
    """Return the highest of the events' values, None without events."""
    return _chosen(of, max, "highest")


def mean(of: Callable[[E], int]) -> Aggregate[E, tuple[int, int], float | None]:
    """Return the mean of the events' values, rounded once; None without events."""

    def add(state: tuple[int, int], event: E) -> tuple[int, int]:
        n, sum_ = state
        return n + 1, sum_ + of(event)

    def merge(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        return a[0] + b[0], a[1] + b[1]

    def result(state: tuple[int, int]) -> float | None:
        n, sum_ = state
        return sum_ / n if n else None

    numbers = Numbers(
        (Number("total", of, "sum"),), lambda ns, totals: list(map(truediv, totals, ns))
    )
    return Aggregate((0, 0), add, merge, result, tuple[int, int], numbers=numbers)


def variance(of: Callable[[E], int]) -> Aggregate[E, tuple[int, int, int], float | None]:
    """Return the population variance of the events' values, rounded once; None without events."""

    def add(state: tuple[int, int, int], event: E) -> tuple[int, int, int]:
        n, sum_, squares = state
        value = of(event)
        return n + 1, sum_ + value, squares + value * value

    def merge(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
        return a[0] + b[0], a[1] + b[1], a[2] + b[2]

    def result(state: tuple[int, int, int]) -> float | None:
        n, sum_, squares = state
        return (n * squares - sum_ * sum_) / (n * n) if n else None

    def square(event: E) -> int:
        value = of(event)
        return value * value

    numbers = Numbers(
        (Number("total", of, "sum"), Number("squares", square, "sum")),
        lambda *columns: list(map(result, zip(*columns, strict=True))),
    )
    return Aggregate((0, 0, 0), add, merge, result, tuple[int, int, int], numbers=numbers)


def first(of: Callable[[T], V], value_type: Any = Any) -> Aggregate[T, _Dated[V], V | None]:
    """Return the value of the event with the lowest time: of several, the one that came first."""

    def add(state: _Dated[V], event: T) -> _Dated[V]:
        if state is None or event.timestamp < state[0]:
            return event.timestamp, of(event)
        return state

    def merge(a: _Dated[V], b: _Dated[V]) -> _Dated[V]:
        return b if a is None or (b is not None and b[0] < a[0]) else a

    return Aggregate(None, add, merge, _value, tuple[int, value_type] | None)


def last(of: Callable[[T], V], value_type: Any = Any) -> Aggregate[T, _Dated[V], V | None]:
    """Return the value of the event with the highest time: of several, the one that came last."""

    def add(state: _Dated[V], event: T) -> _Dated[V]:
        if state is None or event.timestamp >= state[0]:
            return event.timestamp, of(event)
        return state

    def merge(a: _Dated[V], b: _Dated[V]) -> _Dated[V]:
        return a if b is None or (a is not None and b[0] < a[0]) else b

    return Aggregate(None, add, merge, _value, tuple[int, value_type] | None)


def collect(
    of: Callable[[E], V], most: int, value_type: Any = Any
) -> Aggregate[E, tuple[V, ...], tuple[V, ...]]:
    """Return the values of the first `most` events, as they came. Raises ValueError if `most` < 1."""
    if most < 1:
        raise ValueError(f"most must be 1 or more, not {most}")

    def add(state: tuple[V, ...], event: E) -> tuple[V, ...]:
        return (*state, of(event)) if len(state) < most else state

    def merge(a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return (a + b)[:most]

    return Aggregate((), add, merge, _as_it_is, tuple[value_type, ...])


def ranked(
    of: Callable[[E], V], most: int, value_type: Any = Any
) -> Aggregate[E, tuple[V, ...], tuple[V, ...]]:
    """Return the `most` lowest of the events' values, in their order. Raises ValueError if `most` < 1.

    `(-cents, name)` ranks the highest first, and by name where they are equal.
    """
    if most < 1:
        raise ValueError(f"most must be 1 or more, not {most}")
    order: Callable[[Iterable[Any]], list[Any]] = sorted

    def add(state: tuple[V, ...], event: E) -> tuple[V, ...]:
        return add_many(state, (event,))

    def add_many(state: tuple[V, ...], events: Sequence[E]) -> tuple[V, ...]:
        return tuple(order([*state, *map(of, events)])[:most])

    def merge(a: tuple[V, ...], b: tuple[V, ...]) -> tuple[V, ...]:
        return tuple(order(a + b)[:most])

    return Aggregate((), add, merge, _as_it_is, tuple[value_type, ...], add_many)


def several(**aggregates: Aggregate[E, Any, Any]) -> Aggregate[E, tuple[Any, ...], dict[str, Any]]:
    """Return the results of several aggregates by name, in one pass over the events."""
    parts = aggregates.values()
    add = _adds([part.add for part in parts])
    merge = _merges([part.merge for part in parts])
    results = [(name, part.result) for name, part in aggregates.items()]

    def result(states: tuple[Any, ...]) -> dict[str, Any]:
        return {name: of(state) for (name, of), state in zip(results, states, strict=True)}

    adds_all = [part.add_all for part in parts]

    def add_many(states: tuple[Any, ...], events: Sequence[E]) -> tuple[Any, ...]:
        return tuple(
            [add_all(state, events) for add_all, state in zip(adds_all, states, strict=True)]
        )

    state_type = GenericAlias(tuple, tuple(part.state_type for part in parts))
    initial = tuple(part.initial for part in parts)
    merges_exactly = all(part.merges_exactly for part in parts)
    numbers = _numbers_of_several({name: part.numbers for name, part in aggregates.items()})
    return Aggregate(
        initial, add, merge, result, state_type, add_many, numbers, merges_exactly=merges_exactly
    )


def _numbers_of_several(parts: Mapping[str, Numbers | None]) -> Numbers | None:
    """Return several aggregates as numbers, named as they are, if each of them is that."""
    named: dict[str, Numbers] = {name: part for name, part in parts.items() if part is not None}
    if len(named) < len(parts) or not named:
        return None

    as_dicts = _dicts(list(named))

    def results(counts: Sequence[int], *columns: Sequence[int]) -> list[dict[str, Any]]:
        left = iter(columns)
        return as_dicts(
            [part.results(counts, *islice(left, len(part.numbers))) for part in named.values()]
        )

    numbers = [
        number._replace(name=name if len(part.numbers) == 1 else f"{name}_{number.name}")
        for name, part in named.items()
        for number in part.numbers
    ]
    return Numbers(tuple(numbers), results)


def _adds(
    adds: Sequence[Callable[[Any, Any], Any]],
) -> Callable[[tuple[Any, ...], Any], tuple[Any, ...]]:
    """Return what adds an event to a state of each."""
    match adds:  # spelled out: a loop over two or three takes half as long again
        case [first_, second]:
            return lambda states, event: (first_(states[0], event), second(states[1], event))
        case [first_, second, third]:
            return lambda states, event: (
                first_(states[0], event),
                second(states[1], event),
                third(states[2], event),
            )
    return lambda states, event: tuple(
        [add(state, event) for add, state in zip(adds, states, strict=True)]
    )


def _merges(
    merges: Sequence[Callable[[Any, Any], Any]],
) -> Callable[[tuple[Any, ...], tuple[Any, ...]], tuple[Any, ...]]:
    """Return what merges two states of each."""
    match merges:  # as above
        case [first_, second]:
            return lambda a, b: (first_(a[0], b[0]), second(a[1], b[1]))
        case [first_, second, third]:
            return lambda a, b: (
                first_(a[0], b[0]),
                second(a[1], b[1]),
                third(a[2], b[2]),
            )
    return lambda a, b: tuple([merge(*states) for merge, *states in zip(merges, a, b, strict=True)])


def _dicts(names: Sequence[str]) -> Callable[[Sequence[Sequence[Any]]], list[dict[str, Any]]]:
    """Return what makes a dict for each row of these columns."""
    match names:  # as above
        case [one, other]:
            return lambda columns: [{one: a, other: b} for a, b in zip(*columns, strict=True)]
        case [one, other, third]:
            return lambda columns: [
                {one: a, other: b, third: c} for a, b, c in zip(*columns, strict=True)
            ]
    return lambda columns: [
        dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)
    ]


def _as_it_is(state: S) -> S:
    return state


def _value(state: _Dated[V]) -> V | None:
    return None if state is None else state[1]


def _chosen(
    of: Callable[[E], int], choose: Callable[..., int], keeps: Literal["lowest", "highest"]
) -> Aggregate[E, int | None, int | None]:
    def add(state: int | None, event: E) -> int | None:
        return of(event) if state is None else choose(state, of(event))

    def merge(a: int | None, b: int | None) -> int | None:
        if a is None or b is None:
            return b if a is None else a
        return choose(a, b)

    def add_many(state: int | None, events: Sequence[E]) -> int:
        chosen = choose(*map(of, events))
        return chosen if state is None else choose(state, chosen)

    numbers = Numbers((Number(keeps, of, keeps),), lambda _, values: values)
    return Aggregate(None, add, merge, _as_it_is, int | None, add_many, numbers)
