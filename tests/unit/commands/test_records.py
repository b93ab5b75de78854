from __future__ import annotations

import json
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from commands.records import json_lines, record_line, record_object

NOW_MS = 1_763_715_600_000


def record(value: bytes | None, key: bytes | None = b"ada") -> Any:
    headers = (("h", b"\xffv"),)
    return ConsumerRecord("t", 1, 7, NOW_MS, 0, key, value, None, 0, 0, headers)


def event(**data: Any) -> bytes:
    return json.dumps({"event_type": "order.created", "data": data}).encode()


def test_an_event_is_its_type_and_fields_without_what_the_key_says() -> None:
    value = event(user_id="ada", amount=1.5, paid=True, note=None, items=[1, 2], at={"ip": "::1"})
    assert record_line(record(value)) == (
        "2025-11-21T09:00:00.000Z",
        "1@7",
        "ada",
        "order.created",
        "amount=1.5  paid=true  note=null  items[2]  at.ip=::1",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null (tombstone)"),
        (b"", ""),
        (b"\x1b[2J", r"\x1b[2J"),
        (b"[1]", "[1]"),
        (b'{"orders":3}', '{"orders":3}'),
        (b'{"event_type":3,"data":{}}', '{"event_type":3,"data":{}}'),
        (b'{"event_type":"x","data":NaN}', '{"event_type":"x","data":NaN}'),
        (b"x" * 400, "x" * 299 + "…"),
    ],
)
def test_what_is_no_event_is_raw_text(value: bytes | None, text: str) -> None:
    line = record_line(record(value))
    assert (line.kind, line.text) == ("", text)


def test_nesting_beyond_the_parser_s_depth_is_raw_text() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert record_line(record(deep)).text.startswith("[[[")
    assert record_object(record(deep))["text"] == deep.decode()


def test_an_event_cannot_write_to_the_terminal() -> None:
    line = record_line(record(event(**{"na\nme": "\x1b[2J" + "x" * 100})))
    assert line.text == r"na\nme=\x1b[2J" + "x" * 52 + "…"


def test_a_record_without_a_key_has_a_dash() -> None:
    assert record_line(record(b"x", key=None)).key == "-"


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (b'{"amount":\n 12.50}', '"value":{"amount":12.50}'),
        (b"null", '"value":null'),
        (None, '"value":null'),
        (b"NaN", '"text":"NaN"'),
        (b"", '"text":""'),
        (b"\xff", '"base64":"/w=="'),
    ],
)
def test_a_value_is_json_or_text_or_base64(value: bytes | None, part: str) -> None:
    line = json_lines([record_object(record(value))])
    assert part in line
    assert "\n" not in line
    assert json.loads(line)["headers"] == {"h": "\ufffdv"}


def test_a_key_that_is_no_text_is_base64() -> None:
    found = record_object(record(b"{}", key=b"\xff"))
    assert found["key_base64"] == "/w=="
    assert "key" not in found
