"""Fixtures for tests against a real Kafka."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from streams.broker import EmbeddedKafka


@pytest.fixture
def client_options(kafka: EmbeddedKafka) -> dict[str, Any]:
    """Return what every aiokafka client of a test is given."""
    return {"bootstrap_servers": kafka.bootstrap, "client_id": "test"}


@pytest.fixture
def topic() -> str:
    """Return a topic name that nobody else uses."""
    return f"topic-{uuid.uuid4().hex[:8]}"
