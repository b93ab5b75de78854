"""Fixtures that all tests may use."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

import pytest

from config.seldom import SeldomHandler
from streams.broker import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# The brokers of tests live for seconds: what they save by running optimised code, they never get back
# from its making. With the quick compiler alone a trial's broker took 8.5 s of CPU instead of 16.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")

# It asserts, and is imported by tests of several folders: whichever comes first, this is before.
pytest.register_assert_rewrite("tests.laws.world")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """End with the test the logging that a command run in its process has set up.

    The stream is the test's own: what later tests log, or what is held back, would meet it closed. The
    level goes back as well: what a test hears of others' logs must not hang on those before it.
    """
    root = logging.getLogger()
    level = root.level
    try:
        return (yield)
    finally:
        root.setLevel(level)
        for handler in [one for one in root.handlers if isinstance(one, SeldomHandler)]:
            root.removeHandler(handler)
            handler.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One real broker for the whole session. Use topic names of your own."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running
