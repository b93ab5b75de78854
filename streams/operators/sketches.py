"""Sketches: aggregates that answer nearly, from a state that stays small however many events there are.

`distinct` and `quantiles` keep the same state whatever the order of the events and however they were
merged: it is a function of which values there were, and how often. That of `top` hangs on the order of
events, as long as values run out of counters, but not on where it was cut.
Decision 0026 tells where they come from, and why they are our own.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from streams.operators.aggregates import Aggregate, E
from streams.operators.windows import at_least

K = TypeVar("K", int, str)

# -- how many different values ---------------------------------------------------------------------

Seen: TypeAlias = tuple[int, ...] | str
"""The hashes of the values, in order, while they are few; else a character for each register."""

_HASH_BITS: Final = 48  # JSON's readers take whole numbers up to 53 bits
_HASH_MASK: Final = 2**_HASH_BITS - 1
# A register's rank is a character from "#" on: of those up to "[" none needs an escape in JSON.
_NO_RANK: Final = ord("#")
_HASH_CHARACTERS: Final = 16  # what JSON takes for one of them
_LEAST_ERROR: Final = 0.0041  # 65,536 registers
_ERROR_OF_ONE: Final = 1.04  # the standard error of n registers is this / sqrt(n)
_ALPHA: Final = 0.7213475204444817  # 1 / (2 ln 2)


def distinct(of: Callable[[E], str | int], standard_error: float = 0.02) -> Aggregate[E, Seen, int]:
    """Return how many different values the events have; those of the same text are the same.

    Exact up to 1 / (15 * standard_error ** 2) values and above (some 160 for 0.02). Beyond, the
    relative error has a standard deviation of `standard_error` at most: two of three results are that
    near the truth, 99.7 % within three times as much. A state takes 2.2 / standard_error ** 2 bytes of
    JSON at most (4 kB for 0.02), or 66. Raises ValueError for an error below 0.0041, or of 1 and more.
    """
    log = _HyperLogLog(standard_error)

    def add(seen: Seen, event: E) -> Seen:
        return log.with_hash(seen, _hash(of(event)))

    def add_many(seen: Seen, events: Sequence[E]) -> Seen:
        return log.with_hashes(seen, list(map(_hash, map(of, events))))

    return Aggregate((), add, log.merged, log.estimate, Seen, add_many)


def _hash(value: str | int) -> int:
    """Return a value's hash: the same on every platform and in every version."""
    return xxh3_64_intdigest(str(value).encode("utf-8", "surrogatepass")) & _HASH_MASK


