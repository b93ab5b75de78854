"""Every system that is measured, in the order in which it is; those with one input side by side.

Bytewax 0.21.1 is not: its Kafka source takes part in no consumer group and commits no offsets
(`bytewax/connectors/kafka`: "group.id": "BYTEWAX_IGNORED"), its state goes to SQLite files of its
recovery store and not to changelogs, and windows tell their outcome only when they close. So it
cannot do this work, nor be watched at it by the same means.
"""

from __future__ import annotations

from bench.systems.aiokafka_read import AiokafkaRead
from bench.systems.faust import Faust
from bench.systems.headrace import Headrace
from bench.systems.kafka_streams import KafkaStreams
from bench.systems.quix import Quix
from bench.systems.system import System, label

ALL: tuple[System, ...] = (
    Headrace("exactly_once"),
    Headrace("at_least_once"),
    Headrace("exactly_once", all_flows=True),
    KafkaStreams("exactly_once"),
    KafkaStreams("at_least_once"),
    KafkaStreams("exactly_once", threads=2),
    KafkaStreams("at_least_once", threads=2),
    AiokafkaRead(),
    Quix("exactly_once"),
    Quix("at_least_once"),
    Faust(),
)
LABELS = {label(system): system for system in ALL}


def chosen(words: str) -> tuple[System, ...]:
    """Return the systems of these words, with commas between: labels, or names for all of a name.

    Raise ValueError, in a line for people, for a word that is neither.
    """
    wanted = [word.strip() for word in words.split(",") if word.strip()]
    for word in wanted:
        if word not in LABELS and word not in {system.name for system in ALL}:
            known = ", ".join(LABELS)
            raise ValueError(f"no such system: {word}; there are {known}, and names alone")
    found = tuple(s for s in ALL if s.name in wanted or label(s) in wanted)
    if not found:
        raise ValueError(f"no system was named; there are {', '.join(LABELS)}")
    return found
