"""How far a restore is: counted in offsets, told once a second."""

from streams.engine.progress import Restoring
from streams.engine.records import Run


def run_of(next_offset: int, records: int) -> Run:
    offsets = range(next_offset - records, next_offset)
    return Run(next_offset, offsets, [0] * records, [b"key"] * records, [b"seven b"] * records)


def restoring() -> Restoring:
    made = Restoring("users", begin=1_000, end=11_000)
    made.start(50.0)
    return made


def test_what_is_left_is_counted_in_offsets_and_what_was_read_in_records() -> None:
    users = restoring()
    assert users.remaining == 10_000
    users.add(run_of(6_000, 2_000))  # compaction left gaps
    assert (users.remaining, users.records, users.bytes) == (5_000, 2_000, 20_000)


def test_words_tell_records_bytes_rate_and_the_time_that_the_rest_takes() -> None:
    users = restoring()
    users.add(run_of(3_000, 2_000))
    assert users.so_far(52.0) == "2,000 records (0.0 MB) in 2.0 s, 1,000/s"
    assert users.ahead(52.0) == "at most 8,000 to go, 8 s"


def test_a_row_without_a_value_is_read_as_well() -> None:
    users = restoring()
    users.add(Run(1_002, [1_000, 1_001], [0, 0], [b"key", None], [None, None]))
    assert (users.records, users.bytes) == (2, 3)


def test_a_line_is_due_once_a_second() -> None:
    users = restoring()
    due = [users.is_line_due(now_s) for now_s in (50.5, 51.0, 51.5, 52.1, 53.0, 53.2)]
    assert due == [False, True, False, True, False, True]


def test_a_moment_is_no_division_by_nothing() -> None:
    users = restoring()
    assert users.so_far(50.0) == "0 records (0.0 MB) in 0.0 s, 0/s"
    assert users.ahead(50.0) == "at most 10,000 to go, 10,000 s"
