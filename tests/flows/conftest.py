"""The production topology on the driver."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from streams.testing import Driver
from streams.topology import TOPOLOGY


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    with Driver(TOPOLOGY, load_settings(data_dir=tmp_path, commit_interval_ms=1)) as running:
        yield running
