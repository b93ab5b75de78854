"""Which Kafka a command works on: the one that the settings name, else the embedded one."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from config.settings import Settings
from streams.broker import EmbeddedKafka
from streams.engine.store import ensure_writable

log = logging.getLogger(__name__)


@contextlib.contextmanager
def settings_with_kafka(settings: Settings) -> Iterator[Settings]:
    """Yield settings that name brokers; where they name none, an embedded Kafka runs meanwhile.

    Raises BrokerError or StoreError, in one line, where that cannot start.
    """
    if settings.kafka_brokers:
        yield settings
        return
    ensure_writable(settings.data_dir)
    with EmbeddedKafka(settings.data_dir / "kafka") as kafka:
        log.info("embedded Kafka; for other commands: export KAFKA_BROKERS=%s", kafka.bootstrap)
        brokers = tuple(kafka.bootstrap.split(","))
        yield settings.model_copy(update={"kafka_brokers": brokers})
