"""The codec and the rules on one side, the oracle on the other: they never differ."""

import json
import re
from datetime import timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.high_value_orders.rules import high_value
from agents.vip_upgrades.rules import upgrade_vips
from demo.generator import OrderGenerator, partition_of
from demo.oracle import DeadLetter, Derived, Outcome, Source, diff, expect, judge, parse
from streams.engine.definitions import Topic
from streams.engine.records import Run
from streams.events import OrderCreated
from streams.topics import HIGH_VALUE_ORDERS, VIP_UPGRADES
from tables.definitions import USER_ORDERS, UserOrders
from tests.unit.wire import HOUR_MS, NOW_MS, ORDERS_CODEC, order

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
types = st.sampled_from(
    [
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
GOOD_DATA: dict[str, st.SearchStrategy[str]] = {
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
REQUIRED = {"event_id", "aggregate_id", "timestamp", "order_id", "user_id", "amount"}


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


@st.composite
def wire_values(draw: st.DrawFn) -> bytes:
    data = json_object(draw(fields(GOOD_DATA)))
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
any_values = st.one_of(
    wire_values(), mutated(wire_values()), mutated(plain), mutated(mutated(plain)), st.binary()
)


# --- verdicts -------------------------------------------------------------------------------------


def codec_verdicts(run: Run) -> list[Any]:
    """Return for each record the reason, None if skipped, or the parts of the event that count."""
    result = ORDERS_CODEC.decode(run)
    verdicts: list[Any] = [None] * len(run.values)
    for reject in result.rejects:
        verdicts[reject.at] = str(reject.reason)
    for index, event in zip(result.indexes, result.events, strict=True):
        data = event.data
        money = None
        if type(event) is OrderCreated:
            money = (data.amount_cents, "USD" if data.currency is None else data.currency)
        verdicts[index] = (event.event_id, event.timestamp, event.correlation, data.user_id, money)
    if result.indexes:
        assert len(result.rejects) + len(result.events) + result.skipped == len(run.values)
    return verdicts


def oracle_verdict(source: Source) -> Any:
    verdict = judge("orders", source, HOUR_MS)
    if verdict is None or isinstance(verdict, str):
        return verdict
    data = verdict["data"]
    money = None
    if verdict["event_type"] == "order.created":
        money = (int(data["amount"] * 100), data["currency"])
    return (
        verdict["event_id"],
        verdict["timestamp"],
        verdict["correlation_id"],
        data["user_id"],
        money,
    )


def run_of_sources(sources: list[Source]) -> Run:
    offsets, times_ms, keys, wire = zip(*sources, strict=True) if sources else ((), (), (), ())
    return Run(len(sources), offsets, times_ms, keys, wire)


def assert_same_verdicts(sources: list[Source]) -> None:
    expected = [oracle_verdict(source) for source in sources]
    assert codec_verdicts(run_of_sources(sources)) == expected
    for source, verdict in zip(sources, expected, strict=True):
        assert codec_verdicts(run_of_sources([source])) == [verdict]


keys = st.sampled_from([b"ada"] * 9 + [b"bob", b"", None])
kafka_times = st.sampled_from([NOW_MS] * 5 + [NOW_MS - HOUR_MS, NOW_MS - HOUR_MS - 1, -1, 0])


@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.builds(Source, st.just(0), kafka_times, keys, any_values | st.none()), max_size=4)
)
def test_codec_and_oracle_give_every_record_the_same_verdict(sources: list[Source]) -> None:
    assert_same_verdicts(sources)


@settings(max_examples=400, deadline=None)
@given(literal=numbers)
@example("0.57000000000000006")
@example("1." + "9" * 400)
@example("9" * 400)
def test_they_read_every_amount_the_same(literal: str) -> None:
    value = order(data={"amount": "@"}).replace(b'"@"', literal.encode())
    assert_same_verdicts([Source(0, NOW_MS, b"ada", value)])


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


def application(partitions: dict[int, list[Source]], rows_a_run: int) -> Outcome:
    """Return what codec and rules make of the records, taken in runs of `rows_a_run`."""
    outcome = Outcome(tables={"user_orders": {}}, derived={})
    for partition, sources in partitions.items():
        table: dict[str, UserOrders] = {}
        for at in range(0, len(sources), rows_a_run):
            chunk = sources[at : at + rows_a_run]
            result = ORDERS_CODEC.decode(run_of_sources(chunk))
            outcome.skipped["orders"] += result.skipped
            outcome.dead_letters += [
                DeadLetter("orders", partition, chunk[reject.at].offset, str(reject.reason))
                for reject in result.rejects
            ]
            created = [event for event in result.events if type(event) is OrderCreated]
            derived: dict[Topic, list[Any]] = {
                HIGH_VALUE_ORDERS: list(high_value(created, above_cents=100_000)),
                VIP_UPGRADES: list(upgrade_vips(created, table, at=10)),
            }
            for topic, events in derived.items():
                by_partition = outcome.derived.setdefault(topic.name, {})
                by_partition.setdefault(partition, []).extend(
                    Derived(topic.key(event).encode(), parse(msgspec.json.encode(event)))
                    for event in events
                )
        outcome.tables["user_orders"] |= {
            u: parse(USER_ORDERS.encode(row)) for u, row in table.items()
        }
    return outcome


def generated(count: int) -> dict[int, list[Source]]:
    partitions: dict[int, list[Source]] = {number: [] for number in range(3)}
    generator = OrderGenerator(seed=3, users=400, poison_share=0.05)
    for key, value in islice(generator.records(NOW_MS), count):
        sources = partitions[partition_of(key, 3)]
        sources.append(Source(len(sources), NOW_MS, key, value))
    return partitions


def test_rules_and_oracle_make_the_same_of_generated_records() -> None:
    partitions = generated(20_000)
    expected = expect({"orders": partitions})
    assert expected.dead_letters
    assert sum(map(len, expected.derived["high-value-orders"].values())) > 50
    assert sum(map(len, expected.derived["vip-upgrades"].values())) > 50
    for rows_a_run in (1, 7, 20_000):
        assert diff(expected, application(partitions, rows_a_run)) == []


def test_a_difference_is_told_in_a_line_each() -> None:
    records = {"orders": generated(5_000)}
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
