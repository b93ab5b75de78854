"""What the codec makes of a record: an event, a skip, or a refusal with its reason."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from streams.engine.codec import MAX_DEPTH, Codec
from streams.engine.definitions import Topic
from streams.engine.records import Reason, Run
from streams.events import OrderCreated, OrderPaid
from streams.topics import HIGH_VALUE_ORDERS, ORDERS
from tests.unit.wire import ABSENT, HOUR_MS, NOW_MS, decoded, order, order_with, run_of

EVENT = "event"
SKIPPED = "skipped"
UNDECODABLE, INVALID = Reason.UNDECODABLE, Reason.INVALID_FIELD


def verdict(value: bytes | None, **of_the_run: Any) -> str:
    """Return what became of the value, which must not depend on what lies around it."""
    alone = _verdicts(run_of(value, **of_the_run))
    among = _verdicts(_among_good_ones(run_of(value, **of_the_run)))
    assert among == [EVENT, EVENT, *alone, EVENT]
    return alone[0]


def _among_good_ones(run: Run) -> Run:
    two, one = run_of(order(), order()), run_of(order())
    return Run(
        next_offset=run.next_offset + 3,
        offsets=range(len(run.values) + 3),
        timestamps_ms=[*two.timestamps_ms, *run.timestamps_ms, *one.timestamps_ms],
        keys=[*two.keys, *run.keys, *one.keys],
        values=[*two.values, *run.values, *one.values],
    )


def _verdicts(run: Run) -> list[str]:
    result = ORDERS_CODEC.decode(run)
    assert len(result.events) + result.skipped + len(result.rejects) == len(run.values)
    assert len(result.events) == len(result.indexes)
    verdicts: list[str] = [SKIPPED] * len(run.values)
    for index in result.indexes:
        verdicts[index] = EVENT
    for reject in result.rejects:
        assert reject.message
        assert "\n" not in reject.message
        assert len(reject.message) <= 201
        verdicts[reject.at] = reject.reason
    return verdicts


ORDERS_CODEC = Codec(ORDERS, max_ahead_ms=HOUR_MS)


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def timed(text: str) -> bytes:
    return order(timestamp=text)


PLAIN = order()
CASES: dict[str, tuple[bytes | None, str]] = {
    "a plain order": (PLAIN, EVENT),
    "white space around": (b" \r\n\t" + PLAIN + b"\n", EVENT),
    "every optional field": (
        order(
            version=2,
            correlation_id="c",
            causation_id="d",
            aggregate_type="order",
            sequence=7,
            source="shop",
            metadata={"trace": ["x", {}]},
            data={"currency": "EUR", "items": []},
        ),
        EVENT,
    ),
    "null for every optional field": (
        order(
            version=None,
            correlation_id=None,
            causation_id=None,
            aggregate_type=None,
            sequence=None,
            source=None,
            metadata=None,
            data={"currency": None, "items": None},
        ),
        EVENT,
    ),
    "empty texts": (order(event_id="", aggregate_id="", data={"order_id": ""}), EVENT),
    "items that are no list": (order(data={"items": {"a": "b"}}), EVENT),
    "umlauts": (order(data={"currency": "Ü"}).replace(b"\\u00dc", "Ü".encode()), EVENT),
    "an escaped pair of surrogates": (order_with("currency", r'"\ud83d\ude00"'), EVENT),
    "an amount of 0": (order(data={"amount": 0}), EVENT),
    "an amount of -0.0": (order_with("amount", "-0.0"), EVENT),
    "the largest amount": (order_with("amount", "10000000000000"), EVENT),
    "the largest amount with cents": (order_with("amount", "9999999999999.99"), EVENT),
    "an amount with an exponent": (order_with("amount", "1.25E+1"), EVENT),
    "two decimals and zeros": (order_with("amount", "19.9900"), EVENT),
    "1e999 where nobody reads": (order_with("note", "1e999"), EVENT),
    "1e999 in the items": (order_with("items", "[1e999]"), EVENT),
    "a number of 5,000 digits where nobody reads": (order_with("note", "9" * 5000), EVENT),
    "a name twice, of which the last counts": (order_with("amount", '"x","amount":1'), EVENT),
    "as deep as may be": (order_with("note", deep(MAX_DEPTH - 2)), EVENT),
    "brackets in a text": (order(data={"note": '"[' * 5_000}), EVENT),
    "RFC 3339 in UTC": (timed("2025-11-21T09:00:00Z"), EVENT),
    "RFC 3339 with an offset": (timed("2025-11-21t10:30:00.123456789+01:30"), EVENT),
    "a null value": (None, SKIPPED),
    "an unknown type": (order(event_type="order.dreamt_of"), SKIPPED),
    "an unknown type, all else wrong": (b'{"event_type":"x","event_id":3,"data":NaN}', SKIPPED),
    "an empty type": (order(event_type=""), SKIPPED),
    "a type of another topic": (order(event_type="user.deleted"), SKIPPED),
    "a type that comes twice, unknown at last": (
        PLAIN[:-1] + b',"event_type":"order.dreamt_of"}',
        SKIPPED,
    ),
    "an empty value": (b"", UNDECODABLE),
    "no JSON": (b"order 1", UNDECODABLE),
    "cut off": (PLAIN[:-1], UNDECODABLE),
    "something behind it": (PLAIN + b"x", UNDECODABLE),
    "a byte order mark": (b"\xef\xbb\xbf" + PLAIN, UNDECODABLE),
    "UTF-16": (PLAIN.decode().encode("utf-16"), UNDECODABLE),
    "a list": (b"[" + PLAIN + b"]", UNDECODABLE),
    "a number": (b"3", UNDECODABLE),
    "null as text": (b"null", UNDECODABLE),
    "not a number, alone": (b"NaN", UNDECODABLE),
    "no UTF-8 in a listed field": (PLAIN.replace(b"o-1", b"\xff"), UNDECODABLE),
    "no UTF-8 where nobody reads": (
        order(data={"note": "@"}).replace(b"@", b"\xc3"),
        UNDECODABLE,
    ),
    "an encoded surrogate": (
        order(data={"note": "@"}).replace(b"@", b"\xed\xa0\x80"),
        UNDECODABLE,
    ),
    "half of a pair of surrogates": (order_with("order_id", r'"\ud800"'), UNDECODABLE),
    "half of a pair where nobody reads": (order_with("note", r'"\udc00"'), UNDECODABLE),
    "a control character": (order_with("note", '"\x01"'), UNDECODABLE),
    "a trailing comma": (PLAIN[:-1] + b",}", UNDECODABLE),
    "one level too deep": (order_with("note", deep(MAX_DEPTH - 1)), UNDECODABLE),
    "one level too deep, in items": (order_with("items", deep(MAX_DEPTH - 1)), UNDECODABLE),
    "far too deep": (order_with("note", deep(100_000)), UNDECODABLE),
    "far too deep, objects": (order_with("note", '{"a":' * 9_000 + "1" + "}" * 9_000), UNDECODABLE),
    "far too deep, of unknown type": (
        order_with("note", deep(9_000)).replace(b"order.created", b"x"),
        UNDECODABLE,
    ),
    "an unknown type, cut off": (order(event_type="order.dreamt_of")[:-1], UNDECODABLE),
    "an unknown type, no UTF-8": (
        order(event_type="x").replace(b"o-1", b"\xff"),
        UNDECODABLE,
    ),
    "no event type": (order(event_type=ABSENT), INVALID),
    "a number for the event type": (order(event_type=3), INVALID),
    "null for the event type": (order(event_type=None), INVALID),
    "an empty object": (b"{}", INVALID),
    "no event id": (order(event_id=ABSENT), INVALID),
    "null for the event id": (order(event_id=None), INVALID),
    "no aggregate id": (order(aggregate_id=ABSENT), INVALID),
    "no time": (order(timestamp=ABSENT), INVALID),
    "no data": (order(data=None), INVALID),
    "data that is no object": (order(data=[]), INVALID),
    "no user": (order(data={"user_id": ABSENT}), INVALID),
    "no order": (order(data={"order_id": ABSENT}), INVALID),
    "a number for the order": (order(data={"order_id": 1}), INVALID),
    "no amount": (order(data={"amount": ABSENT}), INVALID),
    "null for the amount": (order(data={"amount": None}), INVALID),
    "a text for the amount": (order(data={"amount": "1"}), INVALID),
    "true for the amount": (order(data={"amount": True}), INVALID),
    "a negative amount": (order(data={"amount": -0.01}), INVALID),
    "three decimals": (order(data={"amount": 0.001}), INVALID),
    "three decimals, large": (order_with("amount", "9999999999999.995"), INVALID),
    "above the largest amount": (order_with("amount", "10000000000000.01"), INVALID),
    "NaN": (order_with("amount", "NaN"), INVALID),
    "Infinity": (order_with("amount", "Infinity"), INVALID),
    "-Infinity": (order_with("amount", "-Infinity"), INVALID),
    "1e999": (order_with("amount", "1e999"), INVALID),
    "NaN where nobody reads": (order_with("note", "NaN"), INVALID),
    "NaN in the items": (order_with("items", "[1,NaN]"), INVALID),
    "a number for the currency": (order(data={"currency": 840}), INVALID),
    "a fraction for the version": (order(version=1.0), INVALID),
    "a negative version": (order(version=-1), INVALID),
    "true for the version": (order(version=True), INVALID),
    "a version beyond 64 bits": (order(version=2**63), INVALID),
    "metadata that is no object": (order(metadata="x"), INVALID),
    "a fraction for the time": (order(timestamp=1.5), INVALID),
    "a time before 1970": (order(timestamp=-1), INVALID),
    "a time after 9999": (order(timestamp=253_402_300_800_000), INVALID),
    "a time of 5,000 digits": (order_with("timestamp", "9" * 5000, place=""), INVALID),
    "a time without its offset": (timed("2025-11-21T09:00:00"), INVALID),
    "an offset without its colon": (timed("2025-11-21T09:00:00+0100"), INVALID),
    "a day that is none": (timed("2025-02-29T09:00:00Z"), INVALID),
    "hour 24": (timed("2025-02-28T24:00:00Z"), INVALID),
    "a leap second": (timed("2016-12-31T23:59:60Z"), INVALID),
    "a day alone": (timed("2025-02-28"), INVALID),
    "digits of another script": (timed("٢025-11-21T09:00:00Z"), INVALID),
    "RFC 3339 before 1970": (timed("1969-12-31T23:59:59.9999Z"), INVALID),
    "RFC 3339 after 9999": (timed("9999-12-31T23:59:59-01:00"), INVALID),
    "a time as text": (timed("1763715600000"), INVALID),
}


@pytest.mark.parametrize(("value", "expected"), CASES.values(), ids=CASES.keys())
def test_each_record_gets_its_verdict(value: bytes | None, expected: str) -> None:
    assert verdict(value) == expected


def test_the_key_must_be_the_users() -> None:
    assert verdict(PLAIN, key=b"ada") == EVENT
    assert verdict(PLAIN, key=b"bob") == Reason.KEY_MISMATCH
    assert verdict(PLAIN, key=b"") == Reason.KEY_MISMATCH
    assert verdict(PLAIN, key=None) == Reason.KEY_MISMATCH
    assert verdict(PLAIN, key=b"\xff" * 999) == Reason.KEY_MISMATCH


def test_a_key_is_the_users_id_in_utf_8() -> None:
    assert verdict(order(data={"user_id": "Zoë"}), key="Zoë".encode()) == EVENT
    assert verdict(order(data={"user_id": "Zoë"}), key="Zoë".encode("latin-1")) != EVENT


def test_a_key_is_not_looked_at_where_a_record_is_no_event_of_the_topic() -> None:
    assert verdict(None, key=None) == SKIPPED
    assert verdict(order(event_type="order.dreamt_of"), key=None) == SKIPPED


def test_an_event_may_be_as_far_ahead_as_the_setting_and_no_further() -> None:
    assert verdict(PLAIN, kafka_time_ms=NOW_MS - HOUR_MS) == EVENT
    assert verdict(PLAIN, kafka_time_ms=NOW_MS - HOUR_MS - 1) == Reason.TIMESTAMP_AHEAD
    assert verdict(timed("2025-11-21T11:00:00.001Z")) == Reason.TIMESTAMP_AHEAD


def test_without_a_kafka_time_nothing_is_ahead() -> None:
    assert verdict(PLAIN, kafka_time_ms=-1) == EVENT


def test_the_first_reason_counts() -> None:
    ahead_ms = NOW_MS + 2 * HOUR_MS
    assert verdict(order(timestamp=ahead_ms), key=b"bob") == Reason.KEY_MISMATCH
    wrong = order(timestamp=ahead_ms, data={"amount": 0.001})
    assert verdict(wrong, key=b"bob") == INVALID


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.0009999Z", 0),
        ("2025-11-21T09:00:00.1239999999Z", NOW_MS + 123),
        ("2025-11-21 09:00:00.5z", NOW_MS + 500),
        ("2025-11-21T08:00:00-01:00", NOW_MS),
        ("9999-12-31T23:59:59.9999999Z", 253_402_300_799_999),
    ],
)
def test_a_time_of_text_comes_out_in_whole_ms_the_rest_cut_off(text: str, time_ms: int) -> None:
    result = decoded(timed(text), kafka_time_ms=time_ms)
    assert [event.timestamp for event in result.events] == [time_ms]
    assert type(result.events[0].timestamp) is int


def test_events_come_out_typed_in_offset_order_with_where_they_came_from() -> None:
    paid = order(event_type="order.paid", data={"payment_id": "p-1"})
    result = decoded(paid, None, b"x", order(event_id="e-2"))
    assert result.indexes == [0, 3]
    assert [type(event) for event in result.events] == [OrderPaid, OrderCreated]
    assert [event.event_id for event in result.events] == ["e-1", "e-2"]
    assert (result.skipped, [reject.at for reject in result.rejects]) == (1, [2])


def test_the_last_of_a_name_that_comes_twice_counts() -> None:
    result = decoded(order_with("amount", '5,"amount":7'), order_with("amount", '"x","amount":7'))
    assert [event.data.amount for event in result.events] == [7, 7]


def test_a_run_may_be_empty() -> None:
    result = decoded()
    assert (list(result.indexes), list(result.events), result.skipped) == ([], [], 0)
    assert list(result.rejects) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (order(data={"amount": -1}), "data.amount: Expected `float` >= 0.0"),
        (order(data={"amount": 0.001}), "data.amount: 0.001 has more than two decimals"),
        (order_with("amount", "NaN"), "amount: NaN is no JSON number"),
        (order_with("items", "[NaN]"), "items: NaN is no JSON number"),
        (order_with("items", "[1, NaN]"), "a field: NaN is no JSON number"),
        (order(event_id=ABSENT), "Object missing required field `event_id`"),
        (timed("yesterday"), "timestamp: 'yesterday' is no RFC 3339 time"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_refusal_names_the_field(value: bytes, words: str) -> None:
    assert [reject.message for reject in decoded(value).rejects] == [words]


def test_a_refusal_shows_no_long_texts() -> None:
    result = decoded(timed("x" * 999), order(data={"user_id": "y" * 999}), key=b"z" * 999)
    assert [len(reject.message) <= 201 for reject in result.rejects] == [True, True]


def test_a_topic_of_one_event_type_is_read_as_strictly() -> None:
    codec = Codec(HIGH_VALUE_ORDERS, max_ahead_ms=HOUR_MS)
    result = codec.decode(run_of(b"{}", b'{"event_type":"order.created"}', b'{"event_type":""}'))
    assert [reject.message for reject in result.rejects] == [
        "Object missing required field `event_type`"
    ]
    assert result.skipped == 2


def test_event_types_that_tell_their_type_in_different_fields_are_no_topic() -> None:
    class Other(msgspec.Struct, tag_field="kind"):
        event_id: str

    for events in ((OrderCreated, Other), (msgspec.defstruct("Untagged", []),)):
        with pytest.raises(ValueError, match="one tag field"):
            Codec(Topic("mixed", events=events, key=str), max_ahead_ms=0)


def test_a_fault_keeps_what_came_before_it_and_parses_nothing_twice() -> None:
    """The codec counts on list.extend() keeping what an iterator gave before it raised."""

    def two_and_a_fault() -> Iterator[int]:
        yield from (1, 2)
        raise ValueError("a fault")

    kept: list[int] = []
    with pytest.raises(ValueError, match="a fault"):
        kept.extend(two_and_a_fault())
    assert kept == [1, 2]
