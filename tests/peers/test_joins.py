"""Our joins beside Kafka Streams: the same results, or others for a reason that is computed here.

See test_windows.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from streams.operators.joins import Joined, Pending, StreamJoin
from streams.operators.timed import NEVER_MS, TimedDict
from tests.peers.cutting import a_run_each, key_of, some_cuts, stream_times
from tests.peers.make_scripts import CALM_MS
from tests.peers.peers import (
    JoinResult,
    JoinRun,
    join_runs,
)


class Numbered(NamedTuple):
    number: int
    timestamp: int
    key: str


class Match(NamedTuple):
    """Two records, or one beside None, by number; and the number of the record that it came of."""

    record: int
    left: int | None
    right: int | None

    @property
    def numbers(self) -> list[int]:
        return [number for number in (self.left, self.right) if number is not None]

    @property
    def is_pair(self) -> bool:
        return len(self.numbers) > 1


Row: TypeAlias = Pending[Numbered, Numbered]


class AtTurns(TimedDict[Row]):
    """Rows that know stream time at each record's turn, so that one side can be added behind the other."""

    def __init__(self, times_ms: Sequence[int]) -> None:
        super().__init__()
        self.times_ms = times_ms

    def turns(self, events: Iterable[Any]) -> Iterator[tuple[Any, int]]:
        for event in events:
            yield event, self.times_ms[event.number]


def our_matches(run: JoinRun, cuts: Iterable[int]) -> list[list[Match]]:
    """Return what is told behind each cut, as of the last record before it: lefts are added first."""
    case, times_ms = run.case, stream_times(run.records)
    join = StreamJoin[Numbered, Numbered](
        kind=case.kind,
        before_ms=case.before_ms,
        after_ms=case.after_ms,
        grace_ms=case.grace_ms,
        left_key=key_of,
        right_key=key_of,
    )
    rows, steps = AtTurns(times_ms), []
    events = [Numbered(n, one.timestamp, one.key) for n, one in enumerate(run.records)]
    for begin, end in pairwise([0, *cuts, len(run.records)]):
        step = events[begin:end]
        told = join.add_left([e for e in step if run.records[e.number].topic == "left"], rows)
        told += join.add_right([e for e in step if run.records[e.number].topic == "right"], rows)
        rows.now_ms = times_ms[end - 1] if end else 0
        told += rows.fire(join.fire)
        steps.append([match(end - 1, one) for one in told])
    assert sorted(one.event.number for one in rows.late) == Plain(run).late
    return steps


def match(number: int, joined: Joined[Numbered, Numbered]) -> Match:
    _, left, right = joined
    return Match(number, left and left.number, right and right.number)


class Plain:
    """What the definition of a join says of a script, each record with each."""

    def __init__(self, run: JoinRun) -> None:
        case = run.case
        self.records, self.kept_ms = run.records, case.before_ms + case.after_ms + case.grace_ms
        self.grace_ms, self.times_ms = case.grace_ms, stream_times(run.records)
        self.back_ms = {"left": case.before_ms, "right": case.after_ms}
        self.ahead_ms = {"left": case.after_ms, "right": case.before_ms}
        outer: dict[str, tuple[str, ...]]
        outer = {"inner": (), "left": ("left",), "outer": ("left", "right")}
        self.outer = [n for n, one in enumerate(run.records) if one.topic in outer[case.kind]]
        """Records that come alone if they match nothing."""
        self.late = [n for n, now_ms in enumerate(self.times_ms) if self.closed(n, now_ms)]

    def last_ms(self, number: int) -> int:
        """Return the last time that a record can match."""
        one = self.records[number]
        return one.timestamp + self.ahead_ms[one.topic]

    def closed(self, number: int, now_ms: int) -> bool:
        return self.last_ms(number) + self.grace_ms < now_ms

    def before(self, number: int) -> list[int]:
        """Return the records before one that match it, by time."""
        one = self.records[number]
        first_ms, last_ms = one.timestamp - self.back_ms[one.topic], self.last_ms(number)
        found = [
            n
            for n, other in enumerate(self.records[:number])
            if (other.topic != one.topic and other.key == one.key)
            and first_ms <= other.timestamp <= last_ms
        ]
        return sorted(found, key=lambda n: self.records[n].timestamp)

    def pair(self, number: int, other: int) -> Match:
        is_left = self.records[number].topic == "left"
        return Match(number, *((number, other) if is_left else (other, number)))

    def alone(self, number: int, told_at: int) -> Match:
        is_left = self.records[number].topic == "left"
        return Match(told_at, *((number, None) if is_left else (None, number)))

    def result(self, match: Match) -> JoinResult:
        """Return a match as Kafka Streams tells it."""
        left, right = (None if n is None else self.records[n] for n in match[1:])
        both = [one for one in (left, right) if one]
        time_ms = max(one.timestamp for one in both)
        values = left and left.value, right and right.value
        return JoinResult(match.record, both[0].key, *values, time_ms)


