from __future__ import annotations

import pytest

from commands.event_lines import Check, Line, event_lines, keys_for, lines_as_they_are
from streams.topics import HIGH_VALUE_ORDERS, ORDERS
from tests.unit.wire import HOUR_MS, NOW_MS, order

DECLARED = keys_for(ORDERS, keyed=False, key_field=None)
KEYED = keys_for(ORDERS, keyed=True, key_field=None)


def found(*lines: bytes, keyed: bool = False) -> list[str]:
    keys = KEYED if keyed else DECLARED
    return list(Check(ORDERS, HOUR_MS).faults(event_lines(lines, keys), NOW_MS))


def test_the_key_is_the_topic_s_own_unless_another_is_asked_for() -> None:
    value = order(data={"order_id": "o-9"})
    by_order = keys_for(ORDERS, keyed=False, key_field="data.order_id")
    elsewhere = keys_for(None, keyed=False, key_field=None)
    assert [next(event_lines([value], keys)).key for keys in (DECLARED, by_order, elsewhere)] == [
        b"ada",
        b"o-9",
        None,
    ]


@pytest.mark.parametrize("user", ["7", "null", "{}", "[]", "1.5", '"ada"', None])
def test_a_key_is_a_text_or_a_whole_number(user: str | None) -> None:
    value = b'{"data":{%b}}' % (b"" if user is None else b'"user_id":' + user.encode())
    expected = {"7": b"7", '"ada"': b"ada"}
    assert next(event_lines([value], DECLARED)).key == (expected.get(user) if user else None)


def test_lines_are_counted_with_the_blank_ones() -> None:
    assert [
        (line.number, line.value) for line in event_lines([b"{}\r\n", b"\n", b"[]"], KEYED)
    ] == [
        (1, b"{}"),
        (3, b"[]"),
    ]


def test_as_they_are_nothing_is_taken_off_but_the_line_feed() -> None:
    lines = [b" x \r\n", b"\n", b"k\tv", b"\xff"]
    assert list(lines_as_they_are(lines, DECLARED)) == [
        Line(1, None, b" x \r"),
        Line(2, None, b""),
        Line(3, None, b"k\tv"),
        Line(4, None, b"\xff"),
    ]
    no_tab = "no tab after a key"
    assert list(lines_as_they_are(lines[2:], KEYED)) == [
        Line(1, b"k", b"v"),
        Line(2, None, b"\xff", no_tab),
    ]


def test_each_line_that_workers_would_refuse_is_named_with_the_reason() -> None:
    lines = [order(), b"x", order(data={"amount": -1}), order(timestamp=NOW_MS + 2 * HOUR_MS)]
    assert [fault.split(": ")[:2] for fault in found(*lines)] == [
        ["line 2", "undecodable"],
        ["line 3", "invalid-field"],
        ["line 4", "timestamp-ahead"],
    ]


def test_lines_of_thousands_keep_their_numbers() -> None:
    lines = [order()] * 2_500
    lines[2_100] = b"x"
    assert [fault.split(":")[0] for fault in found(*lines)] == ["line 2101"]


def test_another_key_than_the_event_asks_for_is_a_fault() -> None:
    assert found(b"ada\t" + order(), keyed=True) == []
    assert found(b"bob\t" + order(), order(), keyed=True) == [
        "line 1: key-mismatch: key: 'ada' is what the event asks for, it is 'bob'",
        "line 2: no tab after a key",
    ]


def test_event_types_that_the_topic_does_not_know_are_counted_and_no_fault() -> None:
    check = Check(ORDERS, HOUR_MS)
    lines = [order(event_type="order.dreamt_of"), order()] * 2_000
    assert list(check.faults(event_lines(lines, DECLARED), NOW_MS)) == []
    assert check.skipped == 2_000


def test_elsewhere_each_line_must_be_a_json_object() -> None:
    keys = keys_for(None, keyed=False, key_field=None)
    lines = event_lines([b"{}", b"[]", b"NaN", b"\xff"], keys)
    assert list(Check(None, HOUR_MS).faults(lines, NOW_MS)) == [
        f"line {number}: no JSON object" for number in (2, 3, 4)
    ]


def test_derived_events_are_checked_as_well() -> None:
    keys = keys_for(HIGH_VALUE_ORDERS, keyed=False, key_field=None)
    [fault] = Check(HIGH_VALUE_ORDERS, HOUR_MS).faults(event_lines([b"{}"], keys), NOW_MS)
    assert fault.startswith("line 1: invalid-field: ")
