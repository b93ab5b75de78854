"""What a worker says of itself when it starts: how it is set up, and no secret."""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config.settings import Settings
    from streams.engine.definitions import Flow, Topology

log = logging.getLogger(__name__)


def show_banner(settings: Settings, topology: Topology, partitions: int) -> None:
    """Tell how this worker is set up: a few lines on a terminal, else one log line with fields."""
    facts = banner_facts(settings, topology, partitions)
    if not sys.stderr.isatty():
        log.info("worker starts", extra=dict(facts))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in facts.items():
        text = "\n".join(value) if isinstance(value, list) else str(value)
        grid.add_row(Text(name.replace("_", " "), style="dim"), Text(text))
    Console(stderr=True).print(grid)


def banner_facts(settings: Settings, topology: Topology, partitions: int) -> Mapping[str, Any]:
    """Return what is told, by name, in order."""
    from streams.engine.layout import subtopologies

    login = {}
    if settings.kafka_security_protocol.startswith("SASL"):
        login = {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_username": settings.kafka_sasl_username,
        }
    return {
        "version": version("headrace"),
        "application_id": settings.app_id,
        "brokers": list(settings.kafka_brokers),
        "security_protocol": settings.kafka_security_protocol,
        **login,
        "guarantee": settings.processing_guarantee,
        "commit_interval_ms": settings.commit_interval_ms,
        "partitions": partitions,
        "tasks": partitions * len(subtopologies(topology)),
        "state": str(settings.data_dir / settings.app_id),
        "flows": [_way(flow) for flow in topology.flows],
    }


def _way(flow: Flow) -> str:
    """Return a flow as an arrow: what it reads, its name, what it makes."""
    reads = [topic.name for topic in flow.reads] + [f"table {table.name}" for table in flow.joins]
    makes = [topic.name for topic in flow.outputs]
    makes += [f"table {flow.keeps.name}"] if flow.keeps else []
    return " -> ".join([", ".join(reads), flow.name, ", ".join(makes)])
