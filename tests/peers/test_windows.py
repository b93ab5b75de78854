"""Our operators beside Kafka Streams: the same results, or others for a reason that is computed here.

Where the two differ on purpose, both sides are written down a second time, as plainly as can be, and
held against what they say: so nothing that differs is left without a reason (docs/event-time.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from streams.operators.aggregates import count, highest, several, total
from streams.operators.panes import PaneAggregation, PaneDict
from streams.operators.sessions import SessionAggregation, SessionWindows
from streams.operators.sliding import SlidingAggregation, SlidingWindows
from streams.operators.timed import TimedDict
from streams.operators.windowing import (
    Aggregation,
    HoppingWindows,
    Open,
    WindowAggregation,
    Windowed,
)
from streams.operators.windows import TumblingWindows
from tests.peers.cutting import a_run_each, key_of, some_cuts
from tests.peers.make_scripts import CALM_MS
from tests.peers.peers import (
    ScriptRecord,
    Total,
    WindowCase,
    WindowResult,
    WindowRun,
    window_runs,
)

# -- windows ---------------------------------------------------------------------------------------

_AGGREGATE: Final = several(
    records=count(), sum=total(lambda it: it.value), latest=highest(lambda it: it.timestamp)
)
Steps: TypeAlias = list[list[WindowResult]]


def operator(case: WindowCase) -> Aggregation[ScriptRecord, Any, Any]:
    grace_ms = case.grace_ms
    if case.kind == "sliding":
        sliding = SlidingWindows(case.size_ms, grace_ms)
        return SlidingAggregation(sliding, _AGGREGATE, key=key_of, emits=case.emit)
    if case.kind == "session":
        sessions = SessionWindows(case.gap_ms, grace_ms)
        return SessionAggregation(sessions, _AGGREGATE, key=key_of, emits=case.emit)
    return WindowAggregation(windows_of(case), _AGGREGATE, key=key_of, emits=case.emit)


def windows_of(case: WindowCase) -> TumblingWindows | HoppingWindows:
    if case.kind == "tumbling":
        return TumblingWindows(case.size_ms, case.grace_ms)
    return HoppingWindows(case.size_ms, case.advance_ms, case.grace_ms)


def ours(run: WindowRun, cuts: Iterable[int]) -> Steps:
    """Return what is told behind each cut, as of the last record before it."""
    windows, rows = operator(run.case), TimedDict[Open[Any]]()
    steps: Steps = []
    for begin, end in pairwise([0, *cuts, len(run.records)]):
        told = windows.add(run.records[begin:end], rows) + rows.fire(windows.fire)
        steps.append([result(end - 1, one) for one in told])
    return steps


def ours_in_columns(run: WindowRun, cuts: Iterable[int]) -> Steps:
    """Return the same of windows that are kept in columns."""
    windows = PaneAggregation[ScriptRecord, Any](windows_of(run.case), _AGGREGATE, key=key_of)
    rows = PaneDict(windows)
    steps: Steps = []
    for begin, end in pairwise([0, *cuts, len(run.records)]):
        told: list[Windowed[Any]] = []
        for portion in rows.steps(run.records[begin:end]):
            windows.add(portion, rows)
            told += rows.fire()
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


IN_COLUMNS: Final = [
    run
    for run in runs_of("final", "kept", "tumbling", "hopping")
    if run.case.size_ms % run.case.advance_ms == 0
]


@a_run_each(IN_COLUMNS)
def test_windows_in_columns_are_final_with_the_record_and_in_the_order_of_theirs(
    run: WindowRun,
) -> None:
    assert ours_in_columns(run, range(1, len(run.records))) == theirs(run)


@a_run_each(IN_COLUMNS)
def test_finals_of_windows_in_columns_are_theirs_wherever_the_input_is_cut(run: WindowRun) -> None:
    expected = [one[1:] for one in run.results]
    for cuts in some_cuts(run):
        assert [one[1:] for one in flat(ours_in_columns(run, cuts))] == expected


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
