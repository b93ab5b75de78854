"""A Kafka with listeners of every kind of security, and who may come in by them."""

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from config.kafka_client import kafka_client_options
from config.settings import load_settings
from streams.broker import EmbeddedKafka

HOST = "127.0.0.1"
# Of every user, and found nowhere by chance: what is searched for where no password may be.
SESAME = f"sesame-{secrets.token_hex(8)}"
# Other users by SCRAM than by PLAIN, so that no mechanism can pass for the other.
ADMIN = "grace"
SCRAM_USERS = (ADMIN, "headrace")
PLAIN_USERS = ("ada", "no-create", "no-group", "no-transactions", "no-output", "no-write")
LISTENERS = {
    "LOGIN": "SASL_SSL",
    "SCRAM": "SASL_SSL",
    "OPEN": "SASL_PLAINTEXT",
    "MUTUAL": "SSL",
    "RENAMED": "SSL",
    "EXPIRED": "SSL",
}


class SecuredKafka:
    """The broker, and what a client needs to be let in, as settings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA()
        self.cafile = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(self.cafile)
        elsewhere = trustme.CA()
        self.stranger_ca = folder / "stranger-ca.pem"
        elsewhere.cert_pem.write_to_path(self.stranger_ca)
        self.stranger = folder / "stranger.pem"
        issued = elsewhere.issue_cert("worker.example")
        issued.private_key_and_cert_chain_pem.write_to_path(self.stranger)
        self.kafka = EmbeddedKafka(
            folder / "kafka",
            properties=self._properties(),
            more_listeners=LISTENERS,
            format_options=[
                f"--add-scram={mechanism}=[name={user},password={SESAME}]"
                for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
                for user in SCRAM_USERS
            ],
        )

    def settings(self, listener: str, **changed: object) -> dict[str, object]:
        """Return the settings that lead to a listener, by field name."""
        settings: dict[str, object] = {
            "kafka_brokers": self.kafka.bootstrap_of(listener),
            "kafka_security_protocol": LISTENERS[listener],
        }
        if LISTENERS[listener].endswith("SSL"):
            settings["kafka_ssl_cafile"] = self.cafile
        if LISTENERS[listener].startswith("SASL"):
            settings |= {
                "kafka_sasl_mechanism": "SCRAM-SHA-512",
                "kafka_sasl_username": ADMIN,
                "kafka_sasl_password": SESAME,
            }
        return {name: value for name, value in (settings | changed).items() if value is not None}

    def options(self, listener: str, **changed: object) -> dict[str, Any]:
        """Return what aiokafka's clients take, made from these settings as the commands do."""
        return kafka_client_options(load_settings(**self.settings(listener, **changed)))

    def certificate(self, name: str, *identities: str, expires: datetime | None = None) -> Path:
        """Return a file with a new certificate of the authority and its key."""
        issued = self.authority.issue_cert(*identities, common_name=name, not_after=expires)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        # Kafka reads keys in PKCS 8 alone.
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path = self._folder / f"{name}.pem"
        path.write_bytes(text + b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        return path

    def _properties(self) -> Mapping[str, str]:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        broker = self.certificate("broker", HOST)
        renamed = self.certificate("renamed", "kafka.example")
        expired = self.certificate("expired", HOST, expires=yesterday)
        module = "org.apache.kafka.common.security"
        scram = f"{module}.scram.ScramLoginModule required;"
        users = " ".join(f'user_{user}="{SESAME}"' for user in PLAIN_USERS)
        plain = f"{module}.plain.PlainLoginModule required {users};"
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{ADMIN}",
            "num.network.threads": "1",  # for each listener
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(broker),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.cafile),
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.login.plain.sasl.jaas.config": plain,
            "listener.name.login.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.login.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.scram.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.scram.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.open.sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.open.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.renamed.ssl.keystore.type": "PEM",
            "listener.name.renamed.ssl.keystore.location": str(renamed),
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": str(expired),
        }
