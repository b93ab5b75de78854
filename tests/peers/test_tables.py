"""Our joins with tables beside Kafka Streams: the same results, or others for a reason that is computed.

See test_windows.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import pytest

from bench import expected
from streams.operators.foreign_key import ForeignKeyJoin
from streams.operators.joins import Joined
from streams.operators.stream_table import StreamTableJoin
from streams.operators.suppression import Suppression
from streams.operators.table_table import TableTableJoin
from streams.operators.timed import TimedDict
from streams.operators.versioned import VersionedJoin, VersionedTable
from streams.operators.versioned_tables import VersionedTableJoin
from tests.peers import make_scripts
from tests.peers.table_peers import (
    FOLDER,
    TableRecord,
    TableResult,
    TableRun,
    foreign_key,
    runs_of,
    table_runs,
    table_scripts,
)


def a_run_each(runs: Sequence[TableRun]) -> pytest.MarkDecorator:
    assert runs
    return pytest.mark.parametrize("run", runs, ids=[run.id for run in runs])


def key_of(record: Any) -> str:
    key: str = record.key
    return key


def value_of(record: Any) -> int | None:
    value: int | None = record.value
    return value


class TestFiles:
    def test_scripts_are_what_their_maker_makes(self) -> None:
        written = {f.stem: f.read_text("utf-8") for f in FOLDER.glob("table_scripts/*.json")}
        made = make_scripts.table_scripts()
        assert written == {name: make_scripts.text(lines) for name, lines in made.items()}

    @pytest.mark.parametrize("name", table_scripts())
    def test_each_has_what_is_hard(self, name: str) -> None:
        records = table_scripts()[name]
        latest_ms, behind = 0, 0
        for record in records:
            latest_ms = max(latest_ms, record.timestamp)
            behind += record.timestamp < latest_ms
        assert len(records) >= 60
        assert behind >= 20
        assert sum(record.value is None for record in records) >= 10
        assert max(Counter(record.timestamp for record in records).values()) > 2
        named = {foreign_key(r.value) for r in records if r.topic == "left" and r.value is not None}
        assert named == {"a", "b", "c", "nowhere", None}

    def test_there_is_a_file_for_each_case_with_results_of_every_script(self) -> None:
        names = {str(case["name"]) for case in expected.table_cases()}
        assert {file.stem for file in FOLDER.glob("expected_tables/*.json")} == names
        assert {run.id for run in table_runs() if run.results} == {
            f"{name}/{script}" for name in names for script in table_scripts()
        }


# -- a stream and a table --------------------------------------------------------------------------


@a_run_each(runs_of("stream-table"))
def test_events_are_joined_with_what_the_table_has_as_they_come(run: TableRun) -> None:
    assert run.case.kind != "outer"
    join = StreamTableJoin[TableRecord, int](kind=run.case.kind, key=key_of)
    table: dict[str, int] = {}
    results = []
    for number, record in enumerate(run.records):
        if record.topic == "right":
            table.pop(record.key, None)
            if record.value is not None:
                table[record.key] = record.value
        elif record.value is not None:  # no event is without a value
            results += [
                TableResult(number, event.key, event.value, row, event.timestamp)
                for event, row in join.join([record], table)
            ]
    assert results == list(run.results)


# -- a stream and a versioned table ----------------------------------------------------------------


class Found(NamedTuple):
    """A left record, by number, and what it was joined with; told by a record."""

    record: int
    left: int
    right: int | None


class Waits(NamedTuple):
    """A left record that waits: by time, key, number; and stream time as it came."""

    time_ms: int
    key: str
    number: int
    came_ms: int


class Rule:
    """A versioned join told record by record, each put and each look-up over all that was put.

    There, each side has a stream time of its own: puts are late by that of the table, and its history
    reaches behind it, at whatever time an event is looked up; events wait by that of the stream.
    `joint`: both have one, and an event that was due is looked up as of then, as here.
    """

    def __init__(self, run: TableRun, *, joint: bool) -> None:
        self.records, self.is_inner, self.joint = run.records, run.case.kind == "inner", joint
        self.history_ms, self.grace_ms = run.case.history_ms, run.case.grace_ms
        self.now_ms = {"left": 0, "right": 0}
        self.puts: list[TableRecord] = []
        self.waiting: list[Waits] = []
        self.found: list[Found] = []
        self.late: list[TableRecord] = []
        for number, record in enumerate(run.records):
            if record.topic == "left" and record.value is None:
                continue
            for side in self.now_ms if joint else (record.topic,):
                self.now_ms[side] = max(self.now_ms[side], record.timestamp)
            if record.topic == "left" and record.value is not None:
                waits = Waits(record.timestamp, record.key, number, self.now_ms["left"])
                self.waiting = sorted([*self.waiting, waits])
            if joint or record.topic == "left":
                self._tell(number)
            if record.topic == "right":
                self._put(record)

    def _put(self, record: TableRecord) -> None:
        if record.timestamp < self.now_ms["right"] - self.history_ms:
            self.late.append(record)
        else:
            self.puts.append(record)

    def _tell(self, number: int) -> None:
        due_ms = self.now_ms["left"] - self.grace_ms
        for one in [one for one in self.waiting if one.time_ms <= due_ms]:
            right, left = self._as_of(one), self.records[one.number].value
            assert left is not None
            if right is not None or not self.is_inner:
                self.found.append(Found(number, left, right))
        self.waiting = [one for one in self.waiting if one.time_ms > due_ms]

    def _as_of(self, one: Waits) -> int | None:
        mine = [put for put in self.puts if put.key == one.key]
        now_ms = self.now_ms["right"]
        if self.joint:
            now_ms = max(one.came_ms, one.time_ms + self.grace_ms)
        is_forgotten = one.time_ms < now_ms - self.history_ms
        if is_forgotten and any(put.timestamp > one.time_ms for put in mine):
            return None
        held = [put for put in mine if put.timestamp <= one.time_ms]
        latest_ms = max((put.timestamp for put in held), default=None)
        return next((put.value for put in reversed(held) if put.timestamp == latest_ms), None)


VERSIONED: Final = runs_of("stream-versioned")


def ours(run: TableRun) -> list[Found]:
    assert run.case.kind != "outer"
    join = VersionedJoin[TableRecord, int](
        kind=run.case.kind,
        history_ms=run.case.history_ms,
        grace_ms=run.case.grace_ms,
        left_key=key_of,
        right_key=key_of,
        right_value=value_of,
    )
    rows: TimedDict[Any] = TimedDict()
    found: list[Found] = []
    for number, record in enumerate(run.records):
        joined: list[Joined[TableRecord, int]] = []
        if record.topic == "right":
            join.add_right([record], rows)
        elif record.value is not None:
            joined += join.add_left([record], rows)
        joined += rows.fire(join.fire)
        for _, left, right in joined:
            assert left is not None
            assert left.value is not None
            found.append(Found(number, left.value, right))
    assert [late.event for late in rows.late] == Rule(run, joint=True).late
    return found


def theirs(run: TableRun) -> list[Found]:
    return [Found(one.record, one.left or 0, one.right) for one in run.results]


@a_run_each(VERSIONED)
def test_theirs_has_a_stream_time_for_each_side(run: TableRun) -> None:
    assert Rule(run, joint=False).found == theirs(run)


@a_run_each(VERSIONED)
def test_ours_has_one_stream_time_and_looks_up_as_of_when_an_event_was_due(run: TableRun) -> None:
    # Of those that come together here, one that waited comes by time and key, as there.
    assert sorted(ours(run)) == sorted(Rule(run, joint=True).found)


@a_run_each([run for run in VERSIONED if run.case.history_ms == 40 and not run.case.grace_ms])
def test_without_grace_and_with_history_enough_there_is_no_difference(run: TableRun) -> None:
    assert ours(run) == theirs(run)


#   l 10 ---- due 18            r 63      history 8: theirs finds what is in it at 63, and l has nothing
@a_run_each([run for run in VERSIONED if run.case.grace_ms and run.case.kind == "left"])
def test_theirs_finds_nothing_for_an_event_over_which_stream_time_has_jumped(run: TableRun) -> None:
    there = {one.left: one.right for one in theirs(run)}
    here = {one.left: one.right for one in ours(run)}
    late_here = {put.key for put in Rule(run, joint=True).late}
    for left in (left for left in here if left in there and there[left] is None and here[left]):
        at = next(one.record for one in theirs(run) if one.left == left)
        newest_ms = max((r.timestamp for r in run.records[:at] if r.topic == "right"), default=0)
        event = run.records[left]
        assert newest_ms - event.timestamp > run.case.history_ms or event.key in late_here


def test_each_difference_of_versioned_joins_is_in_some_run() -> None:
    lost = late = earlier = 0
    for run in VERSIONED:
        there = {one.left: one for one in theirs(run)}
        for one in ours(run):
            if one.left in there:
                lost += there[one.left].right is None and one.right is not None
                earlier += one.record < there[one.left].record
        late += Rule(run, joint=True).late != Rule(run, joint=False).late
    assert lost
    assert late
    assert earlier


# -- two tables ------------------------------------------------------------------------------------


def without_idle(results: Iterable[TableResult]) -> list[TableResult]:
    """Leave out deletions of what is not there."""
    there: set[str] = set()
    kept = []
    for one in results:
        if not one.is_deletion or one.key in there:
            kept.append(one)
        (there.discard if one.is_deletion else there.add)(one.key)
    return kept


def changes_of(run: TableRun, join: Any, rows: dict[str, Any]) -> list[TableResult]:
    return changes_by(join, rows, enumerate(run.records))


def joined_tables(run: TableRun) -> list[TableResult]:
    join = TableTableJoin[int, int](
        kind=run.case.kind,
        left_key=key_of,
        left_value=value_of,
        right_key=key_of,
        right_value=value_of,
    )
    return changes_of(run, join, {})


def joined_by_foreign_key(run: TableRun) -> list[TableResult]:
    assert run.case.kind != "outer"
    join = ForeignKeyJoin[int, int](
        kind=run.case.kind,
        left_key=key_of,
        left_value=value_of,
        foreign_key=foreign_key,
        right_key=key_of,
        right_value=value_of,
    )
    return changes_of(run, join, {})


TABLES: Final = runs_of("table-table")
FOREIGN: Final = runs_of("foreign-key")


@a_run_each(TABLES)
def test_changes_of_joined_tables_are_theirs_but_deletions_of_nothing(run: TableRun) -> None:
    assert joined_tables(run) == without_idle(run.results)


#   one record      null, 7|3     theirs: the row it left, and the row it has now
#                   7|3           ours
def last_of_each(results: Iterable[TableResult]) -> list[TableResult]:
    """Leave the last that a record told of a key, by record and key."""
    last = {(one.record, one.key): one for one in results}
    return [last[at] for at in sorted(last)]


def without_deletions_of_nothing(
    run: TableRun, used: Sequence[tuple[int, TableRecord]] = ()
) -> list[TableResult]:
    """Leave out what came of right records that delete what is not there; `used`: if not all count."""
    there: set[str] = set()
    idle: set[int] = set()
    for number, record in used or enumerate(run.records):
        if record.topic == "right":
            if record.value is None and record.key not in there:
                idle.add(number)
            (there.discard if record.value is None else there.add)(record.key)
    return [one for one in run.results if one.record not in idle]


def untimed(results: Iterable[TableResult]) -> list[TableResult]:
    return [one._replace(timestamp=0) for one in results]


@a_run_each(FOREIGN)
def test_changes_of_tables_joined_by_foreign_key_are_theirs_but_for_deletions_of_nothing(
    run: TableRun,
) -> None:
    there = without_idle(last_of_each(without_deletions_of_nothing(run)))
    assert untimed(last_of_each(joined_by_foreign_key(run))) == untimed(there)


def test_theirs_tells_rows_anew_where_a_right_row_is_deleted_that_is_not_there() -> None:
    assert any(without_deletions_of_nothing(run) != list(run.results) for run in FOREIGN)


#   b at 120 names a       a at 98      told there at 98, here at 120: the row is as old as its younger side
@a_run_each(FOREIGN)
def test_a_change_on_the_right_has_its_own_time_there_and_here_the_later_of_the_two(
    run: TableRun,
) -> None:
    there = {(one.record, one.key): one.timestamp for one in last_of_each(run.results)}
    lefts: dict[str, int] = {}
    for one in joined_by_foreign_key(run):
        record = run.records[one.record]
        lefts |= {
            r.key: r.timestamp
            for r in run.records[: one.record + 1]
            if r.topic == "left" and r.value is not None
        }
        if record.topic == "right":
            assert there[one.record, one.key] == record.timestamp
            assert one.timestamp == max(record.timestamp, lefts[one.key])
        elif not one.is_deletion:
            assert one.timestamp == there[one.record, one.key]


@a_run_each(TABLES + FOREIGN)
def test_no_deletion_of_nothing_is_told(run: TableRun) -> None:
    ours = joined_tables(run) if run in TABLES else joined_by_foreign_key(run)
    assert ours == without_idle(ours)
    assert len({(one.record, one.key) for one in ours}) == len(ours)


@pytest.mark.parametrize("operator", ["table-table", "foreign-key"])
def test_theirs_tells_deletions_of_what_was_not_there(operator: str) -> None:
    assert any(without_idle(run.results) != list(run.results) for run in runs_of(operator))


# -- two versioned tables --------------------------------------------------------------------------

VERSIONED_TABLES: Final = runs_of("versioned-table-table")
VERSIONED_FOREIGN: Final = runs_of("versioned-foreign-key")


def latest(run: TableRun, *, there: bool, joint: bool = False) -> list[tuple[int, TableRecord]]:
    """Return the records that are, at their turn, the latest of their side and key, and not late.

    `there`: a deletion at the very time of a key's only version leaves no trace, so that whatever is
    older is the latest again. `joint`: both sides have one stream time.
    """
    now_ms = {"left": 0, "right": 0}
    versions: dict[tuple[str, str], dict[int, int | None]] = {}
    found = []
    for number, record in enumerate(run.records):
        for side in now_ms if joint else (record.topic,):
            now_ms[side] = max(now_ms[side], record.timestamp)
        if record.timestamp < now_ms[record.topic] - run.case.history_ms:
            continue
        of = versions.setdefault((record.topic, record.key), {})
        if record.timestamp >= max(of, default=0):
            found.append((number, record))
        is_all = [*of] == [record.timestamp] and of[record.timestamp] is not None
        of[record.timestamp] = record.value
        if there and record.value is None and is_all:
            of.clear()
    return found


def changes_by(join: Any, rows: Any, used: Iterable[tuple[int, TableRecord]]) -> list[TableResult]:
    return [
        TableResult(number, change.key, change.left, change.right, change.time_ms)
        for number, record in used
        for change in (join.add_left if record.topic == "left" else join.add_right)([record], rows)
    ]


def two_tables(run: TableRun) -> TableTableJoin[int, int]:
    return TableTableJoin(
        kind=run.case.kind,
        left_key=key_of,
        left_value=value_of,
        right_key=key_of,
        right_value=value_of,
    )


@a_run_each(VERSIONED_TABLES)
def test_theirs_joins_what_is_the_latest_and_forgets_deletions_of_the_same_time(
    run: TableRun,
) -> None:
    used = latest(run, there=True)
    assert changes_by(two_tables(run), {}, used) == without_idle(run.results)


def versioned_tables(run: TableRun) -> list[TableResult]:
    join = VersionedTableJoin[int, int](
        kind=run.case.kind,
        history_ms=run.case.history_ms,
        left_key=key_of,
        left_value=value_of,
        right_key=key_of,
        right_value=value_of,
    )
    rows: TimedDict[Any] = TimedDict()
    told: list[TableResult] = []
    for number, record in enumerate(run.records):
        told += changes_by(join, rows, [(number, record)])
        assert rows.fire(join.fire) == []
    return told


@a_run_each(VERSIONED_TABLES)
def test_ours_joins_what_is_the_latest_with_one_stream_time(run: TableRun) -> None:
    used = latest(run, there=False, joint=True)
    assert versioned_tables(run) == changes_by(two_tables(run), {}, used)


#   left 1 at 13     deleted at 13      left 2 at 2         there: the table has 2      here: it has nothing
def test_each_difference_of_versioned_tables_is_in_some_run() -> None:
    assert {
        run.script for run in VERSIONED_TABLES if versioned_tables(run) == without_idle(run.results)
    }
    for there, joint in ((True, False), (False, True)):
        assert any(
            latest(run, there=there, joint=joint) != latest(run, there=False)
            for run in VERSIONED_TABLES
        )


#   each table by itself, and behind both a join of what was the latest: docs/tables.md
@a_run_each(VERSIONED_FOREIGN)
def test_by_foreign_key_the_latest_of_two_versioned_tables_are_joined_as_there(
    run: TableRun,
) -> None:
    assert run.case.kind != "outer"
    join = ForeignKeyJoin[int, int](
        kind=run.case.kind,
        left_key=key_of,
        left_value=value_of,
        foreign_key=foreign_key,
        right_key=key_of,
        right_value=value_of,
    )
    table = VersionedTable[int](history_ms=run.case.history_ms, key=key_of, value=value_of)
    rows: dict[str, TimedDict[Any]] = {"left": TimedDict(), "right": TimedDict()}
    ours: list[tuple[int, TableRecord]] = []
    for number, record in enumerate(run.records):
        ours += [(number, one) for one in table.put([record], rows[record.topic])]
        rows[record.topic].fire(table.fire)
    assert ours == latest(run, there=False)
    there = latest(run, there=True)
    results = without_idle(last_of_each(without_deletions_of_nothing(run, there)))
    assert untimed(last_of_each(changes_by(join, {}, there))) == untimed(results)


# -- suppression -----------------------------------------------------------------------------------

SUPPRESSED: Final = runs_of("suppression")


def told_by_rule(run: TableRun, *, own_event_counts: bool) -> list[TableResult]:
    """Tell a table's changes by the definition; whether an event still counts that makes its key due."""
    held: dict[str, tuple[int, TableRecord]] = {}
    told: list[TableResult] = []
    now_ms = 0

    def tell(number: int) -> None:
        due = [(due_ms, key) for key, (due_ms, _) in held.items() if due_ms <= now_ms]
        for _, key in sorted(due):
            _, change = held.pop(key)
            told.append(TableResult(number, key, change.value, None, change.timestamp))

    for number, record in enumerate(run.records):
        now_ms = max(now_ms, record.timestamp)
        if not own_event_counts and held.get(record.key, (now_ms + 1, record))[0] <= now_ms:
            tell(number)
        due_ms, _ = held.get(record.key, (record.timestamp + run.case.limit_ms, record))
        held[record.key] = due_ms, record
        tell(number)
    return told


