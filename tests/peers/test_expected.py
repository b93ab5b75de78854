"""What was written down of Kafka Streams is whole, and says what tests of operators count on."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, combinations, pairwise

import pytest

from bench import expected
from bench.java import DRIVER_MANIFEST, DRIVER_ROOTS
from streams.kafka_jars import read_manifest
from tests.peers import make_scripts
from tests.peers.peers import (
    FOLDER,
    JoinResult,
    JoinRun,
    ScriptRecord,
    WindowResult,
    WindowRun,
    join_runs,
    scripts,
    window_runs,
)

KEPT_FINALS = [
    run for run in window_runs() if run.case.emit == "final" and run.case.stores == "kept"
]


def a_run_each(runs: list[WindowRun] | list[JoinRun], name: str = "run") -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, runs, ids=[run.id for run in runs])


def stream_times(records: tuple[ScriptRecord, ...]) -> list[int]:
    return list(accumulate((record.timestamp for record in records), max))


def windows(run: WindowRun, stores: str, emit: str) -> WindowRun:
    name = run.case.name.replace(run.case.stores, stores).replace(run.case.emit, emit)
    return next(one for one in window_runs() if (one.case.name, one.script) == (name, run.script))


def joins(run: JoinRun, stores: str) -> JoinRun:
    name = run.case.name.replace(run.case.stores, stores)
    return next(one for one in join_runs() if (one.case.name, one.script) == (name, run.script))


def pairs(run: JoinRun) -> Counter[JoinResult]:
    """All that match, by number of the record that came second."""
    found: Counter[JoinResult] = Counter()
    for number, one in enumerate(run.records):
        for other in run.records[:number]:
            left, right = (one, other) if one.topic == "left" else (other, one)
            if left.key != right.key or left.topic == right.topic:
                continue
            if -run.case.before_ms <= right.timestamp - left.timestamp <= run.case.after_ms:
                time_ms = max(left.timestamp, right.timestamp)
                found[JoinResult(number, left.key, left.value, right.value, time_ms)] += 1
    return found


def matched(run: JoinRun) -> Counter[JoinResult]:
    return Counter(row for row in run.results if None not in (row.left, row.right))


class TestScripts:
    def test_they_are_what_their_maker_makes(self) -> None:
        written = {file.stem: file.read_text("utf-8") for file in FOLDER.glob("scripts/*.json")}
        made = {name: make_scripts.text(lines) for name, lines in make_scripts.scripts().items()}
        assert written == made

    @pytest.mark.parametrize("name", scripts())
    def test_each_has_what_is_hard(self, name: str) -> None:
        records = scripts()[name]
        times = stream_times(records)
        steps = [later - earlier for earlier, later in pairwise(times)]
        assert len(records) >= 60
        assert sum(one.timestamp < now for one, now in zip(records, times, strict=True)) >= 10
        assert len({record.key for record in records}) >= 3
        assert max(Counter(records).values()) > 1
        assert max(Counter(record.timestamp for record in records).values()) > 2
        assert sum(step > 17 for step in steps) >= 3
        assert sum(record.timestamp < 10 for record in records) >= 10

    def test_the_calm_one_is_never_far_behind(self) -> None:
        records = scripts()["calm"]
        behind = [
            now - one.timestamp for one, now in zip(records, stream_times(records), strict=True)
        ]
        assert max(behind) == make_scripts.CALM_MS


class TestFiles:
    def test_there_is_one_for_each_case(self) -> None:
        files = {file.stem for file in FOLDER.glob("expected/*.json")}
        assert files == {str(case["name"]) for case in expected.cases()}

    def test_every_case_has_results_of_every_script(self) -> None:
        have = {run.id for run in window_runs() if run.results}
        have |= {run.id for run in join_runs() if run.results}
        assert have == {
            f"{case['name']}/{script}" for case in expected.cases() for script in scripts()
        }

    @a_run_each(list(window_runs()))
    def test_results_of_windows_stand_in_the_order_of_records(self, run: WindowRun) -> None:
        assert [one for _, results in run.steps() for one in results] == list(run.results)

    @a_run_each(list(join_runs()))
    def test_results_of_joins_stand_in_the_order_of_records(self, run: JoinRun) -> None:
        assert [one for _, results in run.steps() for one in results] == list(run.results)

    def test_joins_look_further_one_way_than_the_other_in_some(self) -> None:
        assert {run.case.before_ms == run.case.after_ms for run in join_runs()} == {True, False}

    def test_each_jar_that_was_asked_for_has_its_checksum(self) -> None:
        assert set(DRIVER_ROOTS) <= set(read_manifest(DRIVER_MANIFEST))


@a_run_each([run for run in window_runs() if run.case.emit == "final"])
def test_a_window_is_final_once(run: WindowRun) -> None:
    counts = Counter((one.key, one.start_ms, one.end_ms) for one in run.results)
    assert set(counts.values()) == {1}


@a_run_each(KEPT_FINALS)
class TestFinals:
    def test_each_is_what_the_last_update_had_said(self, run: WindowRun) -> None:
        updates = windows(run, "kept", "updates").results
        for final in run.results:
            *_, last = (
                one
                for one in updates
                if one.record <= final.record and one[1:4] == final[1:4] and one.total
            )
            assert (last.total, last.timestamp) == (final.total, final.timestamp)

    def test_each_window_that_closed_has_one(self, run: WindowRun) -> None:
        last: dict[tuple[str, int, int], WindowResult] = {}
        for one in windows(run, "kept", "updates").results:
            last[one.key, one.start_ms, one.end_ms] = one
        end_ms = stream_times(run.records)[-1] - run.case.closes_after_ms
        closed = {window for window, one in last.items() if one.total and window[2] <= end_ms}
        assert closed <= {(one.key, one.start_ms, one.end_ms) for one in run.results}

    def test_each_comes_of_the_first_record_that_closes_the_window(self, run: WindowRun) -> None:
        times = stream_times(run.records)
        for final in run.results:
            due_ms = final.end_ms + run.case.closes_after_ms
            assert times[final.record] >= due_ms
            assert final.record == 0 or times[final.record - 1] < due_ms

    def test_of_one_record_they_come_by_end_and_key(self, run: WindowRun) -> None:
        for _, results in run.steps():
            order = [(one.end_ms, one.key, one.start_ms) for one in results]
            # The one window that may end where another does and begin elsewhere is a session.
            assert order == sorted(order)


def test_a_session_that_was_merged_after_it_had_closed_is_final_twice_in_part() -> None:
    overlaps = [
        (one, other)
        for run in KEPT_FINALS
        if run.case.kind == "session"
        for one, other in combinations(run.results, 2)
        if one.key == other.key and one.start_ms <= other.end_ms and other.start_ms <= one.end_ms
    ]
    assert overlaps
    assert all(one.end_ms < other.end_ms for one, other in overlaps)


@a_run_each([run for run in window_runs() if run.case.emit == "updates"])
def test_stores_make_no_difference_to_updates_but_of_sessions(run: WindowRun) -> None:
    is_calm = run.script == "calm" and run.case.grace_ms >= make_scripts.CALM_MS
    if run.case.kind != "session" or is_calm:
        assert run.results == windows(run, "kept", "updates").results


@a_run_each([run for run in KEPT_FINALS if run.case.kind != "session"])
def test_finals_are_lost_with_the_stores_that_kafka_streams_has_by_default(run: WindowRun) -> None:
    assert set(windows(run, "rocksdb", "final").results) < set(run.results)


class TestJoins:
    @a_run_each([run for run in join_runs() if run.case.stores == "kept"])
    def test_all_that_match_are_joined_however_late(self, run: JoinRun) -> None:
        assert matched(run) == pairs(run)

    @a_run_each([run for run in join_runs() if run.case.stores == "rocksdb"])
    def test_what_stores_forget_is_not_joined(self, run: JoinRun) -> None:
        assert matched(run) <= pairs(run)
        if run.script == "calm" and run.case.grace_ms >= make_scripts.CALM_MS:
            assert run.results == joins(run, "kept").results

    @a_run_each(list(join_runs()))
    def test_only_outer_sides_come_alone(self, run: JoinRun) -> None:
        alone = {
            "left" if one.right is None else "right"
            for one in run.results
            if None in (one.left, one.right)
        }
        sides: dict[str, set[str]] = {"inner": set(), "left": {"left"}, "outer": {"left", "right"}}
        assert alone == sides[run.case.kind]

    @a_run_each([run for run in join_runs() if run.case.stores == "kept"])
    def test_none_that_stays_without_partner_is_forgotten(self, run: JoinRun) -> None:
        joined = {(one.key, one.left) for one in pairs(run)}
        lonely = {
            (record.key, record.value)
            for record in run.records[:-2]
            if record.topic == "left" and (record.key, record.value) not in joined
        }
        alone = {(one.key, one.left) for one in run.results if one.right is None}
        assert run.case.kind == "inner" or lonely <= alone

    def test_one_that_came_alone_may_find_a_partner_later(self) -> None:
        [run] = [run for run in join_runs() if run.id == "left-5-5-grace-4-kept/seed-1"]
        alone = {
            (one.key, one.left, one.timestamp): one for one in run.results if one.right is None
        }
        later = [
            one
            for one in matched(run)
            for left in run.records[: one.record]
            if (left.key, left.value) == (one.key, one.left)
            and abs(left.timestamp - run.records[one.record].timestamp) <= run.case.after_ms
            and (left.key, left.value, left.timestamp) in alone
            and alone[left.key, left.value, left.timestamp].record < one.record
        ]
        assert later
