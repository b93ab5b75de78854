"""What docker-compose.yml would run, run without containers: Kafka's settings, commands, health checks.

Only addresses and folders are others than in the file.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.broker import EmbeddedKafka
from streams.child import end_child, start_child
from streams.kafka_node import HOST, free_ports
from tests.waiting import until

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(
    (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
)["services"]
# The image's scripts read these; it makes a broker setting of every other KAFKA_ variable.
OF_THE_SCRIPTS = {"KAFKA_HEAP_OPTS", "KAFKA_LOG4J_OPTS", "KAFKA_GC_LOG_OPTS"}
INTERNAL, FROM_OUTSIDE, CONTROLLER = 19_092, 9_092, 9_093
WEB = 6_066


def broker_settings() -> dict[str, str]:
    """Return what the image makes of its environment: KAFKA_LOG_DIRS is log.dirs."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in SERVICES["kafka"]["environment"].items()
        if name.startswith("KAFKA_") and name not in OF_THE_SCRIPTS
    }


@pytest.fixture(scope="module")
def compose_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Return a Kafka with the settings of the compose file, on loopback and on free ports."""
    ports = dict(zip((INTERNAL, FROM_OUTSIDE, CONTROLLER), free_ports([0, 0, 0]), strict=True))
    settings = broker_settings()
    del settings["log.dirs"]
    for name, value in settings.items():
        here = value.replace("//:", f"//{HOST}:").replace("//kafka:", f"//{HOST}:")
        for port, free in ports.items():
            here = here.replace(f":{port}", f":{free}")
        settings[name] = here
    folder = tmp_path_factory.mktemp("compose")
    with EmbeddedKafka(folder, port=ports[INTERNAL], properties=settings) as running:
        yield running


async def test_every_setting_of_kafka_is_one_that_kafka_has(compose_kafka: EmbeddedKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=compose_kafka.bootstrap)
    await admin.start()
    try:
        [answer] = await admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, "0")])
    finally:
        await admin.close()
    known = {entry[0] for _, _, _, _, entries in answer.resources for entry in entries}
    assert broker_settings().keys() - known == set()


class Service:
    """A service's process, as the file says, but for addresses and folders."""

    def __init__(self, name: str, kafka: EmbeddedKafka, folder: Path) -> None:
        self._service = SERVICES[name]
        self._folder = folder
        self._kafka_port = int(kafka.bootstrap.split(":")[1])
        [self._web_port] = free_ports([0])
        foreign = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "KAFKA_"))}
        self._environment = {
            **foreign,
            **self._service["environment"],
            "KAFKA_BROKERS": kafka.bootstrap,
            "HEADRACE_DATA_DIR": str(folder / f"{name}-state"),
            "HEADRACE_WEB_HOST": HOST,
            "HEADRACE_WEB_PORT": str(self._web_port),
        }
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self._process = start_child(
                [Path(sys.executable).with_name("headrace"), *self._service["command"]],
                env=self._environment,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )

    async def is_healthy(self) -> bool:
        """Run the service's health check."""
        assert self._process is None or self._process.poll() is None, self.log.read_text()
        kind, *check = self._service["healthcheck"]["test"]
        command = ["sh", "-c"] if kind == "CMD-SHELL" else [sys.executable, *check[1:-1]]
        here = check[-1].replace(f":{WEB}/", f":{self._web_port}/")
        here = here.replace(f":{INTERNAL:X} ", f":{self._kafka_port:X} ")
        checked = await asyncio.create_subprocess_exec(*command, here, stderr=subprocess.DEVNULL)
        return await checked.wait() == 0

    async def status(self) -> int:
        """Return its status, once it has ended by itself."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 30)

    def end(self) -> int:
        """End it as an orchestrator does; return its status, 0 if it never ran."""
        return 0 if self._process is None else end_child(self._process, term_timeout_s=20)


async def committed_record(bootstrap: str, topic: str) -> None:
    """Return once the topic has a committed record."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            await consumer.getone()
    finally:
        await consumer.stop()


@pytest.mark.timeout(240)
async def test_topics_are_made_workers_work_and_events_come_out(
    compose_kafka: EmbeddedKafka, tmp_path: Path
) -> None:
    service = partial(Service, kafka=compose_kafka, folder=tmp_path)
    topics = service("topics")
    topics.start()
    assert await topics.status() == 0, topics.log.read_text()
    # The generator first: its check looks for any connection to Kafka, and here all are to be seen.
    services = [service("generator"), service("worker-1"), service("worker-2")]
    try:
        for one in services:
            assert not await one.is_healthy()
            one.start()
            await until(one.is_healthy, deadline_s=40)
        for topic in ("high-value-orders", "dead-letters"):
            await committed_record(compose_kafka.bootstrap, topic)
    finally:
        statuses = [one.end() for one in services]
    assert statuses == [0, 0, 0], [one.log.read_text() for one in services]
