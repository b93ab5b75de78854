"""Each system's changelog is read as it writes it; words choose systems."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest

from bench.systems.all import ALL, LABELS, chosen
from bench.systems.faust import Faust
from bench.systems.headrace import Headrace
from bench.systems.kafka_streams import KafkaStreams
from bench.systems.quix import Quix
from bench.systems.system import label
from bench.work import Row, TableName

START_MS = 1_763_715_600_000
END_MS = START_MS + 60_000
CENTS = b'{"orders":2,"amount_cents":1030}'


@pytest.mark.parametrize(
    ("system", "table", "key", "value"),
    [
        (Headrace("exactly_once"), "user_orders", b"user-7", b'{"orders":2,"amount":10.3}'),
        (
            Headrace("exactly_once"),
            "user_order_minutes",
            b"user-7@%d" % START_MS,
            b'{"orders":2,"amount":10.3}',
        ),
        (KafkaStreams("exactly_once"), "user_orders", b"user-7", CENTS),
        (
            KafkaStreams("exactly_once"),
            "user_order_minutes",
            b"user-7" + struct.pack(">qi", START_MS, 0),
            CENTS,
        ),
        (Quix("exactly_once"), "user_orders", b'"user-7"|"row"', CENTS),
        (
            Quix("exactly_once"),
            "user_order_minutes",
            b'"user-7"|' + struct.pack(">QcQ", START_MS, b"|", END_MS),
            CENTS,
        ),
        (Faust(), "user_orders", b'"user-7"', CENTS),
        (
            Faust(),
            "user_order_minutes",
            b'["user-7",[%d.0,%d.9]]' % (START_MS // 1000, END_MS // 1000 - 1),
            CENTS,
        ),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_a_row_is_read_from_the_changelog(
    system: Headrace | KafkaStreams | Quix | Faust, table: TableName, key: bytes, value: bytes
) -> None:
    name = "user-7" if table == "user_orders" else f"user-7@{START_MS}"
    assert system.row(table, key, value) == (name, Row(2, 1030))


def test_quix_keeps_stream_times_among_its_rows() -> None:
    system = Quix("exactly_once")
    row = SimpleNamespace(headers=(("__column_family__", b"default"),))
    other = SimpleNamespace(headers=(("__column_family__", b"__latest-timestamps__"),))
    assert (system.is_row(row), system.is_row(other)) == (True, False)


def test_each_system_has_a_name_of_its_own() -> None:
    assert len({label(system) for system in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("words", "labels"),
    [
        ("headrace-eo", ["headrace-eo"]),
        ("quix", ["quix-eo", "quix-alo"]),
        (" aiokafka-read , headrace-alo", ["headrace-alo", "aiokafka-read"]),
    ],
)
def test_names_and_labels_choose_systems(words: str, labels: list[str]) -> None:
    assert [label(system) for system in chosen(words)] == labels


@pytest.mark.parametrize("words", ["flink", "headrace,flink", "", " , "])
def test_words_that_choose_nothing_are_refused_with_what_there_is(words: str) -> None:
    with pytest.raises(ValueError, match="headrace-eo") as refused:
        chosen(words)
    assert all(name in str(refused.value) for name in LABELS)