class _HyperLogLog:
    """2 ** precision registers; see Flajolet et al. 2007, and Ertl 2017 (arXiv 1702.01284) for the estimate.

    A hash's first bits name a register, which keeps the highest rank: the place of the first 1 among the
    other bits.
    """

    def __init__(self, standard_error: float) -> None:
        if not _LEAST_ERROR <= standard_error < 1:
            raise ValueError(f"standard_error must be {_LEAST_ERROR} to 1, not {standard_error}")
        precision = 6
        while standard_error**2 * 2**precision < _ERROR_OF_ONE**2:
            precision += 1
        self._registers = 1 << precision
        self._rest_bits = _HASH_BITS - precision
        self._rest_mask = (1 << self._rest_bits) - 1
        self._most_hashes = self._registers // _HASH_CHARACTERS
        self._none = chr(_NO_RANK) * self._registers

    def with_hash(self, seen: Seen, new: int) -> Seen:
        if isinstance(seen, str):
            place, rank = new >> self._rest_bits, chr(self._rank(new))
            return seen if seen[place] >= rank else f"{seen[:place]}{rank}{seen[place + 1 :]}"
        at = bisect_left(seen, new)
        if at < len(seen) and seen[at] == new:
            return seen
        if len(seen) == self._most_hashes:
            return self._raised(self._none, (*seen, new))
        return (*seen[:at], new, *seen[at:])

    def with_hashes(self, seen: Seen, new: Iterable[int]) -> Seen:
        if isinstance(seen, str):
            return self._raised(seen, new)
        together = {*seen, *new}
        if len(together) <= self._most_hashes:
            return tuple(sorted(together))
        return self._raised(self._none, together)

    def merged(self, a: Seen, b: Seen) -> Seen:
        if isinstance(b, tuple):
            # One is an event, as sliding windows add them.
            return self.with_hash(a, b[0]) if len(b) == 1 else self.with_hashes(a, b)
        if isinstance(a, tuple):
            return self._raised(b, a)
        return np.maximum(_ranks(a), _ranks(b)).tobytes().decode("ascii")

    def estimate(self, seen: Seen) -> int:
        if isinstance(seen, tuple):
            return len(seen)
        of_rank: list[int] = np.bincount(_ranks(seen) - _NO_RANK).tolist()
        weight = 0.0
        for registers in reversed(of_rank[1:]):
            weight = 0.5 * (weight + registers)
        weight += self._registers * _sigma(of_rank[0] / self._registers)
        estimate: float = _ALPHA * self._registers**2 / weight
        return round(estimate)

    def _raised(self, registers: str, hashes: Iterable[int]) -> str:
        ranks = bytearray(registers, "ascii")
        rest_bits, rank_of = self._rest_bits, self._rank
        for each in hashes:
            place, rank = each >> rest_bits, rank_of(each)
            if ranks[place] < rank:  # noqa: PLR1730 - max() and writing always take twice as long
                ranks[place] = rank
        return ranks.decode("ascii")

    def _rank(self, hash_: int) -> int:
        rest = hash_ & self._rest_mask
        return _NO_RANK + self._rest_bits + 1 - rest.bit_length()


def _ranks(registers: str) -> NDArray[np.uint8]:
    return np.frombuffer(registers.encode("ascii"), np.uint8)


def _sigma(empty: float) -> float:
    """Return what a share of empty registers, below 1, weighs (Ertl's equation 13)."""
    total, factor, before = empty, 1.0, -1.0
    while total != before:
        before = total
        empty *= empty
        total += empty * factor
        factor += factor
    return total


# -- counts by key, which quantiles and top share --------------------------------------------------


class Counts(msgspec.Struct, Generic[K], frozen=True, array_like=True, gc=False):
    """How often there is what, in order."""

    keys: tuple[K, ...] = ()
    counts: tuple[int, ...] = ()

    def plus(self, others: Iterable[tuple[K, int]]) -> "Counts[K]":
        """Return these with others added, each to its key."""
        keys, counts = list(self.keys), list(self.counts)
        for key, count in others:
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                counts[at] += count
            else:
                keys.insert(at, key)
                counts.insert(at, count)
        if len(keys) == len(self.keys):
            return Counts(self.keys, tuple(counts))  # the keys are shared, which saves memory
        return Counts(tuple(keys), tuple(counts))

    def pairs(self) -> Iterable[tuple[K, int]]:
        return zip(self.keys, self.counts, strict=True)


def _counts(pairs: Sequence[tuple[K, int]]) -> Counts[K]:
    return Counts(tuple([key for key, _ in pairs]), tuple([count for _, count in pairs]))


# -- quantiles -------------------------------------------------------------------------------------

Buckets: TypeAlias = tuple[int, Counts[int]]
"""How often the resolution has been halved, and how many values are in each bucket."""


class Quantiles(NamedTuple):
    """Values by rank, in the order in which their quantiles were asked for."""

    values: tuple[int, ...]
    relative_error: float
    """How far each is from the truth at most, as a share of the truth."""


