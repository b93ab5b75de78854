"""What follows from a topology, and which topologies cannot be."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from streams.engine.definitions import (
    Columnar,
    Flow,
    PaneTable,
    RepartitionTopic,
    Table,
    TimedTable,
    Topic,
    Topology,
    WindowedTable,
)
from streams.engine.errors import DefinitionError
from streams.engine.layout import own_topics, subtopologies
from streams.engine.notes import LONGEST, longest_note
from streams.engine.records import TopicPartition
from streams.operators.aggregates import count
from streams.operators.panes import PaneAggregation
from streams.operators.windowing import HoppingWindows
from streams.operators.windows import TumblingWindows

ORDERS, USERS, VISITS, CLICKS, OUT = (
    Topic(name, (), str) for name in ("orders", "users", "visits", "clicks", "out")
)


LAST = Topic("last", (), str, keeps_last=True)
BY_PRICE, BY_CITY = (RepartitionTopic(name, (), str) for name in ("by-price", "by-city"))


class Sum(msgspec.Struct):
    total: int = 0


PROFILES: Table[Any] = Table("profiles", bytes, bytes)
COUNTS: Table[Any] = Table("counts", bytes, bytes)
OTHER_COUNTS: Table[Any] = Table("counts", bytes, str)
VISITED: Table[Any] = Table("visited", bytes, bytes)
SUMS: Table[Any] = Table("sums", bytes, bytes, columns=Columnar(Sum, list))
MINUTES: WindowedTable[Any] = WindowedTable("minutes", bytes, bytes, TumblingWindows(60_000, 0))
OPEN: TimedTable[Any] = TimedTable("open", bytes, bytes, lambda _: 0)


def flow(name: str, *reads: Topic, **touches: Any) -> Flow:
    return Flow(lambda _: None, name, reads, **touches)


def topology(*flows: Flow) -> Topology:
    return Topology(flows, dead_letters="dead-letters")


def test_one_flow_cannot_be_there_twice() -> None:
    count_ = flow("count", ORDERS)
    with pytest.raises(DefinitionError, match=r"^two flows are called count$"):
        subtopologies(topology(count_, count_))


def names(made: Topology) -> dict[str, list[str]]:
    return {s.name: [f.name for f in s.flows] for s in subtopologies(made)}


REFUSED = {
    "repartition topic by-price: one flow of the group emits to it, and another reads it": topology(
        flow("price", ORDERS, emits=BY_PRICE)
    ),
    "repartition topics by-city and by-price feed each other: a record would never come to an end": topology(
        flow("price", BY_CITY, emits=BY_PRICE), flow("city", BY_PRICE, emits=BY_CITY)
    ),
    "two flows are called count": topology(flow("count", ORDERS), flow("count", USERS)),
    "two flows are called by_price, which emit to repartition topic by-price: merge streams before "
    "key_by": topology(
        flow("by_price", ORDERS, emits=BY_PRICE),
        flow("by_price", USERS, emits=BY_PRICE),
        flow("price", BY_PRICE),
    ),
    "flow count reads no topic": topology(flow("count")),
    "topic by-price of flow other has other events or another key than that of flow price: name one of "
    "them otherwise, or let both use one Topic": topology(
        flow("price", ORDERS, emits=BY_PRICE),
        flow("other", USERS, emits=RepartitionTopic("by-price", (Sum,), str)),
        flow("prices", BY_PRICE),
    ),
    "flow look looks things up in table counts, and flow count keeps another one of that name: "
    "they would not read its rows the same": topology(
        flow("count", ORDERS, keeps=COUNTS),
        flow("look", USERS, global_tables=(OTHER_COUNTS,)),
    ),
    "flow enrich looks things up in table counts, and flow count keeps another one of that name: "
    "they would not read its rows the same": topology(
        flow("count", ORDERS, keeps=COUNTS),
        flow("enrich", USERS, joins=(OTHER_COUNTS,)),
    ),
    "table counts is written by two flows, one and two": topology(
        flow("one", ORDERS, keeps=COUNTS), flow("two", ORDERS, keeps=COUNTS)
    ),
    "flow enrich joins table profiles, which no flow keeps": topology(
        flow("enrich", ORDERS, joins=(PROFILES,)), flow("count", ORDERS, keeps=COUNTS)
    ),
    "flow enrich joins table counts, which another flow keeps from the same input orders: "
    "let one flow do both": topology(
        flow("count", ORDERS, keeps=COUNTS), flow("enrich", USERS, ORDERS, joins=(COUNTS,))
    ),
    "flow enrich joins table minutes, which is windowed: a key has no one row in it": topology(
        flow("count", ORDERS, keeps=MINUTES), flow("enrich", USERS, joins=(MINUTES,))
    ),
    "flow enrich joins table sums, which is kept in columns: nobody can look up a row as of a "
    "turn": topology(flow("sum", ORDERS, keeps=SUMS), flow("enrich", USERS, joins=(SUMS,))),
    "flows one and two emit to topic last, which keeps the last of each key: one flow alone can": topology(
        flow("one", ORDERS, emits=LAST), flow("two", USERS, emits=LAST)
    ),
    "flow look looks up global table profiles, which no flow of the group keeps": topology(
        flow("look", ORDERS, global_tables=(PROFILES,)),
    ),
    "flow look looks up global table counts, which it keeps or joins: that has the rows of its keys as of "
    "their turn": topology(flow("look", ORDERS, keeps=COUNTS, global_tables=(COUNTS,))),
    "flow look looks up global table open, which holds what is open until event time closes it: its flow "
    "alone can read it": topology(
        flow("keep", ORDERS, keeps=OPEN, fires=lambda *_: (None, [])),
        flow("look", USERS, global_tables=(OPEN,)),
    ),
    "inputs orders and users are each joined with a table that is kept from another of them, or named "
    "behind it by a flow that sees their order": topology(
        flow("one", ORDERS, keeps=COUNTS, joins=(PROFILES,)),
        flow("two", USERS, keeps=PROFILES, joins=(COUNTS,)),
    ),
    "inputs orders and users and visits are each joined with a table that is kept from another "
    "of them, or named behind it by a flow that sees their order": topology(
        flow("one", ORDERS, keeps=COUNTS, joins=(PROFILES,)),
        flow("two", USERS, keeps=PROFILES, joins=(VISITED,)),
        flow("three", VISITS, keeps=VISITED, joins=(COUNTS,)),
    ),
}


@pytest.mark.parametrize(("line", "refused"), REFUSED.items(), ids=REFUSED.keys())
def test_a_topology_that_cannot_be_is_refused_by_name(line: str, refused: Topology) -> None:
    with pytest.raises(DefinitionError) as raised:
        subtopologies(refused)
    assert str(raised.value) == line


def wide(inputs: int, longer: int) -> Topology:
    """Return flows that move together, each with an input and a windowed table of long names."""
    topics = [Topic(f"input-{number:0243}", (), str) for number in range(inputs)]
    tables = [
        WindowedTable("t" * longer + f"table-{number}", bytes, bytes, TumblingWindows(60_000, 0))
        for number in range(inputs)
    ]
    flows = (flow(f"f{n}", topics[0], topic, keeps=tables[n]) for n, topic in enumerate(topics))
    return topology(*flows)


def test_what_a_commit_notes_may_be_as_long_as_kafka_takes_and_no_longer() -> None:
    def longest(made: Topology) -> int:
        tables = [table.name for table in made.tables]
        return longest_note([topic.name for topic in made.inputs], tables, tables)

    at_most = next(n for n in range(1_000) if longest(wide(10, n + 1)) > LONGEST)
    assert LONGEST - 20 < longest(wide(10, at_most)) <= LONGEST  # ten tables' names, twice each
    [subtopology] = subtopologies(wide(10, at_most))
    assert len(subtopology.inputs) == 10
    with pytest.raises(
        DefinitionError, match=r"the 10 inputs and 10 tables that move together .* 4,"
    ):
        subtopologies(wide(10, at_most + 1))


def test_flows_that_share_an_input_move_together() -> None:
    assert names(topology(flow("a", ORDERS), flow("b", VISITS), flow("c", ORDERS))) == {
        "orders": ["a", "c"],
        "visits": ["b"],
    }


def test_a_flow_moves_with_the_one_whose_table_it_joins() -> None:
    made = topology(flow("enrich", ORDERS, joins=(PROFILES,)), flow("fold", USERS, keeps=PROFILES))
    [subtopology] = subtopologies(made)
    assert subtopology.name == "orders"
    assert subtopology.tables == (PROFILES,)


def test_a_flow_that_bridges_two_groups_makes_them_one_in_topology_order() -> None:
    made = topology(
        flow("a", ORDERS), flow("b", VISITS), flow("c", CLICKS), flow("d", VISITS, ORDERS)
    )
    assert names(made) == {"clicks": ["c"], "orders": ["a", "b", "d"]}


def test_flows_that_share_an_output_alone_stay_apart() -> None:
    assert (
        len(subtopologies(topology(flow("a", ORDERS, emits=OUT), flow("b", USERS, emits=OUT)))) == 2
    )


def test_the_inputs_of_joined_tables_come_first() -> None:
    made = topology(flow("enrich", ORDERS, joins=(PROFILES,)), flow("fold", USERS, keeps=PROFILES))
    [subtopology] = subtopologies(made)
    assert subtopology.partitions(3) == [TopicPartition("users", 3), TopicPartition("orders", 3)]
    assert subtopology.task_id(3) == "orders-3"


def test_tables_that_are_joined_on_the_way_to_another_come_first_of_all() -> None:
    made = topology(
        flow("c", ORDERS, joins=(VISITED,)),
        flow("b", VISITS, keeps=VISITED, joins=(PROFILES,)),
        flow("a", USERS, keeps=PROFILES),
    )
    [subtopology] = subtopologies(made)
    assert [topic.name for topic in subtopology.inputs] == ["users", "visits", "orders"]
    assert subtopology.joined == (VISITED, PROFILES)


def test_the_readers_of_a_topic_are_told_in_topology_order() -> None:
    [subtopology] = subtopologies(
        topology(flow("b", ORDERS, VISITS), flow("a", ORDERS), flow("c", VISITS))
    )
    assert [f.name for f in subtopology.readers("orders")] == ["b", "a"]
    assert [f.name for f in subtopology.readers("visits")] == ["b", "c"]


def test_adding_a_flow_elsewhere_renames_no_task() -> None:
    before = names(topology(flow("a", ORDERS), flow("b", VISITS)))
    after = names(topology(flow("new", CLICKS), flow("a", ORDERS), flow("b", VISITS)))
    assert before.items() <= after.items()


def test_the_topics_that_it_writes_are_outputs_dead_letters_and_changelogs() -> None:
    topics = own_topics(
        topology(flow("a", ORDERS, emits=OUT, keeps=COUNTS), flow("b", USERS, keeps=PROFILES)),
        "shop",
    )
    assert list(topics) == [
        "out",
        "dead-letters",
        "shop-counts-changelog",
        "shop-profiles-changelog",
    ]
    assert topics["shop-counts-changelog"]["cleanup.policy"] == "compact"
    assert topics["out"]["retention.ms"] == topics["dead-letters"]["retention.ms"] == "-1"


def test_a_flow_that_reads_several_inputs_sees_their_order() -> None:
    [one] = subtopologies(topology(flow("a", ORDERS, keeps=COUNTS), flow("b", ORDERS)))
    [several] = subtopologies(topology(flow("a", ORDERS, USERS, keeps=COUNTS)))
    assert (one.in_order_ms, several.in_order_ms) == (None, 0)


def test_inputs_are_interleaved_where_their_order_shows_and_all_tables_are_plain() -> None:
    both, other = flow("a", ORDERS, USERS, keeps=COUNTS), flow("b", ORDERS, keeps=PROFILES)
    for made, interleaves in (
        (topology(both, other), True),
        (topology(flow("a", ORDERS, keeps=COUNTS), other), False),
        (topology(both, flow("b", ORDERS, keeps=SUMS)), False),
        (topology(both, flow("b", ORDERS, keeps=MINUTES)), False),
        (
            topology(both, flow("b", USERS, keeps=PROFILES), flow("c", ORDERS, joins=(PROFILES,))),
            False,
        ),
    ):
        [subtopology] = subtopologies(made)
        assert subtopology.interleaves == interleaves


@pytest.mark.parametrize(
    ("type_", "default"), [(float, 0.0), (str, ""), (int, msgspec.NODEFAULT), (int, False)]
)
def test_rows_in_columns_are_of_whole_numbers_and_truth_values_each_with_a_default(
    type_: type[object], default: object
) -> None:
    row = msgspec.defstruct("Row", [("field", type_, default)])
    with pytest.raises(
        DefinitionError, match=r"Row\.field: rows in columns have fields of int and"
    ):
        Columnar(row, list)


ALARMS = TimedTable("alarms", str.encode, bytes.decode, len, in_order_ms=7)


def fire(_key: str, row: str, _now_ms: int) -> tuple[str, list[Any]]:
    return row, []


def timed(*reads: Topic, name: str = "a", **more: Any) -> Flow:
    return Flow(lambda _: None, name, reads=reads, keeps=ALARMS, **more)


def test_who_keeps_a_timed_table_fires_it_and_nobody_else() -> None:
    for wrong in (timed(ORDERS), replace(flow("a", ORDERS, keeps=COUNTS), fires=fire)):
        with pytest.raises(
            DefinitionError, match=r"^flow a: who keeps a timed table has `fires`, and nobody else"
        ):
            subtopologies(topology(wrong))


STATS: PaneTable[Any] = PaneTable.of(
    "stats", PaneAggregation[Any, int](HoppingWindows(4, 2, 1), count(), key=str)
)


def paned(*reads: Topic, tells: Any = list, keeps: Any = STATS) -> Flow:
    return Flow(lambda _: None, "a", reads=reads, keeps=keeps, tells=tells)


def test_who_keeps_a_table_of_panes_tells_of_it_and_nobody_else() -> None:
    for wrong in (paned(ORDERS, tells=None), paned(ORDERS, keeps=COUNTS)):
        with pytest.raises(
            DefinitionError,
            match=r"^flow a: who keeps a table of panes has `tells`, and nobody else",
        ):
            subtopologies(topology(wrong))


def test_of_a_table_of_panes_late_records_are_told_and_no_order_of_inputs_shows() -> None:
    made = topology(paned(ORDERS, USERS))
    [subtopology] = subtopologies(made)
    assert (subtopology.in_order_ms, subtopology.overlaps) == (None, True)
    assert "late-records" in own_topics(made, "shop")
    with pytest.raises(DefinitionError, match=r"^flow b joins table stats, which is windowed"):
        subtopologies(topology(paned(USERS), flow("b", ORDERS, joins=(STATS,))))


def test_where_a_closing_has_got_is_part_of_what_a_commit_notes() -> None:
    of_windows = longest_note(["orders"], ["stats"], ["stats"])
    assert longest_note(["orders"], ["stats"], ["stats"], ["stats"]) > of_windows


def test_a_timed_table_is_its_own_flow_s() -> None:
    made = topology(timed(USERS, fires=fire), flow("b", ORDERS, joins=(ALARMS,)))
    with pytest.raises(
        DefinitionError, match=r"^flow b joins table alarms, which is timed: its flow alone"
    ):
        subtopologies(made)


def test_a_timed_table_says_from_when_on_the_order_of_inputs_shows() -> None:
    [made] = subtopologies(topology(timed(ORDERS, USERS, fires=fire)))
    assert made.in_order_ms == 7
    [made] = subtopologies(topology(timed(ORDERS, fires=fire)))
    assert made.in_order_ms is None


def test_on_ties_inputs_go_as_a_flow_names_them_that_sees_their_order() -> None:
    made = topology(flow("a", ORDERS), timed(USERS, ORDERS, fires=fire))
    assert [topic.name for topic in made.inputs] == ["users", "orders"]
    made = topology(timed(USERS, ORDERS, fires=fire), timed(ORDERS, USERS, fires=fire))
    with pytest.raises(DefinitionError, match=r"inputs orders and users are .* sees their order$"):
        _ = made.inputs


def test_there_are_late_records_where_there_is_a_timed_table() -> None:
    made = topology(timed(ORDERS, fires=fire, emits=(OUT, VISITS)))
    assert own_topics(made, "shop").keys() == {
        "out", "visits", "dead-letters", "late-records", "shop-alarms-changelog",
    }  # fmt: skip
    assert "late-records" not in own_topics(topology(flow("a", ORDERS)), "shop")


def test_a_repartition_topic_is_the_application_s_own_and_lies_between_two_tasks() -> None:
    made = topology(flow("price", ORDERS, emits=(OUT, BY_PRICE)), flow("count", BY_PRICE)).of(
        "shop"
    )
    assert made.of("shop") == made
    assert names(made) == {"orders": ["price"], "shop-by-price-repartition": ["count"]}
    before, behind = subtopologies(made)
    [between] = before.between
    assert (between.name, before.purged) == ("shop-by-price-repartition", ())
    assert (behind.between, behind.purged) == ((), (between,))
    assert own_topics(made, "shop")[between.name]["retention.ms"] == "-1"


def test_a_key_s_partition_is_the_same_for_ever() -> None:
    partitions = [BY_PRICE.partition_of(key, 4) for key in (b"", b"5", b"ada", "ö".encode())]
    assert partitions == [0, 2, 0, 3]


def test_keys_may_be_hashed_as_java_s_producers_do() -> None:
    # The hashes of Kafka's own test of its clients (UtilsTest.testMurmur2), without their signs.
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    by_price = replace(BY_PRICE, hashed_by="murmur2")
    for key, signed in known.items():
        assert by_price.partition_of(key, 1 << 31) == signed & 0x7FFF_FFFF


def test_of_twins_one_is_read_and_tasks_are_called_the_same() -> None:
    again = Topic("again", (), str)
    made = Topology(
        (flow("count", ORDERS, keeps=COUNTS), flow("watch", VISITS)),
        dead_letters="dead-letters",
        twins=((ORDERS, again),),
    )
    assert (made.twin(ORDERS), made.twin(again), made.twin(VISITS)) == (again, ORDERS, None)
    assert made.reading("orders", "visits", "unknown") is made
    other = made.reading("again")
    assert [topic.name for topic in made.inputs] == ["orders", "visits"]
    assert [topic.name for topic in other.inputs] == ["again", "visits"]
    assert other.reading("orders") == made
    assert names(made) == names(other) == {"again": ["count"], "visits": ["watch"]}
    assert [s.twins for s in subtopologies(other)] == [((again, ORDERS),), ()]
