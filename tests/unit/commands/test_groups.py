"""Which group a command is about."""

import pytest

from commands import demo
from commands.groups import every_group, of_group, of_table
from config.settings import load_settings
from demo.groups import GROUPS as SHOWN
from streams.topics import ORDERS, ORDERS_DEDUPLICATED
from streams.topology import DEDUPLICATION, GROUPS, TOPOLOGY


@pytest.mark.parametrize(
    ("table", "app_id"),
    [
        ("users", "shop"),
        ("user_sessions", "shop-windows"),
        ("orders_passed", "shop-deduplication"),
        ("product_sales", "shop-sales"),
        ("no_such_table", "shop"),
    ],
)
def test_a_table_tells_its_group(table: str, app_id: str) -> None:
    settings, topology = of_table(load_settings(app_id="shop"), table)
    assert settings.app_id == app_id
    assert topology == GROUPS[app_id.partition("-")[2] or "main"].of(app_id)


def test_no_two_groups_keep_tables_of_one_name() -> None:
    names = [table.name for topology in GROUPS.values() for table in topology.tables]
    assert len(names) == len(set(names))


def test_the_demo_offers_the_groups_that_it_can_show() -> None:
    assert tuple(SHOWN) == demo.GROUPS
    assert set(SHOWN) == set(GROUPS)


def test_other_groups_read_the_deduplicated_orders_if_they_are_told_to() -> None:
    settings = load_settings(orders_topic="orders-deduplicated")
    for (own, topology), group in zip(every_group(settings), GROUPS.values(), strict=True):
        usual = group.of(own.app_id)
        told = [ORDERS if t == ORDERS_DEDUPLICATED else t for t in topology.inputs]
        assert sorted(t.name for t in told) == sorted(t.name for t in usual.inputs)
        assert (ORDERS in topology.inputs) is (group is DEDUPLICATION)
        assert (ORDERS_DEDUPLICATED in topology.inputs) is (group is not DEDUPLICATION)
        assert [flow.name for flow in topology.flows] == [flow.name for flow in usual.flows]


def test_without_that_nothing_is_another() -> None:
    assert of_group(load_settings(), "main")[1] is TOPOLOGY
