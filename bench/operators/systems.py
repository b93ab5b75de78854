"""The two systems whose operators are measured, exactly once and with one thread, as the bench runs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import java
from bench.operators.kinds import KINDS, Kind
from bench.systems.headrace import Headrace
from bench.systems.kafka_streams import KafkaStreams
from bench.systems.system import Place

_SOURCE: Final = java.SOURCE.with_name("OperatorStreams.java")


@dataclass(frozen=True)
class HeadraceOperator(Headrace):
    """bench/programs/headrace_operator.py."""

    kind: Kind = KINDS[0]
    program = "bench.programs.headrace_operator"

    @property
    def arguments(self) -> tuple[str, ...]:
        """The kind that it does."""
        return (self.kind.name,)


@dataclass(frozen=True)
class KafkaStreamsOperator(KafkaStreams):
    """bench/programs/OperatorStreams.java, with the settings that Kafka Streams has in the bench."""

    kind: Kind = KINDS[0]
    source = _SOURCE

    def settings(self, place: Place, state: Path) -> dict[str, str | int]:
        """Return its configuration, and the operator's times."""
        kind = self.kind
        return super().settings(place, state) | {
            "bench.operator": kind.operator,
            "bench.size.ms": kind.size_ms,
            "bench.advance.ms": kind.advance_ms,
            "bench.grace.ms": kind.grace_ms,
        }
