"""What decisions promise and no other test shows. Each names the decision that it belongs to."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from streams.app import tune_collector
from streams.engine.failpoints import Step
from streams.engine.notes import LONGEST, longest_note
from streams.testing import Driver
from streams.topics import ORDERS
from streams.topology import TOPOLOGY
from tables.definitions import USER_ORDERS
from tests.unit.wire import USER, order


@pytest.fixture
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("collector")
def test_0005_what_is_there_at_the_start_is_frozen() -> None:
    tune_collector()
    assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == 50_000


def test_0009_a_restart_on_the_same_disk_reads_nothing_and_one_without_it_does(
    tmp_path: Path,
) -> None:
    with Driver(TOPOLOGY, load_settings(data_dir=tmp_path)) as driver:
        driver.pipe(ORDERS, [(USER, order())])
        for takes_away_the_disk, reads in ((False, []), (True, [Step.RESTORE_AFTER_RUN])):
            driver.stop_worker()
            if takes_away_the_disk:
                driver.lose_disk()
            driver.fail_at(Step.RESTORE_AFTER_RUN)
            driver.start_worker()
            driver.settle()
            assert driver.struck == reads
            assert driver.table(USER_ORDERS)["ada"].orders == 1


def test_0010_the_transactional_id_is_the_application_s_and_the_task_s(tmp_path: Path) -> None:
    with Driver(TOPOLOGY, load_settings(data_dir=tmp_path), partitions=1) as driver:
        driver.settle()
        (task,) = driver.tasks().values()
        assert task.transactional_id == "headrace-orders-0"


def test_0011_what_is_noted_of_forty_windowed_tables_fits_beside_an_offset() -> None:
    tables = [f"user_order_minutes_{number}" for number in range(40)]
    assert longest_note([f"orders-{number}" for number in range(5)], tables, tables) <= LONGEST
