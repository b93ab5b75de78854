"""Which group a command is about."""

import pytest

from commands import demo
from commands.groups import of_table
from config.settings import load_settings
from demo.watched import WATCHED
from streams.topology import GROUPS, TOPOLOGY


@pytest.mark.parametrize(
    ("table", "app_id"),
    [("users", "shop"), ("user_sessions", "shop-windows"), ("no_such_table", "shop")],
)
def test_a_table_tells_its_group(table: str, app_id: str) -> None:
    settings, topology = of_table(load_settings(app_id="shop"), table)
    assert settings.app_id == app_id
    assert topology is (GROUPS["windows"] if app_id == "shop-windows" else TOPOLOGY)


def test_no_two_groups_keep_tables_of_one_name() -> None:
    names = [table.name for topology in GROUPS.values() for table in topology.tables]
    assert len(names) == len(set(names))


def test_the_demo_offers_the_groups_that_it_can_show() -> None:
    assert tuple(WATCHED) == demo.GROUPS
