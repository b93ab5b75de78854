"""One Kafka broker as a child process: its settings, its folder, its start and its readiness."""

from __future__ import annotations

import base64
import contextlib
import os
import random
import shutil
import socket
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.child import end_child, start_child
from streams.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HOST = "127.0.0.1"
# Below the ports that Linux and macOS give to outgoing connections: from those, a client that
# keeps trying a stopped broker's port can be connected to itself, and the port is taken.
_PORTS = range(20_000, 32_000)
_POLL_S = 0.02
_FORMAT_TIMEOUT_S = 60.0
_LOG_NAME = "broker.log"
_REASON_LINES = 3

# A warning a line on stderr, which goes to the broker's log together with what the JVM says.
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSZ",
    # Each start that has network clients left warns twice of their closing; nobody can act on it.
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient=error",
)
_JVM = (
    "-Xms256m",
    "-Xmx512m",
    # Two short runs each, 2 shared cores: G1 let a client produce 6 and 15 % more, and took 0.07
    # and 0.11 core more under small transactions; reads differed more between runs than between
    # collectors. Serial is the smallest: 290 MB resident, G1 340, Parallel 360.
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    # Kafka 4.3 unmaps its index files by means that Java 25 warns of.
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


@dataclass(frozen=True)
class Java:
    """A Java runtime with Kafka's jars, and flags for it (the start cache)."""

    executable: Path
    jars: tuple[Path, ...]
    flags: tuple[str, ...] = ()

    def command(self, main_class: str, *arguments: str) -> list[str]:
        """Return the command line that runs main_class. The jars' order is part of the cache."""
        class_path = os.pathsep.join(map(str, self.jars))
        return [
            str(self.executable),
            *_JVM,
            *_LOGGING,
            *self.flags,
            "-cp",
            class_path,
            main_class,
            *arguments,
        ]


@dataclass(frozen=True)
class NodePlan:
    """Where one broker lives. node_id counts from 0; the folder keeps data, settings and log."""

    node_id: int
    folder: Path
    client_port: int
    controller_port: int
    more_ports: Mapping[str, int] = field(default_factory=dict)
    """Of further listeners, by their names."""

    @property
    def log_file(self) -> Path:
        """The broker's own log; each start appends."""
        return self.folder / _LOG_NAME

    @property
    def meta_file(self) -> Path:
        """What Kafka writes when it formats a folder: the cluster and node it belongs to."""
        return self.folder / "data" / "meta.properties"


def server_properties(
    plan: NodePlan,
    cluster: Sequence[NodePlan],
    overrides: Mapping[str, str],
    more_listeners: Mapping[str, str] = {},
) -> dict[str, str]:
    """Return the broker's settings; overrides win over all but none is required.

    more_listeners are names and security protocols of those in plan.more_ports.
    """
    protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **more_listeners}
    for_clients = {"PLAINTEXT": plan.client_port, **plan.more_ports}
    listeners = {**for_clients, "CONTROLLER": plan.controller_port}
    replicas = min(3, len(cluster))
    in_sync = max(1, replicas - 1)
    voters = ",".join(f"{n.node_id}@{HOST}:{n.controller_port}" for n in cluster)
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": plan.node_id,
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": ",".join(f"{n}:{p}" for n, p in protocols.items()),
        "listeners": _addresses(listeners),
        "advertised.listeners": _addresses(for_clients),
        # Relative to the working folder: any character may stand in the path above it.
        "log.dirs": "data",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        # 50 each by default: folders and files that a small machine opens for nothing.
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.num.partitions": 4,
        "auto.create.topics.enable": "false",
        # Kafka deletes by the records' own timestamps: replayed history would vanish at once.
        "log.retention.ms": -1,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # 2 s and 9 s by default. With these, one run each: a start after SIGKILL took 4.6 s instead
        # of 12.2 s (the old session has to end first), one after a stop 1.9 s instead of 2.5 s.
        "broker.heartbeat.interval.ms": 200,
        "broker.session.timeout.ms": 3000,
        # A quarter of the heap by default; this still holds a million keys a pass.
        "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
    }
    return {name: str(value) for name, value in settings.items()} | dict(overrides)


def _addresses(listeners: Mapping[str, int]) -> str:
    return ",".join(f"{name}://{HOST}:{port}" for name, port in listeners.items())


def write_settings(plan: NodePlan, settings: Mapping[str, str]) -> None:
    """Write server.properties into the broker's folder."""
    escaped = {name: value.replace("\\", "\\\\") for name, value in settings.items()}
    text = "".join(f"{name}={value}\n" for name, value in escaped.items())
    (plan.folder / "server.properties").write_text(text, encoding="latin-1")  # Java's choice


