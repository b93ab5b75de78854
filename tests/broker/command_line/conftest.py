"""One Kafka for the tests of commands, which use topics of fixed names; and the commands themselves."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from commands.main import run
from streams.broker import EmbeddedKafka
from streams.engine.admin import TopicSpec, ensure_topics
from streams.prepare import prepare_topics
from streams.topology import TOPOLOGY

ROOT = Path(__file__).parents[3]
HEADRACE = [sys.executable, "-c", "from commands.main import main; main()"]


class Done(NamedTuple):
    """How a command ended, and what it said."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Headrace = Callable[..., Done]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def kafka_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kafka")


@pytest.fixture(scope="session")
def own_kafka(kafka_dir: Path) -> Iterator[EmbeddedKafka]:
    """A Kafka with the application's inputs, derived topics and dead letters, of two partitions."""
    with EmbeddedKafka(kafka_dir) as running:
        topics = prepare_topics(
            TOPOLOGY,
            {"bootstrap_servers": running.bootstrap},
            application_id="somebody-else",
            default_partitions=2,
            replication_factor=1,
            create=True,
        )
        asyncio.run(topics)
        yield running


@pytest.fixture
def client(own_kafka: EmbeddedKafka) -> dict[str, Any]:
    """Return what an aiokafka client of a test is given."""
    return {"bootstrap_servers": own_kafka.bootstrap}


@pytest.fixture
def app_id(own_kafka: EmbeddedKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Let commands find the Kafka, and an application of their own; return its id."""
    for name in [name for name in os.environ if name.startswith(("KAFKA_", "HEADRACE_"))]:
        monkeypatch.delenv(name)
    name = f"app-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("KAFKA_BROKERS", own_kafka.bootstrap)
    monkeypatch.setenv("HEADRACE_APP_ID", name)
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HEADRACE_PARTITIONS", "2")
    return name


@pytest.fixture
def headrace(app_id: str, capfd: pytest.CaptureFixture[str]) -> Headrace:
    """Return what runs a command in this process."""

    def ran(*args: str) -> Done:
        capfd.readouterr()
        status = run(args)
        return Done(status, *capfd.readouterr())

    return ran


@pytest.fixture
def start(app_id: str) -> Iterator[Start]:
    """Return what starts a command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([*HEADRACE, *args], cwd=ROOT, text=True, **{**pipes, **options})
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def topic(client: dict[str, Any]) -> str:
    """Return a new topic of two partitions that is none of the application's."""
    name = f"topic-{uuid.uuid4().hex[:8]}"
    asyncio.run(ensure_topics(client, [TopicSpec(name, 2, {})], replication_factor=1))
    return name
