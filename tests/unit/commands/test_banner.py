"""What a worker says when it starts."""

import io
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from commands.banner import banner_facts, show_banner
from config.logging import configure_logging
from config.settings import Settings, load_settings
from streams.topology import TOPOLOGY

SESAME = "sesame-4711"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        kafka_brokers="kafka-1:9092,kafka-2:9092",
        kafka_security_protocol="SASL_SSL",
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="grace",
        kafka_sasl_password=SESAME,
        data_dir=tmp_path,
    )


def test_it_tells_what_a_worker_works_on_and_as_whom(settings: Settings, tmp_path: Path) -> None:
    facts = dict(banner_facts(settings, TOPOLOGY, 4))
    flows = facts.pop("flows")
    assert facts == {
        "version": version("headrace"),
        "application_id": "headrace",
        "brokers": ["kafka-1:9092", "kafka-2:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "grace",
        "guarantee": "exactly_once",
        "commit_interval_ms": 100,
        "partitions": 4,
        "tasks": 4,
        "state": str(tmp_path / "headrace"),
    }
    assert [flow.split(" -> ")[1] for flow in flows] == [flow.name for flow in TOPOLOGY.flows]
    assert "orders -> vip_upgrades -> vip-upgrades, table user_orders" in flows


def test_without_a_login_it_tells_of_none(tmp_path: Path) -> None:
    facts = banner_facts(load_settings(data_dir=tmp_path), TOPOLOGY, 4)
    assert facts["security_protocol"] == "PLAINTEXT"
    assert not [name for name in facts if name.startswith("sasl")]


@pytest.mark.usefixtures("_logging_as_it_was")
def test_where_nobody_looks_it_is_one_json_line_without_the_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    configure_logging(verbose=True)
    show_banner(settings, TOPOLOGY, 4)
    (line,) = stream.getvalue().splitlines()
    told: dict[str, Any] = json.loads(line)
    assert told["message"] == "worker starts"
    assert told["brokers"] == ["kafka-1:9092", "kafka-2:9092"]
    assert told["sasl_username"] == "grace"
    assert SESAME not in line


def test_on_a_terminal_it_is_a_few_lines_without_the_password(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    show_banner(settings, TOPOLOGY, 4)
    assert "kafka-1:9092" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    assert SESAME not in stream.getvalue()