def format_folder(java: Java, plan: NodePlan, cluster_id: str, options: Sequence[str] = ()) -> None:
    """Make an empty data folder of the cluster; one that is formatted already is left as it is.

    options are those of `kafka-storage format`. Killed half way, it leaves no data folder. Raises
    BrokerError with Kafka's reason.
    """
    if plan.meta_file.exists():
        return
    # Kafka formats the `data` of the folder it runs in; only a complete one gets its place.
    draft = plan.folder / "formatting"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    settings = str(plan.folder / "server.properties")
    arguments = ("format", "-t", cluster_id, "-c", settings, *options)
    command = java.command("kafka.tools.StorageTool", *arguments)
    start_at = _size(plan.log_file)
    with plan.log_file.open("ab") as log:
        process = start_child(command, cwd=draft, stdout=log, stderr=log)
    try:
        status = process.wait(_FORMAT_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        status = end_child(process, term_timeout_s=0)
    if status != 0:
        reason = _reason(plan.log_file, start_at)
        message = f"Kafka could not format its data folder {plan.folder} ({status}): {reason}"
        raise BrokerError(message)
    shutil.rmtree(plan.folder / "data", ignore_errors=True)
    (draft / "data").rename(plan.folder / "data")
    draft.rmdir()


class Node:
    """A broker that has been started. Dies with this process (see streams.child)."""

    def __init__(self, java: Java, plan: NodePlan, *, pass_fds: Sequence[int] = ()) -> None:
        self.plan = plan
        self._log_start = _size(plan.log_file)
        command = java.command("kafka.Kafka", str(plan.folder / "server.properties"))
        with plan.log_file.open("ab") as log:
            self.process = start_child(
                command, cwd=plan.folder, stdout=log, stderr=log, pass_fds=pass_fds
            )

    def wait_until_ready(self, node_ids: set[int], deadline: float) -> None:
        """Return when the broker answers and sees all of node_ids alive.

        deadline is a time.monotonic(). Raises BrokerError when it passes or the process ends.
        """
        alive: set[int] = set()
        while not node_ids <= alive:
            if self.process.poll() is not None:
                raise BrokerError(self._failure(f"ended with status {self.process.returncode}"))
            if time.monotonic() > deadline:
                raise BrokerError(self._failure("was not ready in time"))
            alive = live_brokers(self.plan.client_port)
            if not node_ids <= alive:
                time.sleep(_POLL_S)

    def _failure(self, what: str) -> str:
        reason = _reason(self.plan.log_file, self._log_start)
        return f"Kafka broker {self.plan.node_id} {what}: {reason} (log: {self.plan.log_file})"


def live_brokers(port: int, timeout_s: float = 2.0) -> set[int]:
    """Return the node ids that the broker at the port takes for alive; none if it is silent."""
    client = b"headrace"
    # Metadata (api key 3) in version 4: no topics, create none.
    body = struct.pack(f">hhih{len(client)}sib", 3, 4, 1, len(client), client, 0, 0)
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            with connection.makefile("rb") as stream:
                return _node_ids(stream.read(*struct.unpack(">i", stream.read(4))))
    except (OSError, struct.error):
        return set()


def _node_ids(answer: bytes) -> set[int]:
    """Read the brokers of a Metadata answer, version 4."""
    (count,) = struct.unpack_from(">i", answer, 8)  # after correlation id and throttle time
    at, found = 12, set()
    for _ in range(count):
        node_id, host_size = struct.unpack_from(">ih", answer, at)
        (rack_size,) = struct.unpack_from(">h", answer, at + 6 + host_size + 4)
        at += 6 + host_size + 4 + 2 + max(0, rack_size)
        found.add(node_id)
    return found


def free_ports(wanted: Sequence[int]) -> list[int]:
    """Return the ports as wanted, with a free one for each 0. Raises BrokerError on a taken one."""
    with contextlib.ExitStack() as held:  # all are held until the last is found: no port twice
        return [_free_port(port, held) for port in wanted]


def _free_port(wanted: int, held: contextlib.ExitStack) -> int:
    candidates = [wanted] if wanted else random.sample(_PORTS, 100)
    for port in candidates:
        listener = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        # As Kafka does: a port whose old connections linger in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
            listener.listen(1)
        except OSError:
            continue
        return port
    what = f"port {wanted} on {HOST} is taken" if wanted else f"no free port found on {HOST}"
    message = f"{what}: choose another port for the embedded Kafka"
    raise BrokerError(message)


def new_cluster_id() -> str:
    """Return a random id in Kafka's form of a UUID; dashes would look like options to its tools."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(log: Path, start_at: int) -> str:
    """Return what a log says since start_at, in one line: its errors, else its last lines."""
    with log.open("rb") as file:
        file.seek(start_at)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # Of stack traces only the messages; what has failed first stands in the last cause.
    told = [line for line in lines if not line.startswith(("at ", "..."))]
    errors = [line for line in told if "ERROR" in line or "Exception:" in line or "Error:" in line]
    return " | ".join((errors or told)[-_REASON_LINES:]) or "it wrote no log"
