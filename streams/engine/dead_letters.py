"""Dead letters: the source record's bytes untouched, with headers that tell why (names: KIP-1034)."""

import traceback
from typing import Final

from streams.engine.batch import Failure
from streams.engine.records import Reason, Record, Reject, Run, TopicPartition

# Headers must not grow a record much beyond its source: the dead-letter topic takes records twice as
# large as other topics do (streams/engine/layout.py), and a stack trace can be of any length.
_LONGEST_TEXT: Final = 8_000


class InvalidEventError(Exception):
    """The record is no valid event: named in the headers of rejected records."""


def rejected(source: TopicPartition, run: Run, reject: Reject, now_ms: int) -> Record:
    """Return the dead letter of a record that is no valid event."""
    return _letter(
        source, run, reject.at, reject.reason,
        (_name(InvalidEventError), reject.message, ""), "", now_ms,
    )  # fmt: skip


def failed(source: TopicPartition, run: Run, index: int, failure: Failure, now_ms: int) -> Record:
    """Return the dead letter of a record that made an agent's rule raise."""
    error = failure.error
    trace = "".join(traceback.format_exception(error))
    return _letter(
        source, run, index, failure.reason,
        (_name(type(error)), _said(error), trace[-_LONGEST_TEXT:]), failure.flow.name, now_ms,
    )  # fmt: skip


def _letter(  # noqa: PLR0917 - called here alone, by both above
    source: TopicPartition,
    run: Run,
    index: int,
    reason: Reason,
    error: tuple[str, str, str],
    agent: str,
    now_ms: int,
) -> Record:
    exception, message, trace = error
    headers = {
        "__streams.errors.exception": exception,
        "__streams.errors.message": message,
        "__streams.errors.stacktrace": trace,
        "__streams.errors.topic": source.topic,
        "__streams.errors.partition": str(source.partition),
        "__streams.errors.offset": str(run.offsets[index]),
        "headrace.reason": reason.value,
        "headrace.agent": agent,
        "headrace.first-failed-at": str(now_ms),
    }
    return Record(
        run.keys[index],
        run.values[index],
        [(name, text[:_LONGEST_TEXT].encode(errors="replace")) for name, text in headers.items()],
    )


def _said(error: Exception) -> str:
    """Return the error's text: it is a rule's own, so that even asking for it may raise."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 - a letter must not fail over its wording
        return f"the error cannot say what it is: {type(failure).__name__}"


def _name(error: type[BaseException]) -> str:
    return f"{error.__module__}.{error.__qualname__}"
