"""What looks at a running demo tell: rates of each flow, and for how long records wait."""

from __future__ import annotations

from collections import Counter

import pytest
from aiokafka import TopicPartition

from demo.following import Standing
from demo.looks import Look, flow_rows, waited_s
from demo.show import tasks_of
from demo.sights import TopUsers, UserRow
from demo.watched import SALES_GROUP
from streams.topology import TOPOLOGY, WINDOWS

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def look(at_s: float, standings: dict[TopicPartition, Standing], **counts: int) -> Look:
    seen = Counter({topic.replace("_", "-"): count for topic, count in counts.items()})
    return Look(at_s, 0, seen, Counter(counts), standings)


def looks(*ends: int, committed: int) -> list[Look]:
    """Return looks at one partition, one a second."""
    return [look(at_s, {P0: Standing(committed, end)}) for at_s, end in enumerate(ends)]


def test_nothing_waits_where_all_is_committed() -> None:
    assert waited_s(looks(10, 20, committed=20)) == 0


@pytest.mark.parametrize(("committed", "seconds"), [(20, 1.0), (10, 2.0), (15, 1.5), (29, 0.1)])
def test_a_record_waits_since_it_was_sent(committed: int, seconds: float) -> None:
    assert waited_s(looks(10, 20, 30, committed=committed)) == pytest.approx(seconds)


def test_what_was_sent_before_the_first_look_waits_since_then() -> None:
    assert waited_s(looks(10, 20, 30, committed=5)) == 2.0


def test_the_partition_that_waits_longest_counts() -> None:
    both = [
        look(0, {P0: Standing(0, 10), P1: Standing(0, 0)}),
        look(4, {P0: Standing(10, 20), P1: Standing(0, 8)}),
        look(5, {P0: Standing(18, 20), P1: Standing(6, 8)}),
    ]
    assert waited_s(both) == pytest.approx(5 - 4 * 6 / 8)


def test_each_flow_of_the_topology_has_its_row() -> None:
    before = look(0, {P0: Standing(0, 0)})
    now = look(2, {P0: Standing(100, 200)}, user_orders=30, vip_upgrades=4)
    rows = {flow.name: flow_rows(flow, before, now)[0] for flow in TOPOLOGY.flows}
    assert list(rows) == [flow.name for flow in TOPOLOGY.flows]
    vips = rows["vip_upgrades"]
    assert (vips.reads, vips.keeps, vips.emits) == (("orders",), "user_orders", "vip-upgrades")
    assert (vips.in_per_s, vips.changes_per_s, vips.out_per_s, vips.out) == (50, 15, 2, 4)
    assert rows["enriched_orders"].joins == ("users",)
    assert (rows["users"].out_per_s, rows["users"].out) == (None, None)


def test_each_further_output_of_a_flow_has_a_row_of_its_own() -> None:
    before = look(0, {P0: Standing(0, 0)})
    now = look(2, {P0: Standing(100, 200)}, order_payments=30, unpaid_orders=4)
    paid, unpaid = flow_rows(WINDOWS.flows[0], before, now)
    assert (paid.name, paid.emits, paid.in_per_s) == ("order_payments", "order-payments", 50)
    assert (paid.out_per_s, paid.out) == (15, 30)
    assert (unpaid.name, unpaid.emits, unpaid.in_per_s) == ("", "unpaid-orders", None)
    assert (unpaid.out_per_s, unpaid.out) == (2, 4)


def test_a_worker_s_partitions_are_told_as_its_tasks() -> None:
    assert tasks_of(["orders-10", "orders-2", "users-10", "users-2"]) == ("orders-2", "orders-10")
    assert tasks_of([]) == ()


def test_topics_by_which_flows_hand_on_are_called_what_the_topology_calls_them() -> None:
    own = "demo-sales-order-lines-repartition"
    tasks = tasks_of([f"{own}-3", "orders-1", "users-1"], SALES_GROUP)
    assert tasks == ("order-lines-3", "orders-1")
    at = look(0, {TopicPartition(own, 0): Standing(0, 0)})
    rows = {
        flow.name: flow_rows(flow, at, at, SALES_GROUP.plain)[0]
        for flow in SALES_GROUP.topology.flows
    }
    assert rows["product_sales"].reads == ("order-lines",)
    assert rows["order_lines"].emits == "order-lines"
    assert (rows["order_lines"].out_per_s, rows["order_lines"].out) == (None, None)
    assert rows["product_sales"].out == 0


def test_the_top_users_are_those_who_have_spent_most_however_many_there_are() -> None:
    top = TopUsers()
    amounts = [(number * 7_919) % 1_009 for number in range(1_000)]
    for number, amount in enumerate(amounts):
        top.put(UserRow(f"user-{number}", 1, amount, vip=False))
    top.put(UserRow("user-0", 2, 5_000, vip=True))
    expected = [5_000, *sorted(amounts, reverse=True)[:99]]
    assert [row.amount_cents for row in top.first(100)] == expected
