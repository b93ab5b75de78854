"""How aiokafka's clients reach the cluster that the settings name."""

from __future__ import annotations

import ssl
from typing import Any

from config.settings import Settings, SettingsError


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments for any of aiokafka's clients: address, name, security.

    The password in it is plain: never log it. Raises SettingsError where no broker is named, or a
    certificate cannot be used.
    """
    if not settings.kafka_brokers:
        raise SettingsError(
            "KAFKA_BROKERS is not set: it must be host:port of each broker, with commas between"
        )
    options: dict[str, Any] = {
        "bootstrap_servers": list(settings.kafka_brokers),
        "client_id": settings.kafka_client_id,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        options["ssl_context"] = _ssl_context(settings)
    if settings.kafka_sasl_password is not None:
        options["sasl_mechanism"] = settings.kafka_sasl_mechanism
        options["sasl_plain_username"] = settings.kafka_sasl_username
        options["sasl_plain_password"] = settings.kafka_sasl_password.get_secret_value()
    return options


def _ssl_context(settings: Settings) -> ssl.SSLContext:
    """Return a context that checks the broker's name and certificate, by default by the system."""
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    except (ssl.SSLError, OSError) as error:
        holds = "certificates of authorities, as PEM"
        raise _unusable("KAFKA_SSL_CAFILE", settings.kafka_ssl_cafile, holds, error) from error
    if settings.kafka_ssl_certfile is not None:
        try:
            # The password keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(
                settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile, password=""
            )
        except (ssl.SSLError, OSError) as error:
            holds = "a certificate and, there or in KAFKA_SSL_KEYFILE, its key, unencrypted, as PEM"
            raise _unusable(
                "KAFKA_SSL_CERTFILE", settings.kafka_ssl_certfile, holds, error
            ) from error
    return context


def _unusable(name: str, path: object, holds: str, error: OSError) -> SettingsError:
    # Of much OpenSSL only says where in Python's sources it was noticed.
    reason = getattr(error, "reason", None)
    told = f" ({reason})" if reason else ""
    return SettingsError(f"{name}='{path}' cannot be used: it must hold {holds}{told}")
