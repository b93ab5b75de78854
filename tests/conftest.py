"""Fixtures that all tests may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streams.broker import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

# It asserts, and is imported by tests of several folders: whichever comes first, this is before.
pytest.register_assert_rewrite("tests.laws.world")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One real broker for the whole session. Use topic names of your own."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running
