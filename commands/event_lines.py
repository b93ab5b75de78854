"""Lines of a file as records for a topic: their keys, and which are no valid events of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from streams.engine.codec import Codec
from streams.engine.definitions import Topic
from streams.engine.records import Run

_AT_ONCE = 1_000
_NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)


class Line(NamedTuple):
    """A line of the file, counted from 1, as a record; `fault` says why it cannot be one."""

    number: int
    key: bytes | None
    value: bytes
    fault: str = ""


class Keys(NamedTuple):
    """Where a record's key comes from: the line itself, up to its first tab, or the event."""

    in_line: bool
    of_event: Callable[[Any], object] | None
    """Takes the event as an object with attributes, as a Topic's `key` does."""


def keys_for(topic: Topic | None, *, keyed: bool, key_field: str | None) -> Keys:
    """Return where keys come from: what was asked for, else what the topic declares."""
    if keyed:
        return Keys(in_line=True, of_event=None)
    if key_field is not None:
        return Keys(in_line=False, of_event=attrgetter(key_field))
    return Keys(in_line=False, of_event=topic.key if topic else None)


def lines_as_they_are(stream: Iterable[bytes], keys: Keys) -> Iterator[Line]:
    """Yield each line's bytes, but for the line feed; a key where one can be found.

    Only a line that was to hold its key, and has no tab, has a fault.
    """
    for number, line in enumerate(stream, 1):
        yield _line(number, line.removesuffix(b"\n"), keys)


def event_lines(stream: Iterable[bytes], keys: Keys) -> Iterator[Line]:
    """Yield the lines that are not blank."""
    for number, line in enumerate(stream, 1):
        if stripped := line.strip(b"\r\n"):
            yield _line(number, stripped, keys)


class Check:
    """Finds lines that the application would refuse in a topic, and counts what it would skip."""

    def __init__(self, topic: Topic | None, max_ahead_ms: int) -> None:
        """Of a topic that is not the application's (None) each line must be a JSON object."""
        self.skipped = 0
        """Records of an event type that the topic does not know, of those looked at so far."""
        self._codec = Codec(topic, max_ahead_ms) if topic else None

    def faults(self, lines: Iterable[Line], now_ms: int) -> Iterator[str]:
        """Yield `line N: why` for each line that would be refused."""
        iterator = iter(lines)
        while some := list(islice(iterator, _AT_ONCE)):
            whole = [line for line in some if not line.fault]
            found = {line.number: line.fault for line in some if line.fault}
            codec = self._codec
            found |= self._rejected(whole, codec, now_ms) if codec else _no_objects(whole)
            yield from (f"line {number}: {fault}" for number, fault in sorted(found.items()))

    def _rejected(self, lines: Sequence[Line], codec: Codec, now_ms: int) -> dict[int, str]:
        run = Run(
            next_offset=len(lines),
            offsets=range(len(lines)),
            timestamps_ms=[now_ms] * len(lines),
            keys=[line.key for line in lines],
            values=[line.value for line in lines],
        )
        decoded = codec.decode(run)
        self.skipped += decoded.skipped
        return {
            lines[reject.at].number: f"{reject.reason}: {reject.message}"
            for reject in decoded.rejects
        }


def _no_objects(lines: Iterable[Line]) -> dict[int, str]:
    return {line.number: "no JSON object" for line in lines if _object(line.value) is None}


def _line(number: int, line: bytes, keys: Keys) -> Line:
    if keys.in_line:
        key, tab, value = line.partition(b"\t")
        return Line(number, key, value) if tab else Line(number, None, line, "no tab after a key")
    if keys.of_event is None:
        return Line(number, None, line)
    return Line(number, _key(line, keys.of_event), line)


def _key(value: bytes, of_event: Callable[[Any], object]) -> bytes | None:
    """Return the event's key, None where it has none that is a text or a whole number."""
    try:
        key = of_event(_Document(_object(value) or {}))
    except AttributeError:
        return None
    return str(key).encode() if isinstance(key, str | int) else None


def _object(value: bytes) -> dict[str, Any] | None:
    try:
        document = msgspec.json.decode(value)
    except _NOT_JSON:
        return None
    return document if isinstance(document, dict) else None


class _Document:
    """A JSON object whose fields are attributes."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> object:
        try:
            found = self._fields[name]
        except KeyError:
            raise AttributeError(name) from None
        return _Document(found) if isinstance(found, dict) else found
