"""Dead letters as commands read them: what their headers say, and where they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from commands.printing import printable, shown, time_text
from streams.engine.records import Reason

_STACKTRACE = "__streams.errors.stacktrace"
_FIRST_FAILED_AT = "headrace.first-failed-at"


class Letter(NamedTuple):
    """A dead letter; what a header does not tell is a question mark, or -1."""

    source: str
    """`topic-partition@offset` of the record that was refused."""
    reason: str
    agent: str
    message: str
    refused_at_ms: int
    trace: str
    headers: dict[str, str]
    """All but the trace."""
    record: Any


class ReasonCount(msgspec.Struct, kw_only=True):
    """How many letters have a reason (and agent, for what a rule did), and when the last came."""

    reason: str
    agent: str
    count: int
    last_refused_at: int


def letter(record: Any) -> Letter:
    """Return a record of the dead-letter topic as the letter that it is."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    trace = headers.pop(_STACKTRACE, "")
    topic, partition, offset = (
        headers.get(f"__streams.errors.{part}", "?") for part in ("topic", "partition", "offset")
    )
    refused_at = headers.get(_FIRST_FAILED_AT, "")
    return Letter(
        f"{topic}-{partition}@{offset}",
        headers.get("headrace.reason", "?"),
        headers.get("headrace.agent", ""),
        headers.get("__streams.errors.message", "?"),
        int(refused_at) if refused_at.isdecimal() else -1,
        trace,
        headers,
        record,
    )


class Tally:
    """Counts letters one by one: there may be more than fit into memory."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], ReasonCount] = {}

    def add(self, each: Letter) -> None:
        """Count a letter."""
        kind = self._kinds.setdefault(
            (each.reason, each.agent),
            ReasonCount(reason=each.reason, agent=each.agent, count=0, last_refused_at=-1),
        )
        kind.count += 1
        kind.last_refused_at = max(kind.last_refused_at, each.refused_at_ms)

    def counts(self) -> list[ReasonCount]:
        """Return the counts in the order of the reasons, then by agent."""
        order = {reason.value: number for number, reason in enumerate(Reason)}
        return sorted(
            self._kinds.values(), key=lambda c: (order.get(c.reason, len(order)), c.reason, c.agent)
        )


def told(each: Letter) -> Iterator[str]:
    """Yield the lines for people: what its headers say, the trace, and the value as it came."""
    record = each.record
    yield f"{each.source}  {each.reason}  {printable(each.message)}"
    kept_as = f"{record.topic}-{record.partition}@{record.offset}"
    yield f"refused at {time_text(each.refused_at_ms)}, kept as {kept_as}"
    yield ""
    for name, value in each.headers.items():
        yield f"{printable(name)}: {_header_text(name, value)}".rstrip()
    yield f"\nkey: {'none' if record.key is None else shown(record.key)}"
    if each.trace:
        yield "\ntrace:"
        yield from map(printable, each.trace.rstrip().splitlines())
    yield f"\nvalue, {len(record.value or b''):,} bytes:"
    yield shown(record.value)


def _header_text(name: str, value: str) -> str:
    """Return a header's text, with a readable time beside the ms."""
    if name == _FIRST_FAILED_AT and value.isdecimal():
        return f"{value} ({time_text(int(value))})"
    return printable(value)
