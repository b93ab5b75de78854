"""The codec and the rules on one side, the oracle on the other: they never differ."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.high_value_orders.rules import high_value
from agents.user_order_minutes.rules import count_minutes
from agents.users.rules import keep_users
from agents.vip_upgrades.rules import upgrade_vips
from demo.generator import OrderGenerator, partition_of
from demo.oracle import DeadLetter, Derived, Outcome, Source, diff, expect, judge, parse
from demo.poison import ODDITIES, OVERSIZED, POISONS, Oddity, Poison, Subject
from streams import topics
from streams.engine.codec import Codec
from streams.engine.definitions import Table, Topic
from streams.engine.records import Run
from streams.events import (
    OrderColumns,
    OrderCreated,
    PaymentCompleted,
    PaymentFailed,
    UserRegistered,
    UserStatusChanged,
    UserUpdated,
)
from streams.operators.columns import KeyedColumns, WindowedColumns
from streams.topics import HIGH_VALUE_ORDERS, VIP_UPGRADES
from tables.definitions import (
    USER_ORDER_MINUTES,
    USER_ORDERS,
    USERS,
    User,
    UserMinute,
    UserOrders,
)
from tests.unit.wire import HOUR_MS, NOW_MS, order

INPUTS = (topics.ORDERS, topics.USERS, topics.PAYMENTS)
CODECS = {topic.name: Codec(topic, HOUR_MS) for topic in INPUTS}

# --- JSON as odd as it gets -----------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-10, 10**16).map(str),
    st.integers(-10, 10**17).map(lambda cents: f"{cents // 100}.{abs(cents) % 100:02}"),
    st.decimals(0, 10**14, places=3).map(lambda d: f"{d:f}"),
    st.floats().map(json.dumps),
    st.floats(0, 1e13).map(repr),
    st.sampled_from(
        [
            "0",
            "-0",
            "-0.0",
            "0.0",
            "1E2",
            "1e-2",
            "1e-3",
            "1e-400",
            "-1e-400",
            "1e999",
            "-1e999",
            "NaN",
            "Infinity",
            "-Infinity",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "0e99",
            "10000000000000",
            "10000000000000.00",
            "10000000000000.01",
            "9999999999999.99",
            "1.0",
            "1000",
            "1000.0",
            "253402300799999",
            "253402300800000",
            "9223372036854775807",
            "9223372036854775808",
            "0.29",
            "1.005",
            "4.35",
            "18446744073709551616",
            "1000.0000000000000000001",
            "0.57000000000000006",
        ]
    ),
    st.from_regex(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)
offsets = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.one_of(
    st.integers(NOW_MS - 2 * HOUR_MS, NOW_MS + 2 * HOUR_MS).map(str),
    st.datetimes(timezones=offsets).map(lambda time: f'"{time.isoformat()}"'),
    st.from_regex(
        r'"(20[0-3][0-9]|9999|19[67][0-9]|000[01])-(0[0-9]|1[0-3])-[0-3][0-9]'
        r"[Tt _]([01][0-9]|2[0-5])"
        r':[0-6][0-9]:[0-6][0-9]([.,][0-9]{0,12})?(Z|z|[+-]([01][0-9]|2[0-4]):?[0-6][0-9]|)"',
        fullmatch=True,
    ),
    st.from_regex(
        r'"2025-11-21[Tt ](0[0-9]|1[0-9]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,12})?'
        r'(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"',
        fullmatch=True,
    ),
)
texts = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(
        [
            r'"\ud800"',
            r'"\udc00"',
            r'"\ud83d\ude00"',
            r'"\ud800\ud83d\ude00"',
            r'"\ud800\u0041"',
            r'"\\ud800"',
            r'"\x"',
            '"\x00"',
            '"\t"',
            '"\x7f"',
            "'a'",
            r'"\/"',
        ]
    ),
)
values = st.recursive(
    st.one_of(
        numbers, times, texts, st.sampled_from(["null", "true", "false", "nul", "", "{", "]"])
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: "[" + ",".join(parts) + "]"),
        st.lists(st.tuples(texts, inner), max_size=3).map(
            lambda pairs: "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"
        ),
    ),
    max_leaves=5,
)
order_types = st.sampled_from(
    [
        "order.created",
        "order.created",
        "order.updated",
        "order.confirmed",
        "order.paid",
        "order.shipped",
        "order.completed",
        "order.cancelled",
        "order.dreamt_of",
        "user.registered",
    ]
).map(json.dumps)
user_types = st.sampled_from(
    [
        "user.registered",
        "user.updated",
        "user.updated",
        "user.logged_in",
        "user.password_changed",
        "user.deleted",
        "user.status_changed",
        "user.dreamt_of",
        "order.created",
    ]
).map(json.dumps)
payment_types = st.sampled_from(
    ["payment.completed", "payment.failed", "payment.dreamt_of", "order.paid"]
).map(json.dumps)
any_string = st.sampled_from(['"ada"', '""', '"é"', r'"\u00e9"'])
money = st.integers(0, 10**8).map(lambda cents: f"{cents // 100}.{cents % 100:02}")
near_times = st.integers(NOW_MS - HOUR_MS, NOW_MS + HOUR_MS + 1).map(str)
plain_json = st.sampled_from(["null", "[]", '[{"quantity":1,"note":"é"}]', '"x"', "1e999", "true"])

GOOD: dict[str, st.SearchStrategy[str]] = {
    "event_id": any_string,
    "aggregate_id": any_string,
    "timestamp": near_times | near_times | times,
    "version": st.sampled_from(["1", "2", "null"]),
    "correlation_id": any_string,
    "causation_id": any_string | st.just("null"),
    "aggregate_type": any_string,
    "sequence": st.integers(0, 2**63 - 1).map(str),
    "source": any_string,
    "metadata": st.sampled_from(['{"a":[1,{}]}', "{}", "null"]),
    "note": plain_json | values,
}
ORDER_DATA: dict[str, st.SearchStrategy[str]] = {
    "order_id": any_string,
    "user_id": st.just('"ada"'),
    "amount": money | money | numbers,
    "currency": any_string,
    "items": plain_json,
    "payment_id": any_string,
    "tracking_no": any_string,
    "reason": any_string,
    "note": plain_json | values,
}
PROFILE: dict[str, st.SearchStrategy[str]] = {
    "username": any_string,
    "email": any_string | st.just("null"),
    "country": any_string,
    "note": plain_json | values,
}
REQUIRED = {
    "event_id", "aggregate_id", "timestamp", "order_id", "user_id", "amount", "changes", "status"
}  # fmt: skip


@st.composite
def fields(draw: st.DrawFn, good: dict[str, st.SearchStrategy[str]]) -> list[tuple[str, str]]:
    """Draw fields as name and JSON: good ones for the most part, each perhaps odd or absent."""
    drawn: list[tuple[str, str]] = []
    for name, good_values in good.items():
        if name not in REQUIRED and draw(st.booleans()):
            continue
        odd = draw(st.integers(0, 39))
        if odd == 0:
            continue
        drawn.append((name, draw(values if odd == 1 else good_values)))
        if odd == 2:  # the name comes twice
            drawn.append((name, draw(values | good_values)))
    return draw(st.permutations(drawn))


def json_object(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}"


USER_DATA: dict[str, st.SearchStrategy[str]] = {
    **PROFILE,
    "user_id": st.just('"ada"'),
    "changes": fields(PROFILE).map(json_object) | plain_json,
    "ip": any_string,
    "device": any_string | values,
    "status": any_string,
}


@st.composite
def wire_values(draw: st.DrawFn, topic: str) -> bytes:
    types, good_data = {
        "orders": (order_types, ORDER_DATA),
        "users": (user_types, USER_DATA),
        "payments": (payment_types, ORDER_DATA),
    }[topic]
    data = json_object(draw(fields(good_data)))
    pairs = draw(fields(GOOD))
    pairs += [("event_type", draw(types)), ("data", data)]
    odd = draw(st.integers(0, 39))
    if odd == 0:
        pairs.append((draw(st.sampled_from(["event_type", "data"])), draw(values | types)))
    if odd == 1:
        pairs.pop(draw(st.integers(-2, -1)))
    text = json_object(draw(st.permutations(pairs)))
    return text.encode("utf-8", errors="surrogatepass")


@st.composite
def mutated(draw: st.DrawFn, base: st.SearchStrategy[bytes]) -> bytes:
    """Draw a value and then cut a piece out of it, put one in, or both."""
    value = draw(base)
    start = draw(st.integers(0, len(value)))
    end = min(len(value), start + draw(st.integers(0, 3)))
    piece = draw(
        st.binary(max_size=3)
        | st.sampled_from(
            [b",", b"{", b"}", b'"', b"\\", b"0", b"-", b" ", b"null", b"\xef\xbb\xbf"]
        )
    )
    return value[:start] + piece + value[end:]


plain = st.sampled_from(
    [
        order(data={"items": [{"product_id": "p", "quantity": 1, "unit_price": 19.99}]}),
        order(event_type="order.paid", data={"payment_id": "é"}),
        order(event_type="order.dreamt_of"),
        order(data={"note": "\U0001f600"}),
    ]
)


def any_values(topic: str) -> st.SearchStrategy[bytes]:
    drawn = wire_values(topic)
    return st.one_of(drawn, mutated(drawn), mutated(plain), mutated(mutated(plain)), st.binary())


# --- verdicts -------------------------------------------------------------------------------------


def codec_verdicts(run: Run, topic: str = "orders") -> list[Any]:
    """Return for each record the reason, None if skipped, or the parts of the event that count."""
    result = CODECS[topic].decode(run)
    verdicts: list[Any] = [None] * len(run.values)
    for reject in result.rejects:
        verdicts[reject.at] = str(reject.reason)
    for index, event in zip(result.indexes, result.events, strict=True):
        data = event.data
        more: Any = None
        if type(event) is OrderCreated:
            more = (round(data.amount * 100), "USD" if data.currency is None else data.currency)
        elif type(event) in (UserRegistered, UserUpdated):
            told = data.changes if type(event) is UserUpdated else data
            more = (told.username, told.email, told.country)
        elif type(event) is UserStatusChanged:
            more = data.status
        elif type(event) in (PaymentCompleted, PaymentFailed):
            cents = None if data.amount is None else round(data.amount * 100)
            more = (data.order_id, data.payment_id, cents)
        verdicts[index] = (event.event_id, event.timestamp, event.correlation, data.user_id, more)
    if result.indexes:
        assert len(result.rejects) + len(result.events) + result.skipped == len(run.values)
    return verdicts


def oracle_verdict(source: Source, topic: str) -> Any:
    verdict = judge(topic, source, HOUR_MS)
    if verdict is None or isinstance(verdict, str):
        return verdict
    data = verdict["data"]
    more: Any = None
    match verdict["event_type"]:
        case "order.created":
            more = (int(data["amount"] * 100), data["currency"])
        case "user.registered" | "user.updated":
            told = data.get("changes", data)
            more = (told["username"], told["email"], told["country"])
        case "user.status_changed":
            more = data["status"]
        case "payment.completed" | "payment.failed":
            cents = None if data["amount"] is None else int(data["amount"] * 100)
            more = (data["order_id"], data["payment_id"], cents)
    return (
        verdict["event_id"],
        verdict["timestamp"],
        verdict["correlation_id"],
        data["user_id"],
        more,
    )


def run_of_sources(sources: list[Source]) -> Run:
    offsets, times_ms, keys, wire = zip(*sources, strict=True) if sources else ((), (), (), ())
    return Run(len(sources), offsets, times_ms, keys, wire)


def assert_same_verdicts(sources: list[Source], topic: str = "orders") -> None:
    expected = [oracle_verdict(source, topic) for source in sources]
    assert codec_verdicts(run_of_sources(sources), topic) == expected
    for source, verdict in zip(sources, expected, strict=True):
        assert codec_verdicts(run_of_sources([source]), topic) == [verdict]


keys = st.sampled_from([b"ada"] * 9 + [b"bob", b"", None])
kafka_times = st.sampled_from([NOW_MS] * 5 + [NOW_MS - HOUR_MS, NOW_MS - HOUR_MS - 1, -1, 0])


def sources(topic: str) -> st.SearchStrategy[list[Source]]:
    wire = any_values(topic) | st.none()
    return st.lists(st.builds(Source, st.just(0), kafka_times, keys, wire), max_size=4)


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources("orders"))
def test_codec_and_oracle_give_every_order_the_same_verdict(sources: list[Source]) -> None:
    assert_same_verdicts(sources)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources("users"))
def test_codec_and_oracle_give_every_user_event_the_same_verdict(sources: list[Source]) -> None:
    assert_same_verdicts(sources, "users")


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(sources("payments"))
def test_codec_and_oracle_give_every_payment_the_same_verdict(sources: list[Source]) -> None:
    assert_same_verdicts(sources, "payments")


@pytest.mark.parametrize("topic", ["orders", "users", "payments"])
def test_they_agree_on_every_poison_and_oddity_alone_and_together(topic: str) -> None:
    subject = Subject(b"o-1", b"ada", NOW_MS)
    # In the wrong topic, too.
    kinds: list[Poison | Oddity] = [*POISONS, *ODDITIES, *OVERSIZED]
    assert_same_verdicts([Source(0, NOW_MS, *kind.make(subject)) for kind in kinds], topic)


@settings(max_examples=400, deadline=None)
@given(literal=numbers)
@example("0.57000000000000006")
@example("1." + "9" * 400)
@example("9" * 400)
def test_they_read_every_amount_the_same(literal: str) -> None:
    for topic, event_type in (("orders", "order.created"), ("payments", "payment.failed")):
        value = order(event_type=event_type, data={"amount": "@"})
        value = value.replace(b'"@"', literal.encode())
        assert_same_verdicts([Source(0, NOW_MS, b"ada", value)], topic)


@settings(max_examples=400, deadline=None)
@given(literal=times)
def test_they_read_every_time_the_same(literal: str) -> None:
    value = order(timestamp="@").replace(b'"@"', literal.encode())
    assert_same_verdicts([Source(0, 253_402_300_799_999, b"ada", value)])


@given(cents=st.integers(0, 10**15), digits=st.integers(0, 6))
def test_every_amount_of_whole_cents_is_read_to_the_cent(cents: int, digits: int) -> None:
    literal = f"{Decimal(cents).scaleb(-2):f}"
    if "." in literal:
        literal += "0" * digits
    value = order(data={"amount": "@"}).replace(b'"@"', literal.encode())
    (verdict,) = codec_verdicts(run_of_sources([Source(0, NOW_MS, b"ada", value)]))
    assert verdict[-1] == (cents, "USD")


# --- outcomes -------------------------------------------------------------------------------------

Partitions = dict[str, dict[int, list[Source]]]


def application(records: Partitions, rows_a_run: int) -> Outcome:
    """Return what codec and rules make of the records, taken in runs of `rows_a_run`.

    Without the enriched orders, which need both topics in turn: tests/flows/test_oracle.py has them.
    """
    outcome = Outcome(tables={"users": {}, "user_orders": {}, "user_order_minutes": {}}, derived={})
    for partition, sources in records["orders"].items():
        table = KeyedColumns(UserOrders)
        minutes = WindowedColumns(UserMinute, USER_ORDER_MINUTES.windows)
        for run in runs_of("orders", partition, sources, rows_a_run, outcome):
            created = [event for event in run if type(event) is OrderCreated]
            columns = OrderColumns.of(created)
            derived: dict[Topic, list[Any]] = {
                HIGH_VALUE_ORDERS: list(high_value(created, above_cents=100_000)),
                VIP_UPGRADES: list(upgrade_vips(columns, table, at=10)),
            }
            for topic, events in derived.items():
                by_partition = outcome.derived.setdefault(topic.name, {})
                by_partition.setdefault(partition, []).extend(
                    Derived(topic.key(event).encode(), parse(msgspec.json.encode(event)))
                    for event in events
                )
            count_minutes(columns, minutes)
        outcome.late += minutes.stream_time.late
        outcome.tables["user_orders"] |= rows_of(USER_ORDERS, table.as_dict())
        outcome.tables["user_order_minutes"] |= rows_of(USER_ORDER_MINUTES, minutes.as_dict())
    for partition, sources in records["users"].items():
        known: dict[str, User] = {}
        for run in runs_of("users", partition, sources, rows_a_run, outcome):
            keep_users(run, known)
        outcome.tables["users"] |= rows_of(USERS, known)
    return outcome


def runs_of(
    topic: str, partition: int, sources: list[Source], rows_a_run: int, outcome: Outcome
) -> Iterator[list[Any]]:
    """Yield each run's events, and tell the outcome of the other records."""
    for at in range(0, len(sources), rows_a_run):
        chunk = sources[at : at + rows_a_run]
        result = CODECS[topic].decode(run_of_sources(chunk))
        outcome.skipped[topic] += result.skipped
        outcome.dead_letters += [
            DeadLetter(topic, partition, chunk[reject.at].offset, str(reject.reason))
            for reject in result.rejects
        ]
        yield list(result.events)