def quantiles(
    of: Callable[[E], int],
    at: Sequence[float],
    relative_error: float = 0.01,
    most_buckets: int = 1024,
) -> Aggregate[E, Buckets, Quantiles | None]:
    """Return the events' values at quantiles, each from 0 to 1; None without events.

    The value at q is the least that a share of q of the values, or more, does not exceed: at 0 the
    lowest, at 0.5 the (lower) median, at 1 the highest. Results are off by `relative_error` of the
    value at most, and exact for values below 1 / relative_error.

    A state has `most_buckets` at most, of some ten bytes each. What needs more has its resolution
    halved, and its error doubled, until it fits: the result tells. At 0.01, 1,024 suffice for all that
    lies within a factor of 60,000. The error of whole numbers of 64 bits stays within 1/2.

    Raises ValueError for a quantile or an error outside of 0 to 1, an error of 0 or less than 2 ** -20
    included, and for fewer than 130 buckets.
    """
    at_least(_FEWEST_BUCKETS, most_buckets=most_buckets)
    if not 2**-20 <= relative_error < 1:
        raise ValueError(
            f"relative_error must be 2 ** -20 or more and below 1, not {relative_error}"
        )
    for each in at:
        if not 0 <= each <= 1:
            raise ValueError(f"a quantile is from 0 to 1, not {each}")
    sketch = _DDSketch(relative_error, most_buckets)
    shares = [Fraction(str(each)) for each in at]  # 0.07 is 7 of 100, not the double above

    def add(buckets: Buckets, event: E) -> Buckets:
        halved, counts = buckets
        return sketch.fitting(halved, counts.plus([(sketch.bucket(of(event), halved), 1)]))

    def add_many(buckets: Buckets, events: Sequence[E]) -> Buckets:
        halved, counts = buckets
        values = Counter(map(of, events)).items()
        new = [(sketch.bucket(value, halved), count) for value, count in values]
        return sketch.fitting(halved, counts.plus(new))

    def result(buckets: Buckets) -> Quantiles | None:
        halved, counts = buckets
        if not counts.keys:
            return None
        up_to = list(accumulate(counts.counts))
        places = [bisect_left(up_to, max(1, -(-share * up_to[-1] // 1))) for share in shares]
        values = [sketch.value(counts.keys[place], halved) for place in places]
        return Quantiles(tuple(values), sketch.relative_error(halved))

    return Aggregate((0, Counts()), add, sketch.merged, result, tuple[int, Counts[int]], add_many)


# One bucket for each of 64 bits, of either sign, 0, and one to spare: wider ones would have errors above 1/2.
_FEWEST_BUCKETS: Final = 130


class _DDSketch:
    """Buckets that are narrow near 0 and wider, in proportion, away from it (Masson et al. 2019).

    From each power of 2 to the next there are 2 ** bits of the same width: so whole numbers alone
    decide, to the same end everywhere, where a logarithm would be rounded by the platform; and two of
    them are exactly one with a bit less. A value's bucket is 0 for 0, and has its sign.
    """

    def __init__(self, relative_error: float, most: int) -> None:
        self._bits = 0
        while self.relative_error(0) > relative_error:
            self._bits += 1
        self._most = most

    def relative_error(self, halved: int) -> float:
        return min(float(2.0 ** (halved - self._bits - 1)), 1.0)

    def bucket(self, value: int, halved: int) -> int:
        if not value:
            return 0
        size, bits = abs(value), self._bits
        power = size.bit_length() - 1
        place = ((power - 1) << bits) + ((size << bits) >> power)
        bucket = (place >> halved) + 1
        return bucket if value > 0 else -bucket

    def value(self, bucket: int, halved: int) -> int:
        """Return the middle of a bucket's whole numbers; the first where it reaches over powers of 2."""
        if not bucket:
            return 0
        first = self._least((abs(bucket) - 1) << halved)
        last = self._least(abs(bucket) << halved) - 1
        middle = (first + last) // 2 if halved <= self._bits else first
        return middle if bucket > 0 else -middle

    def merged(self, a: Buckets, b: Buckets) -> Buckets:
        halved = max(a[0], b[0])
        more, fewer = (_halved(counts, halved - before) for before, counts in (a, b))
        if len(more.keys) < len(fewer.keys):
            more, fewer = fewer, more
        return self.fitting(halved, more.plus(fewer.pairs()))

    def fitting(self, halved: int, counts: Counts[int]) -> Buckets:
        while len(counts.keys) > self._most:
            halved, counts = halved + 1, _halved(counts, 1)
        return halved, counts

    def _least(self, place: int) -> int:
        """Return the least whole number at a place, or behind where there is none."""
        power, part = place >> self._bits, place & ((1 << self._bits) - 1)
        return -(-(((1 << self._bits) + part) << power) >> self._bits)


def _halved(counts: Counts[int], times: int) -> Counts[int]:
    if not times:
        return counts
    wider: dict[int, int] = {}
    up = (1 << times) - 1
    for key, count in counts.pairs():
        bucket = (key + up) >> times if key > 0 else -((up - key) >> times)
        wider[bucket] = wider.get(bucket, 0) + count
    return Counts(tuple(wider), tuple(wider.values()))


# -- the most frequent -----------------------------------------------------------------------------

Tallies: TypeAlias = tuple[int, Counts[K]]
"""How much each count may lack, and the counts."""


class Frequent(NamedTuple, Generic[K]):
    """A value, and how many events have it: `at_least`, and `at_most`."""

    value: K
    at_least: int
    at_most: int


def top(
    of: Callable[[E], K], most: int, counters: int = 256
) -> Aggregate[E, Tallies[K], tuple[Frequent[K], ...]]:
    """Return the `most` frequent values of the events, the most frequent first, with bounds.

    Exact up to `counters` different values. Beyond, `at_least` and `at_most` hold the truth and lie
    apart by no more than events / (counters + 1); each value with more events than that has a counter.
    What is told stands in the order of `at_least`, then of the values. A state has `counters` values
    at most, as long as these are.

    Events added in their order make the same state however they were cut, and so do windows of all kinds.
    Where states of several events are merged, it may be another one within the same bounds.

    Raises ValueError if `most` is below 1 or above `counters`.
    """
    at_least(1, most=most)
    at_least(most, counters=counters)

    def add(tallies: Tallies[K], event: E) -> Tallies[K]:
        lack, counts = tallies
        return _heaviest(lack, counts.plus([(of(event), 1)]), counters)

    def add_many(tallies: Tallies[K], events: Sequence[E]) -> Tallies[K]:
        lack, counts = tallies
        together = counts.plus(Counter(map(of, events)).items())
        if len(together.keys) <= counters:  # so they were at any time
            return lack, together
        found = dict(counts.pairs())
        for value in map(of, events):
            if value in found:
                found[value] += 1
            elif len(found) < counters:
                found[value] = 1
            else:
                lack += 1
                found = {each: count - 1 for each, count in found.items() if count > 1}
        return lack, _counts(sorted(found.items()))

    def merge(a: Tallies[K], b: Tallies[K]) -> Tallies[K]:
        return _heaviest(a[0] + b[0], a[1].plus(b[1].pairs()), counters)

    def result(tallies: Tallies[K]) -> tuple[Frequent[K], ...]:
        lack, counts = tallies
        found = sorted(counts.pairs(), key=lambda each: (-each[1], each[0]))
        return tuple([Frequent(value, count, count + lack) for value, count in found[:most]])

    return Aggregate(
        (0, Counts()), add, merge, result, tuple[int, Counts[Any]], add_many, merges_exactly=False
    )


def _heaviest(lack: int, counts: Counts[K], counters: int) -> Tallies[K]:
    """Return what fits: the count of the heaviest that does not is taken from all (Agarwal et al. 2013).

    That makes counts lack 1 / (counters + 1) of all events at most, as each 1 is taken from so many.
    """
    if len(counts.keys) <= counters:
        return lack, counts
    less = sorted(counts.counts)[-counters - 1]
    left = [(each, count - less) for each, count in counts.pairs() if count > less]
    return lack + less, _counts(left)
