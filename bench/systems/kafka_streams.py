"""Kafka Streams, on the Java runtime of the embedded Kafka."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import java
from bench.systems.system import Command, Guarantee, Place, Usual, counted
from bench.work import Row, TableName, minute_key

_WINDOW: Final = struct.Struct(">qi")  # start, ms, and a number that is 0
_GUARANTEES: Final = {"exactly_once": "exactly_once_v2", "at_least_once": "at_least_once"}


@dataclass(frozen=True)
class KafkaStreams(Usual):
    """bench/programs/OrderStreams.java with its makers' recommended settings."""

    guarantee: Guarantee
    threads: int = 1
    name = "kafka-streams"
    share = 1.0
    does_the_work = True
    source = java.SOURCE

    @property
    def variant(self) -> str:
        """The number of stream threads where there are several."""
        return f"{self.threads}-threads" if self.threads > 1 else ""

    def prepare(self) -> str:
        """Fetch its jars and compile the program; return its version."""
        java.program(self.source)
        return java.STREAMS_VERSION

    def command(self, place: Place) -> Command:
        """Write the properties that the program reads; return its start."""
        place.folder.mkdir(parents=True, exist_ok=True)
        file = place.folder / "streams.properties"
        lines = self.settings(place, place.folder / "state")
        file.write_text("".join(f"{name}={value}\n" for name, value in lines.items()), "utf-8")
        return Command((*java.program(self.source), str(file)), {})

    def settings(self, place: Place, state: Path) -> dict[str, str | int]:
        """Return its configuration."""
        return {
            "application.id": place.app_id,
            "client.id": place.folder.name,
            "bootstrap.servers": place.bootstrap,
            "state.dir": str(state),
            "processing.guarantee": _GUARANTEES[self.guarantee],
            "num.stream.threads": self.threads,
            # By default 100 ms exactly once and 30 s at least once.
            "commit.interval.ms": place.commit_interval_ms,
            # docs/streams/developer-guide/memory-mgmt: the record cache saves writes to RocksDB and
            # to changelogs. Its default of 10 MB is less than the work's tables at 10,000 keys.
            "statestore.cache.max.bytes": 256 * 1024 * 1024,
            # docs/streams/developer-guide/optimizing-streams.
            "topology.optimization": "all",
            # docs/streams/developer-guide/config-streams, "recommended ... for resiliency".
            "producer.acks": "all",
            # Confluent, "How to optimize a Kafka producer for throughput": 100 to 200 kB, lz4 and
            # 10 to 100 ms. Where latency is measured 5 ms, what producers have by themselves
            # (KIP-1030); Streams' own default is 100 ms.
            "producer.compression.type": "lz4",
            "producer.batch.size": 128 * 1024,
            "producer.linger.ms": min(100, place.commit_interval_ms // 20),
            "consumer.auto.offset.reset": "earliest",
        }

    def row(self, table: TableName, key: bytes, value: bytes) -> tuple[str, Row]:
        """Return a row; a window's key is the user, its start and a sequence number, as bytes."""
        if table == "user_orders":
            name = key.decode()
        else:
            start_ms, _ = _WINDOW.unpack(key[-_WINDOW.size :])
            name = minute_key(key[: -_WINDOW.size].decode(), start_ms)
        return name, counted(value)