def rows_of(table: Table[Any], rows: Mapping[Any, Any]) -> dict[str, Any]:
    return {table.key_text(key): parse(table.encode(row)) for key, row in rows.items()}


def generated(count: int) -> Partitions:
    records: Partitions = {topic: {n: [] for n in range(3)} for topic in ("users", "orders")}
    generator = OrderGenerator(seed=3, users=400, poison_share=0.05)
    for topic, key, value in islice(generator.records(NOW_MS), count):
        sources = records[topic][partition_of(key, 3)]
        sources.append(Source(len(sources), NOW_MS, key, value))
    return records


def test_rules_and_oracle_make_the_same_of_generated_records() -> None:
    records = generated(20_000)
    expected = expect(records)
    assert expected.derived.pop("enriched-orders")
    assert {letter.topic for letter in expected.dead_letters} == {"users", "orders"}
    assert all(len(rows) > 300 for rows in expected.tables.values())
    assert sum(map(len, expected.derived["high-value-orders"].values())) > 50
    assert sum(map(len, expected.derived["vip-upgrades"].values())) > 50
    for rows_a_run in (1, 7, 20_000):
        assert diff(expected, application(records, rows_a_run)) == []


def test_a_difference_is_told_in_a_line_each() -> None:
    records = generated(5_000)
    expected, actual = expect(records), expect(records)
    user = next(iter(actual.tables["user_orders"]))
    del actual.tables["user_orders"][user]
    high = actual.derived["high-value-orders"]
    partition = next(iter(high))
    high[partition][0].event["data"]["alert_sent"] = False
    high[partition][1] = high[partition][1]._replace(key=None)
    high[partition].append(Derived(None, {}))
    actual.dead_letters[0] = DeadLetter("orders", 9, 9, "undecodable")
    actual.dead_letters.append(DeadLetter("orders", 9, 9, "undecodable"))
    actual.skipped["orders"] += 1
    actual.late += 1
    shapes = [re.sub(r"[0-9]+", "0", line.split(":")[0]) for line in diff(expected, actual)]
    assert shapes == [
        "user_orders[user-0]",
        "high-value-orders[0] #0",
        "high-value-orders[0] #0",
        "high-value-orders[0]",
        "dead-letters",
        "dead-letters",
        "dead-letters",
        "skipped",
        "late",
    ]
