"""Workers that share a data folder, and those whose folder somebody deleted."""

import shutil
from pathlib import Path

from config.settings import load_settings
from streams.testing import Driver
from streams.topology import TOPOLOGY


def test_workers_with_and_without_standbys_may_share_a_folder(tmp_path: Path) -> None:
    """As while HEADRACE_STANDBY_REPLICAS is set for one after the other."""
    old = load_settings(data_dir=tmp_path, standby_replicas=0)
    new = load_settings(data_dir=tmp_path, standby_replicas=1)
    with Driver(TOPOLOGY, new, partitions=4, workers=1, lock_timeout_s=1.0) as driver:
        driver.settle()
        driver.start_worker(old)
        driver.settle()  # whoever cannot open its task's folder has stopped
        assert len(driver.tasks()) == driver.partitions
        assert driver.workers == 2
        assert driver.followed() == []


def test_metrics_are_told_though_the_data_folder_is_gone(driver: Driver, tmp_path: Path) -> None:
    driver.settle()
    shutil.rmtree(tmp_path / "headrace")
    body, _ = driver.meters()[0].exposition("")
    assert b'headrace_store_size_bytes{task="orders-0"} 0.0' in body
