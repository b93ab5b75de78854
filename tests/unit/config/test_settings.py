from __future__ import annotations

import ssl
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.kafka_client import kafka_client_options
from config.settings import Settings, SettingsError, environment_name, load_settings
from streams.errors import HeadraceError

SASL = {
    "kafka_brokers": "kafka-1:9093",
    "kafka_security_protocol": "SASL_SSL",
    "kafka_sasl_mechanism": "SCRAM-SHA-512",
    "kafka_sasl_username": "ada",
    "kafka_sasl_password": "hunter2",
}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Start from an empty environment in an empty folder."""
    for field in Settings.model_fields:
        monkeypatch.delenv(environment_name(field), raising=False)
    monkeypatch.chdir(tmp_path)


def complaint(**overrides: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    return str(caught.value)


def test_every_setting_has_the_name_that_was_promised() -> None:
    assert {environment_name(field) for field in Settings.model_fields} == {
        "KAFKA_BROKERS",
        "KAFKA_CLIENT_ID",
        "KAFKA_SECURITY_PROTOCOL",
        "KAFKA_SASL_MECHANISM",
        "KAFKA_SASL_USERNAME",
        "KAFKA_SASL_PASSWORD",
        "KAFKA_SSL_CAFILE",
        "KAFKA_SSL_CERTFILE",
        "KAFKA_SSL_KEYFILE",
        "KAFKA_SESSION_TIMEOUT_MS",
        "KAFKA_HEARTBEAT_INTERVAL_MS",
        "KAFKA_REBALANCE_TIMEOUT_MS",
        "KAFKA_REPLICATION_FACTOR",
        "KAFKA_COMPRESSION",
        "KAFKA_AUTO_CREATE_TOPICS",
        "HEADRACE_APP_ID",
        "HEADRACE_DATA_DIR",
        "HEADRACE_PARTITIONS",
        "HEADRACE_COMMIT_INTERVAL_MS",
        "HEADRACE_PROCESSING_GUARANTEE",
        "HEADRACE_ORDERS_TOPIC",
        "HEADRACE_HIGH_VALUE_AMOUNT",
        "HEADRACE_VIP_ORDERS",
        "HEADRACE_LOW_STOCK",
        "HEADRACE_STANDBY_REPLICAS",
        "HEADRACE_WEB_HOST",
        "HEADRACE_WEB_PORT",
        "HEADRACE_INSTANCE_ID",
        "HEADRACE_MAX_AHEAD_MS",
        "HEADRACE_IDLE_TIMEOUT_MS",
    }


def test_without_an_environment_it_is_the_embedded_kafka_exactly_once(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.kafka_brokers == ()
    assert settings.exactly_once
    assert settings.compression_type == "lz4"
    assert settings.kafka_auto_create_topics
    assert (settings.app_id, settings.partitions) == ("headrace", 4)
    assert (settings.commit_interval_ms, settings.max_ahead_ms) == (100, 3_600_000)
    assert (settings.high_value_amount_cents, settings.vip_orders) == (100_000, 10)
    assert settings.data_dir == tmp_path / "headrace-data"


def test_overrides_win_over_the_environment_and_that_over_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(
        "HEADRACE_APP_ID=file\nHEADRACE_PARTITIONS=2\nHEADRACE_VIP_ORDERS=3\nUNRELATED=1\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("HEADRACE_PARTITIONS", "5")
    monkeypatch.setenv("HEADRACE_VIP_ORDERS", "6")
    settings = load_settings(vip_orders=7)
    assert (settings.app_id, settings.partitions, settings.vip_orders) == ("file", 5, 7)


def test_a_variable_that_is_set_to_nothing_counts_as_not_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "")
    monkeypatch.setenv("HEADRACE_PARTITIONS", "")
    assert load_settings().kafka_brokers == ()
    assert load_settings().partitions == 4


def test_variables_without_our_prefix_are_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ID", "other")
    monkeypatch.setenv("app_id", "other")
    assert load_settings().app_id == "headrace"


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        load_settings().partitions = 8  # type: ignore[misc]


def test_an_unknown_override_is_a_mistake_in_the_code() -> None:
    with pytest.raises(TypeError, match="partition_count"):
        load_settings(partition_count=3)


@pytest.mark.parametrize(
    ("given", "brokers"),
    [
        ("kafka-1", ("kafka-1:9092",)),
        ("kafka-1:9093, kafka-2:9094,", ("kafka-1:9093", "kafka-2:9094")),
        ("[::1]:9092", ("[::1]:9092",)),
        ("10.0.0.1", ("10.0.0.1:9092",)),
    ],
)
def test_brokers_become_host_and_port(given: str, brokers: tuple[str, ...]) -> None:
    assert load_settings(kafka_brokers=given).kafka_brokers == brokers


@pytest.mark.parametrize("amount", ["0", "999.99", "1e3", "10000000000000", 12, 12.5])
def test_an_amount_is_exact_in_cents(amount: str | float) -> None:
    settings = load_settings(high_value_amount=amount)
    assert settings.high_value_amount_cents == Decimal(str(amount)) * 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("standby_replicas", "-1"),
        ("commit_interval_ms", "soon"),
        ("commit_interval_ms", "0"),
        ("commit_interval_ms", "100.5"),
        ("partitions", "0"),
        ("partitions", "-1"),
        ("vip_orders", "0"),
        ("max_ahead_ms", "-1"),
        ("idle_timeout_ms", "0"),
        ("web_port", "65536"),
        ("high_value_amount", "1.234"),
        ("high_value_amount", "-0.01"),
        ("high_value_amount", "NaN"),
        ("high_value_amount", "Infinity"),
        ("high_value_amount", "10000000000000.01"),
        ("processing_guarantee", "maybe_once"),
        ("app_id", "shop orders"),
        ("app_id", "shop/orders"),
        ("app_id", "größe"),
        ("app_id", ".."),
        ("app_id", "a\n"),
        ("app_id", "a" * 201),
        ("instance_id", "a b"),
        ("kafka_brokers", "kafka-1:port"),
        ("kafka_brokers", "kafka-1:0"),
        ("kafka_brokers", "kafka-1:70000"),
        ("kafka_brokers", "kafka://kafka-1:9092"),
        ("kafka_compression", "brotli"),
        ("kafka_auto_create_topics", "perhaps"),
        ("kafka_security_protocol", "TLS"),
        ("kafka_sasl_mechanism", "GSSAPI"),
        ("kafka_session_timeout_ms", "999"),
        ("kafka_heartbeat_interval_ms", "0"),
        ("kafka_replication_factor", "-2"),
        ("kafka_replication_factor", 0),
    ],
)
def test_a_value_that_makes_no_sense_is_named_in_one_line(field: str, value: object) -> None:
    line = complaint(**{field: value})
    assert line.startswith(f"{environment_name(field)}=")
    assert " makes no sense: it must be " in line
    assert "\n" not in line
    assert "more)" not in line


def test_an_endless_value_is_shown_in_part() -> None:
    assert len(complaint(app_id="a" * 10_000)) < 300


def test_the_environment_is_checked_like_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_VIP_ORDERS", "ten")
    assert complaint() == (
        "HEADRACE_VIP_ORDERS='ten' makes no sense: it must be a whole number, 1 or more"
    )


def test_of_several_the_first_is_told_and_the_rest_counted() -> None:
    assert complaint(partitions="x", vip_orders="y", web_port="z").endswith("(and 2 more)")


def test_a_settings_error_is_one_for_people() -> None:
    assert issubclass(SettingsError, HeadraceError)


def test_heartbeats_follow_a_short_session() -> None:
    assert load_settings().kafka_heartbeat_interval_ms == 3_000
    assert load_settings(kafka_session_timeout_ms=1_500).kafka_heartbeat_interval_ms == 500


def test_a_session_that_one_lost_heartbeat_ends_is_refused() -> None:
    line = complaint(kafka_session_timeout_ms=6_000, kafka_heartbeat_interval_ms=3_001)
    assert line.startswith("KAFKA_HEARTBEAT_INTERVAL_MS=3001")
    assert "KAFKA_SESSION_TIMEOUT_MS=6000" in line


def test_a_rebalance_outlasts_a_session() -> None:
    line = complaint(kafka_session_timeout_ms=20_000, kafka_rebalance_timeout_ms=10_000)
    assert line.startswith("KAFKA_REBALANCE_TIMEOUT_MS=10000")


@pytest.mark.parametrize(
    "missing", ["kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password"]
)
def test_an_incomplete_login_is_refused(missing: str) -> None:
    given = {name: value for name, value in SASL.items() if name != missing}
    assert complaint(**given).startswith(f"{environment_name(missing)} is not set")


def test_a_password_that_would_go_unused_is_refused_and_not_shown() -> None:
    line = complaint(kafka_sasl_password="hunter2")  # noqa: S106 - the example
    assert line.startswith("KAFKA_SASL_PASSWORD is set")
    assert "hunter2" not in line


def test_a_login_in_an_address_is_not_shown() -> None:
    assert "hunter2" not in complaint(kafka_brokers="ada:hunter2@kafka-1:9092")


def test_no_report_shows_the_password() -> None:
    settings = load_settings(**SASL)
    shown = [repr(settings), str(settings), settings.model_dump_json()]
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"KAFKA_SASL_PASSWORD": "hunter2", "HEADRACE_PARTITIONS": "x"})
    assert not [text for text in [*shown, str(caught.value)] if "hunter2" in text]


def test_a_certificate_that_is_not_there_is_refused(tmp_path: Path) -> None:
    line = complaint(
        kafka_brokers="kafka-1",
        kafka_security_protocol="SSL",
        kafka_ssl_cafile=tmp_path / "ca.pem",
    )
    assert line.startswith("KAFKA_SSL_CAFILE=")


def test_a_certificate_that_would_go_unused_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    assert complaint(kafka_ssl_cafile=tmp_path / "ca.pem").startswith("KAFKA_SSL_CAFILE is set")


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").touch()
    line = complaint(
        kafka_brokers="kafka-1",
        kafka_security_protocol="SSL",
        kafka_ssl_keyfile=tmp_path / "key.pem",
    )
    assert line.startswith("KAFKA_SSL_CERTFILE is not set")


def test_the_embedded_kafka_has_no_encryption_to_ask_for() -> None:
    assert complaint(kafka_security_protocol="SSL").startswith("KAFKA_SECURITY_PROTOCOL=SSL")


def test_a_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert complaint(data_dir="state").startswith("HEADRACE_DATA_DIR=")


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"HEADRACE_APP_ID=\xff\n")
    assert complaint().startswith("cannot read .env")


class TestKafkaClientOptions:
    def test_plain_ones_name_the_brokers_and_the_client(self) -> None:
        settings = load_settings(kafka_brokers="kafka-1,kafka-2", kafka_client_id="shop")
        assert kafka_client_options(settings) == {
            "bootstrap_servers": ["kafka-1:9092", "kafka-2:9092"],
            "client_id": "shop",
            "security_protocol": "PLAINTEXT",
        }

    def test_a_login_is_passed_on_over_verified_tls(self) -> None:
        options = kafka_client_options(load_settings(**SASL))
        assert options["sasl_mechanism"] == "SCRAM-SHA-512"
        assert options["sasl_plain_username"] == "ada"
        assert options["sasl_plain_password"] == "hunter2"  # noqa: S105 - the example
        context = options["ssl_context"]
        assert isinstance(context, ssl.SSLContext)
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED

    def test_a_login_without_tls_has_no_context(self) -> None:
        settings = load_settings(**{**SASL, "kafka_security_protocol": "SASL_PLAINTEXT"})
        assert "ssl_context" not in kafka_client_options(settings)

    def test_without_brokers_there_is_nothing_to_reach(self) -> None:
        with pytest.raises(SettingsError, match="KAFKA_BROKERS is not set"):
            kafka_client_options(load_settings())

    @pytest.mark.parametrize("setting", ["kafka_ssl_cafile", "kafka_ssl_certfile"])
    def test_a_file_that_is_no_certificate_is_named(self, setting: str, tmp_path: Path) -> None:
        (tmp_path / "note.pem").write_text("not a certificate", encoding="utf-8")
        settings = load_settings(
            kafka_brokers="kafka-1",
            kafka_security_protocol="SSL",
            **{setting: tmp_path / "note.pem"},
        )
        with pytest.raises(SettingsError, match=f"^{environment_name(setting)}="):
            kafka_client_options(settings)
