"""The group `sales` on the driver, its input cut as a law test wants it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from config.settings import load_settings
from streams.testing import Driver
from streams.topology import SALES
from tests.laws.world import Cuts

PARTITIONS = 2


@contextmanager
def selling(cut: Cuts) -> Iterator[Driver]:
    """Yield a driver with a worker, in a folder of its own."""
    with TemporaryDirectory() as folder:
        driver = Driver(
            SALES,
            load_settings(data_dir=Path(folder), commit_interval_ms=1),
            partitions=PARTITIONS,
            max_batch_records=cut.max_batch_records,
            max_epoch_records=cut.max_epoch_records,
        )
        with driver:
            driver.cut_input(cut.run_lengths)
            driver.delay_answers(cut.delays)
            yield driver
