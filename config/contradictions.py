"""Settings that are fine one by one and make no sense together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield a line for each; it names an environment variable, its value, and what is allowed."""
    yield from _timeouts(settings)
    yield from _login(settings)
    yield from _files(settings)
    yield from _embedded(settings)
    if settings.kafka_replication_factor == 0:
        yield "KAFKA_REPLICATION_FACTOR=0 makes no sense: it must be 1 or more (-1: the cluster's)"
    if settings.data_dir.exists() and not settings.data_dir.is_dir():
        yield f"HEADRACE_DATA_DIR={str(settings.data_dir)!r} makes no sense: it is not a folder"


def _timeouts(settings: Settings) -> Iterator[str]:
    session_ms = settings.kafka_session_timeout_ms
    heartbeat_ms = settings.kafka_heartbeat_interval_ms
    rebalance_ms = settings.kafka_rebalance_timeout_ms
    if heartbeat_ms * 2 > session_ms:  # else one lost heartbeat evicts the member
        yield (
            f"KAFKA_HEARTBEAT_INTERVAL_MS={heartbeat_ms} makes no sense: it must be at most half "
            f"of KAFKA_SESSION_TIMEOUT_MS={session_ms}"
        )
    if rebalance_ms < session_ms:  # else a rebalance gives up on members that still count as alive
        yield (
            f"KAFKA_REBALANCE_TIMEOUT_MS={rebalance_ms} makes no sense: it must be at least "
            f"KAFKA_SESSION_TIMEOUT_MS={session_ms}"
        )


def _login(settings: Settings) -> Iterator[str]:
    """Yield what is missing for SASL, and what would silently go unused."""
    protocol = settings.kafka_security_protocol
    parts = {
        "KAFKA_SASL_MECHANISM": settings.kafka_sasl_mechanism,
        "KAFKA_SASL_USERNAME": settings.kafka_sasl_username,
        "KAFKA_SASL_PASSWORD": settings.kafka_sasl_password,
    }
    wanted = protocol.startswith("SASL")
    for name, value in parts.items():
        if wanted and not value:
            yield f"{name} is not set, but KAFKA_SECURITY_PROTOCOL={protocol} needs it"
        if value and not wanted:
            yield (
                f"{name} is set, but KAFKA_SECURITY_PROTOCOL={protocol} would not use it: it must "
                "be SASL_SSL or SASL_PLAINTEXT"
            )


def _files(settings: Settings) -> Iterator[str]:
    protocol = settings.kafka_security_protocol
    files = {
        "KAFKA_SSL_CAFILE": settings.kafka_ssl_cafile,
        "KAFKA_SSL_CERTFILE": settings.kafka_ssl_certfile,
        "KAFKA_SSL_KEYFILE": settings.kafka_ssl_keyfile,
    }
    for name, path in files.items():
        if path and not _readable(path):
            yield f"{name}={str(path)!r} makes no sense: it must be a file that can be read"
        if path and not protocol.endswith("SSL"):
            yield (
                f"{name} is set, but KAFKA_SECURITY_PROTOCOL={protocol} would not use it: it must "
                "be SSL or SASL_SSL"
            )
    if settings.kafka_ssl_keyfile and not settings.kafka_ssl_certfile:
        yield "KAFKA_SSL_CERTFILE is not set, but KAFKA_SSL_KEYFILE needs it"


def _embedded(settings: Settings) -> Iterator[str]:
    if settings.kafka_brokers or settings.kafka_security_protocol == "PLAINTEXT":
        return
    yield (
        f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} makes no sense without "
        "KAFKA_BROKERS: the embedded Kafka speaks PLAINTEXT"
    )


def _readable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK)
