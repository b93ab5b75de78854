"""Fixtures for tests of one module."""

import logging
from collections.abc import Iterator

import pytest

from config.logging import CHATTY_LOGGERS, TOLD_BY_US


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    """Leave the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in CHATTY_LOGGERS + TOLD_BY_US}
    root.handlers.clear()  # pytest's own: the next set-up would close them
    yield
    logging.captureWarnings(capture=False)
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
