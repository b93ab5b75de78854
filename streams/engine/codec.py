"""From the bytes of a topic to its typed events; what is no valid event is refused, with why."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import reduce
from operator import attrgetter, ne, or_, sub
from typing import Annotated, Any, NamedTuple, TypeVar, cast

import msgspec

from streams.engine.definitions import Topic
from streams.engine.records import Decoded, Reason, Reject, Run
from streams.event_time import parse_event_time_ms

MAX_DEPTH = 500
"""How deep arrays and objects may be nested in a record.

A bound of our own, as msgspec's (the interpreter's recursion limit) moves with the caller's stack:
the same record would be an event in one worker and a dead letter in another.
"""

_MAX_SHALLOW_BYTES = 2 * MAX_DEPTH  # Each level takes two bytes: nothing shorter is too deep.
_MAX_MESSAGE_LENGTH = 200
_MAX_QUOTED_LENGTH = 60
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError)
T = TypeVar("T")
_timestamp = attrgetter("timestamp")


class _Refusal(NamedTuple):
    reason: Reason
    message: str


_SKIPPED = None


class Codec:
    """Decodes one topic's runs, and checks each record (docs/contract.md).

    An event type that has a method `check() -> str | None` says there what msgspec's types cannot:
    the text names the field and what is wrong with it. No verdict depends on the rest of the run.
    """

    def __init__(self, topic: Topic, max_ahead_ms: int) -> None:
        """Raise ValueError if the event types do not share one tag field."""
        tag_fields = {event.__struct_config__.tag_field for event in topic.events}
        if len(tag_fields) != 1 or None in tag_fields:
            raise ValueError(f"topic {topic.name}: its event types need one tag field for all")
        self._tag_field: str = tag_fields.pop()
        self._tags = {event.__struct_config__.tag for event in topic.events}
        self._checks = {event: event.check for event in topic.events if hasattr(event, "check")}
        self._key = topic.key
        self._max_ahead_ms = max_ahead_ms
        self._parse = _parser(topic.events, self._tag_field)
        head = msgspec.defstruct("Head", [(self._tag_field, str)])
        self._parse_head: Callable[[bytes], Any] = msgspec.json.Decoder(head).decode

    def decode(self, run: Run) -> Decoded:
        """Return the run's events in offset order, with what was skipped and what was refused.

        Skipped: a null value, or an event type that is not the topic's. Every `timestamp` that
        comes out is an int (ms). Raises nothing, whatever a record may hold.
        """
        outcomes: list[Any] = []
        odd = self._parse_all(run.values, outcomes)
        indexes = _without(range(len(outcomes)), odd)
        events, keys = _without(outcomes, odd), _without(run.keys, odd)
        times_ms = _without(run.timestamps_ms, odd)
        doubtful = self._doubtful(events, keys, times_ms)
        if not (odd or doubtful):
            return Decoded(indexes, outcomes, 0, ())
        for place in doubtful:
            index = indexes[place]
            outcomes[index] = self._judge(events[place], keys[place], times_ms[place])
            if type(outcomes[index]) is _Refusal:
                odd.append(index)
        odd.sort()
        rejects = [Reject(i, *outcomes[i]) for i in odd if outcomes[i] is not _SKIPPED]
        skipped = len(odd) - len(rejects)
        indexes = _without(range(len(outcomes)), odd)
        return Decoded(indexes, _without(outcomes, odd), skipped, rejects)

    def _parse_all(self, values: Sequence[bytes | None], outcomes: list[Any]) -> list[int]:
        """Append an event, a refusal or a skip for each value; return where there is no event."""
        odd: list[int] = []
        rest = cast("Iterator[bytes]", iter(values))
        while len(outcomes) < len(values):
            try:
                # extend() keeps what came before a fault: nothing is parsed twice.
                outcomes.extend(map(self._parse, rest))
            except (*_FAULTS, TypeError):  # TypeError: a null value.
                outcome = self._second_look(values[len(outcomes)])
                if outcome is _SKIPPED or type(outcome) is _Refusal:
                    odd.append(len(outcomes))
                outcomes.append(outcome)
        present = cast("Sequence[bytes]", values)
        if odd:  # what is refused already need not be looked at again
            present = list(present)
            for index in odd:
                if values[index] is None or type(outcomes[index]) is _Refusal:
                    present[index] = b""
        for index in _suspects(present):
            if fault := _unreadable(present[index]):
                odd.append(index)
                outcomes[index] = _Refusal(Reason.UNDECODABLE, fault)
        return sorted(set(odd))

    def _doubtful(
        self, events: Sequence[Any], keys: Sequence[bytes | None], kafka_times_ms: Sequence[int]
    ) -> Collection[int]:
        """Return the indexes of events that must be judged one by one: by columns, which is all in C."""
        doubtful: set[int] = set()
        times_ms = list(map(_timestamp, events))
        try:
            furthest_ms = max(times_ms, default=0) - min(kafka_times_ms, default=0)
        except TypeError:  # a time that is still text
            doubtful.update(i for i, time_ms in enumerate(times_ms) if type(time_ms) is str)
            times_ms = [0 if type(time_ms) is str else time_ms for time_ms in times_ms]
            furthest_ms = max(times_ms) - min(kafka_times_ms)
        if furthest_ms > self._max_ahead_ms:
            ahead_ms = map(sub, times_ms, kafka_times_ms)
            doubtful.update(i for i, by_ms in enumerate(ahead_ms) if by_ms > self._max_ahead_ms)
        wanted = list(map(str.encode, map(self._key, events)))
        if wanted != list(keys):
            doubtful.update(i for i, pair in enumerate(zip(wanted, keys, strict=True)) if ne(*pair))
        doubtful.update(self._faulty(events))
        return doubtful

    def _faulty(self, events: Sequence[Any]) -> Iterator[int]:
        """Yield the indexes of events whose own check finds a fault."""
        kinds = set(map(type, events))
        for kind in kinds & self._checks.keys():
            check = self._checks[kind]
            if len(kinds) == 1:
                if any(faults := list(map(check, events))):
                    yield from (i for i, fault in enumerate(faults) if fault)
            else:
                yield from (i for i, e in enumerate(events) if type(e) is kind and check(e))

    def _judge(self, event: Any, key: bytes | None, kafka_time_ms: int) -> Any:
        """Return the event, its time in ms, or the first reason against it in contract order."""
        if type(event.timestamp) is str:
            time_ms = parse_event_time_ms(event.timestamp)
            if time_ms is None:
                return _invalid(f"timestamp: {_quoted(event.timestamp)} is no RFC 3339 time")
            event = msgspec.structs.replace(event, timestamp=time_ms)
        check = self._checks.get(type(event))
        if check and (fault := check(event)):
            return _invalid(fault)
        if key != (wanted := self._key(event)).encode():
            return _Refusal(Reason.KEY_MISMATCH, _key_fault(key, wanted))
        # A producer may leave the Kafka timestamp out (-1): there is nothing to be ahead of.
        if event.timestamp - kafka_time_ms > self._max_ahead_ms and kafka_time_ms >= 0:
            ahead_ms = event.timestamp - kafka_time_ms
            return _Refusal(
                Reason.TIMESTAMP_AHEAD, f"timestamp: {ahead_ms} ms ahead of the Kafka timestamp"
            )
        return event

    def _second_look(self, value: bytes | None) -> Any:
        """Return what a value is that msgspec did not take: an event after all, a skip, a refusal.

        msgspec stops at the first thing it dislikes: an unknown event type before broken JSON, a
        fault in a field that a later one of the same name replaces, NaN before anything.
        """
        if value is None:
            return _SKIPPED
        if fault := _unreadable(value):
            return _Refusal(Reason.UNDECODABLE, fault)
        try:
            tag = getattr(self._parse_head(value), self._tag_field)
        except _FAULTS:
            return self._read_again(value.decode())
        return self._read_again(value.decode()) if tag in self._tags else _SKIPPED

    def _read_again(self, text: str) -> Any:
        """Do as `_second_look`, by the standard library: it takes NaN, and the last of a name."""
        constants: list[str] = []
        try:
            document = json.loads(
                text,
                parse_int=_as_written,
                parse_float=_as_written,
                parse_constant=constants.append,
            )
            # Each name once, and refused if an escape is half of a surrogate pair.
            plain = msgspec.json.encode(document)
        except (ValueError, RecursionError) as error:
            return _Refusal(Reason.UNDECODABLE, _short(f"not JSON: {error}"))
        if not isinstance(document, dict):
            return _Refusal(Reason.UNDECODABLE, "not a JSON object")
        tag = document.get(self._tag_field)
        if isinstance(tag, str) and tag not in self._tags:
            return _SKIPPED
        if constants:
            return _invalid(_constant_fault(text, constants[0]))
        try:
            return self._parse(plain)
        except msgspec.MsgspecError as error:
            return _invalid(_in_words(error))


def _parser(event_types: Sequence[type[Any]], tag_field: str) -> Callable[[bytes], Any]:
    # msgspec insists on a tag only where it must choose, so a lone type gets company: a type that
    # no record fits.
    never = Annotated[int, msgspec.Meta(ge=1, le=0)]
    no_event = msgspec.defstruct("NoEvent", [("never", never)], tag_field=tag_field, tag="")
    union: Any = reduce(or_, (*event_types, no_event))
    return msgspec.json.Decoder(union).decode


def _without(column: Sequence[T], odd: Sequence[int]) -> Sequence[T]:
    """Return a column without these indexes, which ascend: few, where most records are events."""
    if not odd:
        return column
    kept = list(column)
    for index in reversed(odd):
        del kept[index]
    return kept


# --- what msgspec does not see: it skips fields that are not listed without a look ----------------


def _suspects(values: Sequence[bytes]) -> Sequence[int]:
    """Return the indexes of values that may be no UTF-8 or too deep: none in nearly all runs."""
    # Joined: what msgspec took begins and ends with ASCII, so no character spans two values.
    if _is_utf8(b"".join(values)):
        if max(map(len, values), default=0) <= _MAX_SHALLOW_BYTES:
            return ()
        return [i for i, value in enumerate(values) if len(value) > _MAX_SHALLOW_BYTES]
    return range(len(values))


def _is_utf8(value: bytes) -> bool:
    try:
        return value.isascii() or value.decode() != ""
    except UnicodeDecodeError:
        return False


_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


def _unreadable(value: bytes) -> str:
    """Return why nobody should read this value as JSON, "" if it is shallow UTF-8."""
    if not _is_utf8(value):
        return "not UTF-8"
    if value.count(b"[") + value.count(b"{") <= MAX_DEPTH:
        return ""
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(value):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(match[0], 0)
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
    return ""


# --- what people read -----------------------------------------------------------------------------


def _invalid(message: str) -> _Refusal:
    return _Refusal(Reason.INVALID_FIELD, _short(message))


def _as_written(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def _in_words(error: Exception) -> str:
    what, _, where = str(error).partition(" - at `$.")
    return f"{where.removesuffix('`')}: {what}" if where else what


def _constant_fault(text: str, constant: str) -> str:
    field = re.search(rf'"([^"\\]*)"\s*:[\s\[]*{constant}', text)
    return f"{field[1] if field else 'a field'}: {constant} is no JSON number"


def _key_fault(key: bytes | None, wanted: str) -> str:
    found = "there is none" if key is None else f"it is {_quoted(key.decode(errors='replace'))}"
    return _short(f"key: {_quoted(wanted)} is what the event asks for, {found}")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _MAX_QUOTED_LENGTH else text[:_MAX_QUOTED_LENGTH] + "…")


def _short(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE_LENGTH else message[:_MAX_MESSAGE_LENGTH] + "…"
