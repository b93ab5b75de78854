"""What a worker of the demo is told, and what it is not."""

from pathlib import Path

from config.settings import load_settings
from demo.workers import worker_environment


def test_a_worker_gets_the_kafka_settings_and_no_others_of_ours() -> None:
    settings = load_settings(
        kafka_brokers="there:9092",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="PLAIN",
        kafka_sasl_username="me",
        kafka_sasl_password="secret",  # noqa: S106 - an example
        kafka_auto_create_topics=False,
    )
    outer = {
        "HEADRACE_VIP_ORDERS": "3",
        "HEADRACE_DATA_DIR": "here",
        "KAFKA_BROKERS": "x",
        "A": "b",
    }
    environment = worker_environment(outer, settings, "worker-1", Path("/tmp/demo/worker-1"))  # noqa: S108
    assert environment["A"] == "b"
    ours = {name for name in environment if name.startswith("HEADRACE_")}
    assert ours == {"HEADRACE_APP_ID", "HEADRACE_DATA_DIR"}
    assert environment["HEADRACE_DATA_DIR"] == "/tmp/demo/worker-1"  # noqa: S108
    assert environment["KAFKA_BROKERS"] == "there:9092"
    assert environment["KAFKA_SASL_PASSWORD"] == "secret"  # noqa: S105
    assert environment["KAFKA_AUTO_CREATE_TOPICS"] == "false"
    assert environment["KAFKA_HEARTBEAT_INTERVAL_MS"] == "500"
    assert environment["KAFKA_CLIENT_ID"] == "demo-worker-1"


def test_a_heartbeat_interval_that_was_asked_for_stays() -> None:
    settings = load_settings(kafka_brokers="there", kafka_heartbeat_interval_ms=2_000)
    environment = worker_environment({}, settings, "worker-1", Path("worker-1"))
    assert environment["KAFKA_HEARTBEAT_INTERVAL_MS"] == "2000"
