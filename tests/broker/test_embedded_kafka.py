"""The embedded Kafka: real brokers, real processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.broker import EmbeddedKafka
from streams.child import end_child, start_child
from streams.engine.admin import TopicSpec, ensure_topics
from streams.errors import BrokerError
from streams.kafka_jars import MANIFEST, cache_dir, install_jars, kafka_dir, read_manifest
from streams.kafka_node import free_ports, live_brokers

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
# A process that starts a broker in its first argument, says where, and waits to be killed.
OWNER = """
import json, pathlib, sys, threading
from streams.broker import EmbeddedKafka
kafka = EmbeddedKafka(pathlib.Path(sys.argv[1]))
kafka.start()
print(json.dumps({"bootstrap": kafka.bootstrap, "pid": kafka.pid(0)}), flush=True)
threading.Event().wait()
"""


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Return when the condition holds; fail after timeout_s."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.02)


def port_of(bootstrap: str) -> int:
    return int(bootstrap.rsplit(":", 1)[1])


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone; one that nobody has reaped yet counts as gone."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rsplit(")", 1)[1].split()[0] == "Z"


async def produce(kafka: EmbeddedKafka, topic: str, value: bytes) -> int:
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all") as producer:
        sent = await producer.send_and_wait(topic, value, partition=0)
    return int(sent.offset)


async def values_of(kafka: EmbeddedKafka, topic: str) -> list[bytes]:
    partition = TopicPartition(topic, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([partition])
        end = (await consumer.end_offsets([partition]))[partition]
        return [(await consumer.getone()).value or b"" for _ in range(end)]


async def test_records_outlive_stop_crash_and_a_change_of_port(tmp_path: Path) -> None:
    options: dict[str, Any] = {"replication_factor": 1}
    with EmbeddedKafka(tmp_path) as kafka:
        first_port = port_of(kafka.bootstrap)
        spec = TopicSpec("kept", 1, {})
        await ensure_topics({"bootstrap_servers": kafka.bootstrap}, [spec], **options)
        assert await produce(kafka, "kept", b"one") == 0

        crashed = kafka.pid(0)
        kafka.kill(0)
        assert has_ended(crashed)
        assert live_brokers(first_port) == set()
        kafka.start_broker(0)
        assert kafka.pid(0) != crashed
        assert port_of(kafka.bootstrap) == first_port
        assert await produce(kafka, "kept", b"two") == 1

    [other_port] = free_ports([0])
    with EmbeddedKafka(tmp_path, port=other_port) as kafka:
        assert kafka.bootstrap == f"127.0.0.1:{other_port}"
        assert await values_of(kafka, "kept") == [b"one", b"two"]


def test_a_paused_broker_is_silent_until_it_is_resumed(kafka: EmbeddedKafka) -> None:
    port = port_of(kafka.bootstrap)
    kafka.pause(0)
    try:
        assert live_brokers(port, timeout_s=0.3) == set()
    finally:
        kafka.resume(0)
    wait_until(lambda: live_brokers(port) == {0})


def test_start_in_a_thread_that_ends_leaves_the_broker_alive(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path)
    starter = threading.Thread(target=kafka.start)
    starter.start()
    starter.join()
    try:
        assert live_brokers(port_of(kafka.bootstrap)) == {0}
    finally:
        kafka.stop()
    assert live_brokers(port_of(kafka.bootstrap)) == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_kill_9_of_the_owner_ends_its_broker_and_frees_the_data(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as owner:
        assert owner.stdout is not None
        told = json.loads(owner.stdout.readline())
        assert live_brokers(port_of(told["bootstrap"])) == {0}
        with pytest.raises(BrokerError, match="in use by another running broker"):
            EmbeddedKafka(tmp_path).start()
        owner.kill()
    wait_until(lambda: has_ended(told["pid"]))
    with EmbeddedKafka(tmp_path) as kafka:
        assert live_brokers(port_of(kafka.bootstrap)) == {0}


def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"^port {port} on 127\.0\.0\.1 is taken: .*$"):
            EmbeddedKafka(tmp_path, port=port).start()


def test_a_broker_that_cannot_start_tells_kafkas_reason(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, properties={"num.io.threads": "none"})
    with pytest.raises(BrokerError, match=r"num\.io\.threads") as raised:
        kafka.start()
    assert "\n" not in str(raised.value)
    with EmbeddedKafka(tmp_path):  # the folder is free and whole
        pass


def test_data_of_another_number_of_brokers_is_refused(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path):
        pass
    with pytest.raises(BrokerError, match=r"holds the data of 1 broker\(s\), not of 3"):
        EmbeddedKafka(tmp_path, brokers=3).start()


async def test_three_brokers_outlive_the_loss_of_one(tmp_path: Path) -> None:
    kafka = EmbeddedKafka(tmp_path, brokers=3)
    kafka.start()
    try:
        client = {"bootstrap_servers": kafka.bootstrap}
        spec = TopicSpec("safe", 3, {})
        await ensure_topics(client, [spec], replication_factor=3)
        assert await produce(kafka, "safe", b"one") == 0
        kafka.kill(2)
        assert await produce(kafka, "safe", b"two") == 1
        kafka.start_broker(2)
        first = port_of(kafka.bootstrap.split(",", maxsplit=1)[0])
        wait_until(lambda: live_brokers(first) == {0, 1, 2})
    finally:
        kafka.stop(term_timeout_s=0.5)


def test_each_jar_of_the_cache_is_in_the_manifest_and_no_other(kafka: EmbeddedKafka) -> None:
    assert kafka.pid(0) > 0
    jars = install_jars(cache_dir())
    folder = kafka_dir(cache_dir()) / "jars"
    assert {jar.name for jar in jars} == {path.name for path in folder.iterdir()}
    assert len(jars) == len(read_manifest())


def test_a_jar_that_does_not_match_is_not_installed(tmp_path: Path) -> None:
    coordinate = "org.jspecify:jspecify:1.0.0"  # the smallest of them, 4 kB
    manifest = tmp_path / "manifest"
    manifest.write_text(f"{'0' * 64}  {coordinate}\n", encoding="utf-8")
    with pytest.raises(BrokerError) as raised:
        install_jars(tmp_path / "cache", manifest)
    if str(raised.value).startswith("cannot fetch"):
        pytest.skip("no network")  # all other tests do without it once the cache is warm
    assert str(raised.value).startswith(f"{coordinate} does not match its checksum")
    assert list(kafka_dir(tmp_path / "cache", manifest).iterdir()) == []

    manifest.write_text(f"{read_manifest(MANIFEST)[coordinate]}  {coordinate}\n", encoding="utf-8")
    [jar] = install_jars(tmp_path / "cache", manifest)
    assert jar.name == "jspecify-1.0.0.jar"


def test_a_child_is_led_by_itself_and_keeps_its_pid(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = "import os; print(os.getpid(), os.getsid(0), os.getcwd(), os.environ['WORD'])"
    with out.open("wb") as stdout:
        child = start_child(
            [sys.executable, "-c", code], env={"WORD": "said"}, stdout=stdout, cwd=tmp_path
        )
    assert child.wait(20) == 0
    pid = str(child.pid)
    assert out.read_text(encoding="utf-8").split() == [pid, pid, str(tmp_path), "said"]


def test_end_child_kills_one_that_does_not_listen(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    deaf = f"trap '' TERM; touch '{ready}'; while true; do read -t 60 line < /dev/zero; done"
    child = start_child([shutil.which("bash") or "bash", "-c", deaf])
    wait_until(ready.exists)
    assert end_child(child, term_timeout_s=0.2) == -9
    assert end_child(child) == -9


def test_a_command_that_is_not_there_ends_with_127(tmp_path: Path) -> None:
    child = start_child([tmp_path / "nothing"], stderr=subprocess.DEVNULL)
    assert child.wait(20) == 127