def our_rule(run: JoinRun) -> list[Match]:
    """Records that are on time match each other; each other one leaves once nothing on time can."""
    plain = Plain(run)
    late = set(plain.late)
    numbers = [n for n in range(len(run.records)) if n not in late]
    matches = [plain.pair(n, m) for n in numbers for m in plain.before(n) if m not in late]
    matched = {n for one in matches for n in one.numbers}
    for n in set(plain.outer) - late - matched:
        due_ms = run.records[n].timestamp + plain.kept_ms + 1
        told_at = next((i for i, now_ms in enumerate(plain.times_ms) if now_ms >= due_ms), None)
        if told_at is not None:
            matches.append(plain.alone(n, told_at))
    return sorted(matches, key=repr)


class TheirRule(Plain):
    """How Kafka Streams goes about it, told in the order that it has.

    A record is joined with all before it that the other topic's store still has, late or not. Without
    any it comes alone, where it may: at once if its window lies before stream time, without grace; else
    it waits for a scan. There is none where `gate_ms` and the window of the record at work say that
    nothing can be due.
    """

    def __init__(self, run: JoinRun) -> None:
        super().__init__(run)
        self.forgets = run.case.stores == "rocksdb"
        self.waiting: list[int] = []
        self.gate_ms = NEVER_MS
        self.matches: list[Match] = []
        for number, record in enumerate(run.records):
            now_ms = self.times_ms[number]
            if (
                record.timestamp
                == now_ms
                > self.gate_ms + self.ahead_ms[record.topic] + self.grace_ms
            ):
                self._scan(number, now_ms)
            others = self.others(number)
            self.matches += [self.pair(number, other) for other in others]
            self.waiting = [n for n in self.waiting if n not in others]
            if others or number not in self.outer:
                continue
            if self.last_ms(number) < now_ms:
                self.matches.append(self.alone(number, number))
            else:
                self.gate_ms = min(self.gate_ms, record.timestamp)
                self.waiting.append(number)

    def others(self, number: int) -> list[int]:
        """Return the records that one is joined with: those that the store has not forgotten."""
        if not self.forgets:
            return self.before(number)
        topic = self.records[number].topic
        put_ms = [one.timestamp for one in self.records[:number] if one.topic != topic]
        forgotten_ms = max(put_ms, default=0) - self.kept_ms
        return [n for n in self.before(number) if self.records[n].timestamp > forgotten_ms]

    def _scan(self, number: int, now_ms: int) -> None:
        """Tell who is due, oldest first, until each topic has one that is not."""
        self.gate_ms = NEVER_MS
        has_open: set[str] = set()
        for n in sorted(self.waiting, key=self._place):
            one = self.records[n]
            self.gate_ms = one.timestamp
            if len(has_open) == len(self.ahead_ms):
                break
            if self.closed(n, now_ms):
                self.matches.append(self.alone(n, number))
                self.waiting.remove(n)
            else:
                has_open.add(one.topic)

    def _place(self, number: int) -> tuple[int, bool, str, int]:
        one = self.records[number]
        return one.timestamp, one.topic == "left", one.key, number


def joins_of(stores: str, *kinds: str) -> list[JoinRun]:
    return [run for run in join_runs() if run.case.stores == stores and run.case.kind in kinds]


KEPT_JOINS: Final = joins_of("kept", "inner", "left", "outer")
KEPT_OUTER: Final = joins_of("kept", "left", "outer")


@cache
def record_by_record_joined(run_id: str) -> list[Match]:
    [run] = [run for run in join_runs() if run.id == run_id]
    return [one for step in our_matches(run, range(1, len(run.records))) for one in step]


