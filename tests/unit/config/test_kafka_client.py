"""Certificates that cannot be used are named, each by its setting."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from config.kafka_client import kafka_client_options
from config.settings import SettingsError, load_settings

AUTHORITY = trustme.CA()
ISSUED = AUTHORITY.issue_cert("worker.example")
OTHER = AUTHORITY.issue_cert("worker.example")


def encrypted(key: bytes) -> bytes:
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")
    )


CERTIFICATE = ISSUED.cert_chain_pems[0].bytes()
KEY = ISSUED.private_key_pem.bytes()
OTHER_KEY = OTHER.private_key_pem.bytes()
Write = Callable[..., dict[str, object]]


@pytest.fixture
def files(tmp_path: Path) -> Write:
    """Return what writes files and the settings that name them."""

    def write(**contents: bytes) -> dict[str, object]:
        paths = {name: tmp_path / f"{name}.pem" for name in contents}
        for name, path in paths.items():
            path.write_bytes(contents[name])
        named = {f"kafka_ssl_{name}": path for name, path in paths.items()}
        return {"kafka_brokers": "kafka-1", "kafka_security_protocol": "SSL", **named}

    return write


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param({"certfile": KEY + CERTIFICATE}, id="one file"),
        pytest.param({"certfile": CERTIFICATE, "keyfile": KEY}, id="two files"),
        pytest.param({"cafile": AUTHORITY.cert_pem.bytes()}, id="an authority"),
    ],
)
def test_a_context_checks_the_brokers_certificate_and_name(
    files: Write, contents: dict[str, bytes]
) -> None:
    context = kafka_client_options(load_settings(**files(**contents)))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert "cafile" not in contents or len(context.get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("contents", "line"),
    [
        pytest.param({"cafile": b"junk"}, "must hold certificates of authorities", id="junk"),
        pytest.param({"certfile": b"junk"}, "must hold a certificate and", id="no certificate"),
        pytest.param({"certfile": CERTIFICATE}, "KAFKA_SSL_KEYFILE, its key", id="no key"),
        pytest.param(
            {"certfile": CERTIFICATE, "keyfile": OTHER_KEY}, "KEY_VALUES_MISMATCH", id="other key"
        ),
        pytest.param(
            {"certfile": CERTIFICATE, "keyfile": encrypted(KEY)}, "unencrypted", id="encrypted key"
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    files: Write, contents: dict[str, bytes], line: str
) -> None:
    settings = files(**contents)
    name = next(iter(contents))
    with pytest.raises(SettingsError) as error:
        kafka_client_options(load_settings(**settings))
    path = settings[f"kafka_ssl_{name}"]
    assert str(error.value).startswith(f"KAFKA_SSL_{name.upper()}='{path}' cannot be used: it ")
    assert line in str(error.value)
