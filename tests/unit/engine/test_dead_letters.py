"""Dead letters: the source's bytes untouched, and headers that tell why (docs/contract.md)."""

from typing import Any

import pytest

from streams.engine import dead_letters
from streams.engine.batch import Failure
from streams.engine.definitions import Flow
from streams.engine.records import Reason, Record, Reject, Run, TopicPartition

SOURCE = TopicPartition("orders", 3)
FLOW = Flow(lambda _: None, "count_orders", ())
RUN = Run(12, [7, 9], [0, 0], [b"ada", None], [b"\xff not UTF-8", None])
NOW_MS = 1_763_715_600_000
NAMES = [
    "__streams.errors.exception", "__streams.errors.message", "__streams.errors.stacktrace",
    "__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset",
    "headrace.reason", "headrace.agent", "headrace.first-failed-at",
]  # fmt: skip


def headers(letter: Record) -> dict[str, str]:
    assert [name for name, _ in letter.headers] == NAMES
    return {name: value.decode() for name, value in letter.headers}


def failed(error: Exception, reason: Reason = Reason.RULE_FAILED) -> Record:
    return dead_letters.failed(SOURCE, RUN, 0, Failure(FLOW, error, reason), NOW_MS)


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as caught:
        return caught


def test_a_rejected_record_keeps_its_bytes_and_says_where_it_was_and_why() -> None:
    reject = Reject(0, Reason.UNDECODABLE, "not UTF-8 at byte 0")
    letter = dead_letters.rejected(SOURCE, RUN, reject, NOW_MS)
    assert (letter.key, letter.value) == (b"ada", b"\xff not UTF-8")
    assert headers(letter) == {
        "__streams.errors.exception": "streams.engine.dead_letters.InvalidEventError",
        "__streams.errors.message": "not UTF-8 at byte 0",
        "__streams.errors.stacktrace": "",
        "__streams.errors.topic": "orders",
        "__streams.errors.partition": "3",
        "__streams.errors.offset": "7",
        "headrace.reason": "undecodable",
        "headrace.agent": "",
        "headrace.first-failed-at": str(NOW_MS),
    }


def test_the_offset_is_the_records_own_where_compaction_left_gaps() -> None:
    reject = Reject(1, Reason.KEY_MISMATCH, "")
    letter = dead_letters.rejected(SOURCE, RUN, reject, NOW_MS)
    assert headers(letter)["__streams.errors.offset"] == "9"
    assert (letter.key, letter.value) == (None, None)


def test_a_failed_rule_is_named_with_its_error_and_where_it_was_raised() -> None:
    told = headers(failed(raised(ZeroDivisionError("by zero"))))
    assert told["__streams.errors.exception"] == "builtins.ZeroDivisionError"
    assert told["__streams.errors.message"] == "by zero"
    assert "in raised" in told["__streams.errors.stacktrace"]
    assert (told["headrace.reason"], told["headrace.agent"]) == ("rule-failed", "count_orders")


def test_an_output_that_is_too_large_says_so() -> None:
    assert headers(failed(ValueError(), Reason.TOO_LARGE))["headrace.reason"] == "too-large"


@pytest.mark.parametrize(
    "error",
    [ValueError("x" * 1_000_000), ValueError("\N{PILE OF POO}" * 1_000_000)],
    ids=["ascii", "four bytes a character"],
)
def test_headers_never_take_the_record_above_the_dead_letter_topics_limit(
    error: Exception,
) -> None:
    letter = failed(raised(error))
    assert sum(len(name) + len(value) for name, value in letter.headers) < 100_000


def test_a_cut_stack_trace_keeps_its_end_which_names_the_error() -> None:
    def deep(levels: int) -> Any:
        if not levels:
            raise ValueError("at the bottom")
        return other(levels - 1)

    def other(levels: int) -> Any:  # two functions, as Python folds the frames of one
        return deep(levels)

    caught: Exception | None = None
    try:
        deep(300)
    except ValueError as error:
        caught = error
    assert caught is not None
    told = headers(failed(caught))["__streams.errors.stacktrace"]
    assert told.endswith("ValueError: at the bottom\n")


def test_text_that_is_no_unicode_does_not_stop_a_letter() -> None:
    assert headers(failed(ValueError("\ud800")))["__streams.errors.message"] == "?"


def test_an_error_that_cannot_even_say_what_it_is_does_not_stop_a_letter() -> None:
    class Mute(Exception):  # noqa: N818 - it has nothing to say
        def __str__(self) -> str:
            raise RuntimeError

    told = headers(failed(raised(Mute())))
    assert told["__streams.errors.exception"].endswith("Mute")
    assert told["headrace.reason"] == "rule-failed"
