"""Our operators beside Kafka Streams: the same results, or others for a reason that is computed here.

Where the two differ on purpose, both sides are written down a second time, as plainly as can be, and
held against what they say: so nothing that differs is left without a reason (docs/event-time.md).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import pytest

from streams.operators.aggregates import count, highest, several, total
from streams.operators.joins import Joined, Pending, StreamJoin
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.timed import NEVER_MS, TimedDict
from streams.operators.windowing import (
    Aggregation,
    HoppingWindows,
    Open,
    WindowAggregation,
    Windowed,
)
from streams.operators.windows import TumblingWindows
from tests.peers.make_scripts import CALM_MS
from tests.peers.peers import (
    JoinCase,
    JoinResult,
    JoinRun,
    Run,
    ScriptRecord,
    Total,
    WindowCase,
    WindowResult,
    WindowRun,
    join_runs,
    window_runs,
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


# -- windows ---------------------------------------------------------------------------------------

_AGGREGATE: Final = several(
    records=count(), sum=total(lambda it: it.value), latest=highest(lambda it: it.timestamp)
)
Steps: TypeAlias = list[list[WindowResult]]


def key_of(record: Any) -> str:
    key: str = record.key
    return key


def operator(case: WindowCase) -> Aggregation[ScriptRecord, Any, Any]:
    size_ms, grace_ms = case.size_ms, case.grace_ms
    if case.kind == "sliding":
        sliding = SlidingWindows(size_ms, grace_ms)
        return SlidingAggregation(sliding, _AGGREGATE, key=key_of, emits=case.emit)
    if case.kind == "session":
        sessions = SessionWindows(case.gap_ms, grace_ms)
        return SessionAggregation(sessions, _AGGREGATE, key=key_of, emits=case.emit)
    windows = (
        TumblingWindows(size_ms, grace_ms)
        if case.kind == "tumbling"
        else HoppingWindows(size_ms, case.advance_ms, grace_ms)
    )
    return WindowAggregation(windows, _AGGREGATE, key=key_of, emits=case.emit)


def ours(run: WindowRun, cuts: Iterable[int]) -> Steps:
    """Return what is told behind each cut, as of the last record before it."""
    windows, rows = operator(run.case), TimedDict[Open[Any]]()
    steps: Steps = []
    for begin, end in pairwise([0, *cuts, len(run.records)]):
        told = windows.add(run.records[begin:end], rows) + rows.fire(windows.fire)
        steps.append([result(end - 1, one) for one in told])
    return steps


def record_by_record(run: WindowRun) -> Steps:
    return ours(run, range(1, len(run.records)))


def result(number: int, told: Windowed[Any]) -> WindowResult:
    key, start_ms, end_ms, value = told
    if value is None:
        return WindowResult(number, key, start_ms, end_ms, None, 0)
    content = Total(value["records"], value["sum"])
    return WindowResult(number, key, start_ms, end_ms, content, value["latest"])


def theirs(run: WindowRun) -> Steps:
    """Return what Kafka Streams tells of each record; what ends a session has no time here."""
    return [
        [one if one.total else one._replace(timestamp=0) for one in results]
        for _, results in run.steps()
    ]


def flat(steps: Steps) -> list[WindowResult]:
    return [one for step in steps for one in step]


def once_by_start(step: Iterable[WindowResult]) -> list[WindowResult]:
    return sorted(set(step), key=lambda one: one.start_ms)


def runs_of(emit: str, stores: str, *kinds: str) -> list[WindowRun]:
    return [
        run
        for run in window_runs()
        if (run.case.emit, run.case.stores) == (emit, stores) and run.case.kind in kinds
    ]


FIXED: Final = ("tumbling", "hopping", "sliding")
"""Kinds whose windows do not merge."""


@a_run_each(runs_of("updates", "kept", "tumbling", "hopping"))
def test_each_record_has_the_updates_that_it_has_there(run: WindowRun) -> None:
    assert record_by_record(run) == theirs(run)


@a_run_each(runs_of("updates", "kept", "sliding"))
def test_each_record_has_the_updates_of_sliding_windows_that_it_has_there(run: WindowRun) -> None:
    assert record_by_record(run) == [once_by_start(step) for step in theirs(run)]


#   q .. p |-- difference --| t   what begins behind p is what ends at t: told for both, where p is seen
#   |---------|                   as the last of a window that begins behind q, within reach of t
@a_run_each(runs_of("updates", "kept", "sliding"))
def test_theirs_tells_a_sliding_window_twice_where_two_reasons_make_the_same(
    run: WindowRun,
) -> None:
    difference_ms = run.case.size_ms
    for number, (record, results) in enumerate(run.steps()):
        start_ms = record.timestamp - difference_ms
        before = {one.timestamp for one in run.records[:number] if one.key == record.key}
        p_ms = start_ms - 1
        is_there = before & set(range(start_ms, record.timestamp + 1))
        is_seen = p_ms in before and before & set(range(p_ms - difference_ms, p_ms))
        twice = [(start_ms, record.timestamp)] if results and is_seen and not is_there else []
        windows = Counter((one.start_ms, one.end_ms) for one in results)
        assert [window for window, times in windows.items() if times > 1] == twice


@a_run_each(runs_of("final", "kept", *FIXED))
def test_windows_are_final_with_the_record_and_in_the_order_of_theirs(run: WindowRun) -> None:
    assert record_by_record(run) == theirs(run)


@a_run_each(runs_of("final", "kept", *FIXED))
def test_finals_of_windows_are_theirs_wherever_the_input_is_cut(run: WindowRun) -> None:
    expected = [one[1:] for one in run.results]
    for cuts in some_cuts(run):
        assert [one[1:] for one in flat(ours(run, cuts))] == expected


@a_run_each(runs_of("updates", "kept", *FIXED))
def test_updates_of_windows_are_the_last_of_theirs_wherever_the_input_is_cut(
    run: WindowRun,
) -> None:
    assert_updates_are_the_last(run, theirs(run))


def assert_updates_are_the_last(run: WindowRun, by_record: Steps) -> None:
    """Assert that each step of any cut tells the last of what its records would tell, and that alone."""
    for cuts in some_cuts(run):
        table: dict[tuple[Any, ...], WindowResult] = {}
        for step, (begin, end) in zip(
            ours(run, cuts), pairwise([0, *cuts, len(run.records)]), strict=True
        ):
            last = {one[1:4]: one._replace(record=end - 1) for one in flat(by_record[begin:end])}
            known = [one for window, one in last.items() if one.total or window in table]
            assert Counter(step) == Counter(known)
            table.update(last)
            table = {window: one for window, one in table.items() if one.total}


# What stores forget: with those that Kafka Streams has by default, of windows that close behind a jump,
# those are lost whose start is too far below the latest start that has been written.
@a_run_each(runs_of("final", "rocksdb", *FIXED))
def test_theirs_loses_finals_that_default_stores_forget_before_they_close(run: WindowRun) -> None:
    case = run.case
    sizes = 2 if case.kind == "sliding" else 1
    retention_ms = sizes * case.size_ms + case.grace_ms
    [updates] = [
        other
        for other in runs_of("updates", "rocksdb", case.kind)
        if (other.case.name, other.script) == (case.name.replace("final", "updates"), run.script)
    ]
    latest_ms = list(accumulate(_latest_starts_ms(updates), max))
    mine = flat(record_by_record(run))
    kept = [one for one in mine if one.start_ms >= latest_ms[one.record] - retention_ms]
    assert kept == list(run.results)
    assert len(kept) < len(mine)


def _latest_starts_ms(run: WindowRun) -> Iterator[int]:
    for _, results in run.steps():
        yield max((one.start_ms for one in results), default=0)


@a_run_each(runs_of("updates", "rocksdb", *FIXED))
def test_default_stores_make_no_difference_to_updates_of_windows(run: WindowRun) -> None:
    by_record = record_by_record(run)
    assert by_record == [once_by_start(step) for step in theirs(run)]


# -- sessions --------------------------------------------------------------------------------------


class Session(NamedTuple):
    key: str
    start_ms: int
    last_ms: int


class Sessions:
    """Sessions as the definition has them. What differs is which ones a record can be merged with.

    - Ours: those that have not closed at its turn.
    - Theirs, `kept`: all.
    - Theirs, `rocksdb`: of those that would close just now, as of the record before, none.

    And theirs tells the end of a session also where it goes on between the same two times.
    """

    def __init__(self, run: WindowRun, whose: str) -> None:
        self.gap_ms, self.lives_ms = run.case.gap_ms, run.case.gap_ms + run.case.grace_ms
        self.whose = whose
        self.open: dict[Session, tuple[Total, int]] = {}
        self.before_ms = self.now_ms = 0
        self.parts_at: list[int] = []
        """Records that are near a session which others than those of ours can be merged with."""
        self.updates: Steps = []
        self.finals: Steps = []
        for number, record in enumerate(run.records):
            self.before_ms, self.now_ms = self.now_ms, max(self.now_ms, record.timestamp)
            self.updates.append(list(self._add(number, record)))
            self.finals.append(list(self._close(number)))

    def _can_be_merged(self, one: Session, whose: str) -> bool:
        is_open = one.last_ms >= self.now_ms - self.lives_ms
        is_kept = one.last_ms > self.before_ms - self.lives_ms
        return {"ours": is_open, "kept": True, "rocksdb": is_kept}[whose]

    def _add(self, number: int, record: ScriptRecord) -> Iterator[WindowResult]:
        time_ms = record.timestamp
        low_ms, high_ms = time_ms - self.gap_ms, time_ms + self.gap_ms
        near = [
            one
            for one in sorted(self.open, key=lambda one: one.last_ms)
            if one.key == record.key and one.last_ms >= low_ms and one.start_ms <= high_ms
        ]
        merged = [one for one in near if self._can_be_merged(one, self.whose)]
        start_ms = min([time_ms, *(one.start_ms for one in merged)])
        last_ms = max([time_ms, *(one.last_ms for one in merged)])
        is_late = last_ms < self.now_ms - self.lives_ms
        merged_by_ours = [one for one in near if self._can_be_merged(one, "ours")]
        if merged != merged_by_ours and (merged_by_ours or not is_late):
            self.parts_at.append(number)
        if is_late:
            return
        session = Session(record.key, start_ms, last_ms)
        parts = [self.open.pop(one) for one in merged]
        for one in merged:
            if one != session if self.whose == "ours" else start_ms < last_ms:
                yield WindowResult(number, *one, None, 0)
        records = 1 + sum(part.records for part, _ in parts)
        content = Total(records, record.value + sum(part.sum for part, _ in parts))
        self.open[session] = content, max([time_ms, *(latest for _, latest in parts)])
        yield WindowResult(number, *session, *self.open[session])

    def _close(self, number: int) -> Iterator[WindowResult]:
        from_ms, to_ms = self.before_ms - self.lives_ms, self.now_ms - self.lives_ms
        closed = [one for one in self.open if from_ms <= one.last_ms < to_ms]
        by_start = self.whose == "rocksdb"  # of those that end together; by key elsewhere
        closed.sort(key=lambda one: (one.last_ms, one.start_ms if by_start else 0, one))
        for one in closed:
            yield WindowResult(number, *one, *self.open[one])


def sessions(run: WindowRun, whose: str) -> Steps:
    plain = Sessions(run, whose)
    return plain.finals if run.case.emit == "final" else plain.updates


SESSION_RUNS: Final = [run for run in window_runs() if run.case.kind == "session"]
KEPT_SESSIONS: Final = [run for run in SESSION_RUNS if run.case.stores == "kept"]


@a_run_each(SESSION_RUNS)
def test_theirs_merges_sessions_that_its_stores_have_whether_closed_or_not(run: WindowRun) -> None:
    assert sessions(run, run.case.stores) == theirs(run)


@a_run_each(KEPT_SESSIONS)
def test_ours_merges_no_session_that_has_closed_and_else_does_the_same(run: WindowRun) -> None:
    assert record_by_record(run) == sessions(run, "ours")


def in_one_order(step: Iterable[WindowResult]) -> list[WindowResult]:
    """Order what a record tells; leave out ends of sessions that it tells anew with the same times."""
    values = {one[:4] for one in step if one.total}
    told = [one for one in step if one.total or one[:4] not in values]
    return sorted(told, key=lambda one: (one.total is not None, one[:4]))


#   a |-- session --|  gap, grace   | now      closed: for the next record at a, ours begins another
@a_run_each(SESSION_RUNS)
def test_sessions_part_with_the_first_record_near_one_that_only_one_side_can_merge(
    run: WindowRun,
) -> None:
    parts_at = Sessions(run, run.case.stores).parts_at
    mine, others = ([*map(in_one_order, side)] for side in (record_by_record(run), theirs(run)))
    first = parts_at[0] if parts_at else len(run.records)
    assert mine[:first] == others[:first]
    if run.case.emit == "updates":
        assert mine[first : first + 1] != others[first : first + 1] or not parts_at
    if run.script == "calm" and run.case.grace_ms >= CALM_MS:
        assert not parts_at


def test_sessions_part_in_some_runs_and_in_others_not() -> None:
    parting = {bool(Sessions(run, run.case.stores).parts_at) for run in SESSION_RUNS}
    assert parting == {True, False}


@a_run_each([run for run in KEPT_SESSIONS if run.case.emit == "final"])
def test_finals_of_sessions_are_the_same_wherever_the_input_is_cut(run: WindowRun) -> None:
    expected = [one[1:] for one in flat(sessions(run, "ours"))]
    for cuts in some_cuts(run):
        assert [one[1:] for one in flat(ours(run, cuts))] == expected


@a_run_each([run for run in KEPT_SESSIONS if run.case.emit == "updates"])
def test_updates_of_sessions_are_the_last_wherever_the_input_is_cut(run: WindowRun) -> None:
    assert_updates_are_the_last(run, sessions(run, "ours"))


# -- joins -----------------------------------------------------------------------------------------


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