def told_here(run: TableRun) -> list[TableResult]:
    operator = Suppression[TableRecord](limit_ms=run.case.limit_ms, key=key_of)
    rows: TimedDict[Any] = TimedDict()
    told: list[TableResult] = []
    for number, record in enumerate(run.records):
        operator.add([record], rows)
        told += [
            TableResult(number, change.key, change.value, None, change.timestamp)
            for change in rows.fire(operator.fire)
        ]
    return told


@a_run_each(SUPPRESSED)
def test_theirs_tells_a_key_that_its_own_event_makes_due_with_that_event(run: TableRun) -> None:
    assert list(run.results) == told_by_rule(run, own_event_counts=True)


#   a 10      a 20     limit 10       there: 20 is told         here: 10 is told, and 20 waits until 30
@a_run_each(SUPPRESSED)
def test_ours_tells_it_as_it_was_and_has_that_event_wait(run: TableRun) -> None:
    assert told_here(run) == told_by_rule(run, own_event_counts=False)


@pytest.mark.parametrize("limit_ms", [3, 8, 30])
def test_there_are_runs_in_which_a_key_s_own_event_makes_it_due(limit_ms: int) -> None:
    runs = [run for run in SUPPRESSED if run.case.limit_ms == limit_ms]
    assert any(told_here(run) != list(run.results) for run in runs)


@a_run_each(SUPPRESSED)
def test_each_key_ends_with_the_same_change_in_both(run: TableRun) -> None:
    ends = {one.key: one for one in run.results if one.key != "z"}
    assert {one.key: one.left for one in told_here(run) if one.key != "z"} == {
        key: one.left for key, one in ends.items()
    }
