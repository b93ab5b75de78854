"""Derived events and rows as they are sent and stored: keys, values, and none above the broker's limit."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from operator import add
from typing import Any, Final, NamedTuple, cast

import msgspec

from streams.engine.definitions import Event, Flow, Table, Topic
from streams.engine.errors import DefinitionError, TooLargeError
from streams.engine.records import NO_HEADERS, EncodedRow, Outgoing, Run

# Amounts beyond 2**53 cents are Decimals; the contract wants them as JSON numbers.
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class Source(NamedTuple):
    """Events of a topic as they were read: `events[i]` is record `indexes[i]` of the run."""

    topic: Topic
    events: Sequence[Any]
    indexes: Sequence[int]
    run: Run

    def values(self, events: Sequence[Any]) -> Iterator[bytes]:
        """Yield the value of each event: of one of these, the very object, the bytes that were read."""
        at = dict(zip(map(id, self.events), self.indexes, strict=True))
        values = self.run.values
        for event in events:
            index = at.get(id(event))
            yield _encode(event) if index is None else cast("bytes", values[index])


def derived_records(
    flow: Flow, events: Sequence[Event], longest: int, source: Source | None = None
) -> dict[str, list[Outgoing]]:
    """Return what a flow emits as records, by topic. Raises TooLargeError, and DefinitionError.

    An event of the source is passed on byte by byte: with all that nobody here knows of it.
    """
    if not events:
        return {}
    if len(flow.outputs) == 1:
        [topic] = flow.outputs
        return {topic.name: _records(topic, events, longest, source)}
    by_topic: dict[Topic, list[Event]] = {}
    for event in events:
        by_topic.setdefault(_topic_of(flow, event), []).append(event)
    return {topic.name: _records(topic, some, longest, source) for topic, some in by_topic.items()}


def _records(
    topic: Topic, events: Sequence[Event], longest: int, source: Source | None
) -> list[Outgoing]:
    # By columns: a loop over the events takes a third more, and one flow sends an event for each order.
    try:
        keys = list(map(str.encode, map(topic.key, events)))
    except TypeError:
        raise _wrong_key(topic, events) from None
    if source is None or set(topic.events).isdisjoint(source.topic.events):
        values = list(map(_encode, events))
    else:
        values = list(source.values(events))
    sizes = list(map(add, map(len, keys), map(len, values)))
    if (largest := max(sizes)) > longest:
        event_id = events[sizes.index(largest)].event_id[:100]
        msg = f"{event_id} for {topic.name} has {largest} bytes, the limit is {longest}"
        raise TooLargeError(msg)
    return list(zip(keys, values, repeat(NO_HEADERS), strict=False))


def _wrong_key(topic: Topic, events: Sequence[Event]) -> ValueError:
    """Return the error for events of which one has a key that is no text."""
    keys: list[object] = list(map(topic.key, events))
    at = next(at for at, key in enumerate(keys) if not isinstance(key, str))
    what = f"{events[at].event_id} for {topic.name}"
    return ValueError(f"{what} has {keys[at]!r} as key: that must be a text")


def _topic_of(flow: Flow, event: Event) -> Topic:
    """Return which of a flow's topics may hold an event. Raises DefinitionError."""
    for topic in flow.outputs:
        if type(event) in topic.events:
            return topic
    what = type(event).__name__ if flow.outputs else "events"
    msg = f"flow {flow.name} derives {what}, but topology.py gives it no topic to emit to"
    raise DefinitionError(msg)


def encoded_rows(table: Table[Any], changes: Mapping[Any, Any], longest: int) -> list[EncodedRow]:
    """Return rows, None for no more, as changelog and disk have them.

    Raises TooLargeError, or what their encoding does.
    """
    key_text, encode = table.key_text, table.encode
    encoded = [
        (key_text(key).encode(), None if row is None else encode(row))
        for key, row in changes.items()
    ]
    check_sizes(table, encoded, longest)
    return encoded


def check_sizes(table: Table[Any], rows: Sequence[EncodedRow], longest: int) -> None:
    """Raise TooLargeError for a row that the broker would not take."""
    size = max((len(key) + len(value or b"") for key, value in rows), default=0)
    if size > longest:
        raise TooLargeError(f"a row of {table.name} has {size} bytes, the limit is {longest}")
