"""Fixtures for tests of worker processes."""

from collections.abc import Iterator

import pytest

from streams.broker import EmbeddedKafka


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """A broker for one module's tests alone: workers read and write topics of fixed names."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as running:
        yield running