def our_pairs(run: JoinRun) -> list[Match]:
    return [one for one in record_by_record_joined(run.id) if one.is_pair]


def our_lonely(run: JoinRun) -> Counter[int]:
    return Counter(lonely(record_by_record_joined(run.id)))


def lonely(matches: Iterable[Match]) -> list[int]:
    """Return which records come alone."""
    return [n for one in matches if not one.is_pair for n in one.numbers]


@a_run_each(join_runs())
def test_theirs_joins_what_its_stores_have_and_has_no_grace_for_what_comes_alone(
    run: JoinRun,
) -> None:
    there = TheirRule(run)
    assert [there.result(one) for one in there.matches] == list(run.results)


@a_run_each(KEPT_JOINS)
def test_ours_joins_what_is_on_time_and_tells_alone_what_nothing_can_match(run: JoinRun) -> None:
    assert sorted(record_by_record_joined(run.id), key=repr) == our_rule(run)


@a_run_each(KEPT_JOINS)
def test_pairs_are_theirs_but_those_with_a_record_that_was_late(run: JoinRun) -> None:
    plain = Plain(run)
    with_late = Counter(
        plain.result(plain.pair(n, other))
        for n in range(len(run.records))
        for other in plain.before(n)
        if n in plain.late or other in plain.late
    )
    there = Counter(one for one in run.results if None not in (one.left, one.right))
    assert Counter(map(plain.result, our_pairs(run))) == there - with_late
    assert with_late <= there
    if run.script == "calm" and run.case.grace_ms >= CALM_MS:
        assert not with_late


#   t |-- before + after + grace --| now     on time, and a match: their stores by default have forgotten t
@a_run_each(joins_of("rocksdb", "inner", "left", "outer"))
def test_default_stores_forget_a_partner_one_ms_before_the_last_that_is_on_time(
    run: JoinRun,
) -> None:
    there = TheirRule(run)
    missed = set(our_pairs(run)) - set(there.matches)
    for number, left, right in missed:
        [other] = {left, right} - {number}
        assert other is not None
        behind_ms = there.times_ms[number] - run.records[other].timestamp
        assert behind_ms == there.kept_ms
    more = {one for one in set(there.matches) - set(our_pairs(run)) if one.is_pair}
    assert all({one.left, one.right} & set(there.late) for one in more)


@a_run_each(KEPT_OUTER)
def test_what_comes_alone_there_and_not_here_was_late_or_is_joined_as_well(run: JoinRun) -> None:
    there = TheirRule(run)
    alone_at = {n: one.record for one in there.matches if not one.is_pair for n in lonely([one])}
    more, late = set(alone_at) - set(our_lonely(run)), set(there.late)
    first_joined: dict[int, int] = {}
    for one in our_pairs(run):
        for n in one.numbers:
            first_joined.setdefault(n, one.record)
    assert more == set(alone_at) & (late | set(first_joined))
    assert all(alone_at[n] < first_joined[n] for n in more - late)


@a_run_each(KEPT_OUTER)
def test_what_comes_alone_here_and_not_there_was_joined_there_with_a_late_record(
    run: JoinRun,
) -> None:
    there = TheirRule(run)
    more = set(our_lonely(run)) - set(lonely(there.matches))
    for n in more:
        partners = {m for one in there.matches if n in one.numbers for m in one.numbers} - {n}
        assert partners
        assert partners <= set(there.late)


def test_each_difference_of_joins_is_in_some_run() -> None:
    more = less = forgotten = 0
    for run in KEPT_OUTER:
        there, here = set(lonely(TheirRule(run).matches)), set(our_lonely(run))
        more, less = more + len(there - here), less + len(here - there)
    for run in joins_of("rocksdb", "inner", "left", "outer"):
        forgotten += len(set(our_pairs(run)) - set(TheirRule(run).matches))
    assert more
    assert less
    assert forgotten


@a_run_each(KEPT_JOINS)
def test_joins_are_the_same_wherever_the_input_is_cut(
    run: JoinRun,
) -> None:
    whole = record_by_record_joined(run.id)
    pairs = {frozenset(one.numbers) for one in our_pairs(run)}
    for cuts in some_cuts(run):
        cut = [one for step in our_matches(run, cuts) for one in step]
        assert lonely(cut) == lonely(whole)
        assert Counter(frozenset(one.numbers) for one in cut if one.is_pair) == Counter(pairs)
