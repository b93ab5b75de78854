"""One record for people (a line) and for programs (a JSON object)."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click
import msgspec

from commands.printing import on_terminal, printable, shown, time_text

_LONGEST_RAW = 300  # characters of a value that is no event
_LONGEST_FIELD = 60
_NOT_JSON = (msgspec.MsgspecError, UnicodeError, RecursionError)


class RecordLine(NamedTuple):
    """What a line of `topics tail` says; `kind` is the event's type, empty for what is no event."""

    time: str
    position: str
    key: str
    kind: str
    text: str


def print_records(records: Iterable[Any], *, as_json: bool) -> None:
    """Print Kafka records, a line each: as JSON objects, or for people, with colours on a terminal."""
    if as_json:
        lines = json_lines([record_object(record) for record in records])
    else:
        styled = on_terminal() and not os.environ.get("NO_COLOR")
        lines = "\n".join(_line(record_line(record), styled=styled) for record in records)
    if lines:
        click.echo(lines)


def _line(line: RecordLine, *, styled: bool) -> str:
    styles = ("bright_black", "bright_black", "cyan", "green", None) if styled else (None,) * 5
    parts = zip(line, styles, strict=True)
    return "  ".join(click.style(text, fg=colour) for text, colour in parts if text)


def record_line(record: Any) -> RecordLine:
    """Return a Kafka record as the parts of a line. Its time is Kafka's, in UTC."""
    kind, text = _described(record.value, record.key)
    return RecordLine(
        time_text(record.timestamp),
        f"{record.partition}@{record.offset}",
        "-" if record.key is None else shown(record.key, _LONGEST_FIELD),
        kind,
        text,
    )


def record_object(record: Any) -> dict[str, Any]:
    """Return a Kafka record as the JSON object that `--json` prints.

    The value stands under `value` if it is JSON (digit by digit as it is in Kafka) or null, else
    under `text` if it is UTF-8, else under `base64`. A key that is no UTF-8 is `key_base64`.
    """
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_key(record.key),
        "headers": {name: value.decode(errors="replace") for name, value in record.headers},
        **_value(record.value),
    }


def _key(key: bytes | None) -> dict[str, Any]:
    try:
        return {"key": None if key is None else key.decode()}
    except UnicodeDecodeError:
        return {"key_base64": _base64(key)}


def _value(value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {"value": None}
    try:
        msgspec.json.decode(value)
    except _NOT_JSON:
        try:
            return {"text": value.decode()}
        except UnicodeDecodeError:
            return {"base64": _base64(value)}
    # Without line ends: programs read one object a line.
    return {"value": msgspec.Raw(msgspec.json.format(value, indent=-1))}


def _base64(data: bytes | None) -> str:
    return base64.b64encode(data or b"").decode()


def _described(value: bytes | None, key: bytes | None) -> tuple[str, str]:
    """Return type and main fields of an event; nothing and the raw text of what is none."""
    if value is None:
        return "", "null (tombstone)"
    try:
        event = msgspec.json.decode(value)
    except _NOT_JSON:
        event = None
    if not isinstance(event, dict):
        return "", shown(value, _LONGEST_RAW)
    kind, data = event.get("event_type"), event.get("data")
    if not isinstance(kind, str) or not isinstance(data, dict):
        return "", shown(value, _LONGEST_RAW)
    return printable(kind), "  ".join(_fields(data, shown(key)))


def _fields(data: Mapping[str, Any], key: str, within: str = "") -> Iterator[str]:
    """Yield `name=value` of the fields; not of those that repeat the record's key."""
    for name, value in data.items():
        path = f"{within}{printable(name)}"
        if isinstance(value, dict):
            yield from _fields(value, key, f"{path}.")
        elif isinstance(value, list):
            yield f"{path}[{len(value)}]"
        elif value != key:
            yield f"{path}={_short(value)}"


def _short(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = printable(str(value))
    return text if len(text) <= _LONGEST_FIELD else text[: _LONGEST_FIELD - 1] + "…"


def json_lines(objects: Sequence[Mapping[str, Any]]) -> str:
    """Return the objects as JSON, one a line."""
    return "\n".join(msgspec.json.encode(each).decode() for each in objects)
