"""Every metric of a worker, declared once: docs/metrics.md is made from this list.

    .venv/bin/python -m streams.engine.metrics > docs/metrics.md

Names follow Prometheus: base units (seconds, bytes), `_total` on counters, `headrace_` in front but
for the four `kafka_` ones, which dashboards of other Kafka clients know by these names. meters.py
keeps their values.
"""

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What a metric's value does."""

    COUNTER = "counter"
    """Grows, from 0 at the start of the process."""
    GAUGE = "gauge"
    """Goes up and down; a series is there as long as what it tells of."""
    HISTOGRAM = "histogram"
    """Observations, counted in buckets."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric: its help has the unit, and when it is counted or taken."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds (inclusive) of a histogram's buckets, but for the last, which has none."""


# -- records: counted when the commit that has them has ended, so those of an aborted one count once,
# when they are done again (law 5: in = processed + late + skipped + dead).

_COMMITTED: Final = "Counted with the commit that they are part of."

RECORDS_IN: Final = Metric(
    "headrace_records_in_total",
    Kind.COUNTER,
    "Records of an input that a flow is done with: the sum of processed, late, skipped and dead. "
    + _COMMITTED,
    ("topic", "flow"),
)
RECORDS_PROCESSED: Final = Metric(
    "headrace_records_processed_total",
    Kind.COUNTER,
    "Records of an input that a flow's rule has processed and that were not late. " + _COMMITTED,
    ("topic", "flow"),
)
RECORDS_LATE: Final = Metric(
    "headrace_records_late_total",
    Kind.COUNTER,
    "Records of an input whose window was gone when the flow came to them. " + _COMMITTED,
    ("topic", "flow"),
)
RECORDS_SKIPPED: Final = Metric(
    "headrace_records_skipped_total",
    Kind.COUNTER,
    "Records of an input with an unknown event type, or a null value. " + _COMMITTED,
    ("topic", "flow"),
)
RECORDS_DEAD: Final = Metric(
    "headrace_records_dead_total",
    Kind.COUNTER,
    "Records of an input that became dead letters, for each flow that reads it. " + _COMMITTED,
    ("topic", "flow"),
)
DEAD_LETTERS: Final = Metric(
    "headrace_dead_letters_total",
    Kind.COUNTER,
    "Dead letters by the topic of their source record, reason and agent (empty where none had a "
    "part in it). " + _COMMITTED,
    ("topic", "reason", "agent"),
)
RECORDS_OUT: Final = Metric(
    "headrace_records_out_total",
    Kind.COUNTER,
    "Records written: by topic, and by the flow that emits to it or keeps the changelog's table "
    "(empty for dead letters). " + _COMMITTED,
    ("topic", "flow"),
)

# -- lag: read when they are asked for, of the inputs of the tasks that run here. Labels are
# kafka_exporter's, so that both can be shown in one chart.

_OF_INPUT: Final = ("consumergroup", "topic", "partition")

LAG_RECORDS: Final = Metric(
    "headrace_consumer_lag_records",
    Kind.GAUGE,
    "Offsets between what is committed and the end of the partition, as the last fetch told it.",
    _OF_INPUT,
)
LAG_SECONDS: Final = Metric(
    "headrace_consumer_lag_seconds",
    Kind.GAUGE,
    "Seconds since the Kafka timestamp of the oldest record that was fetched and is not committed; "
    "0 where there is none.",
    _OF_INPUT,
)
HELD_BACK_RECORDS: Final = Metric(
    "headrace_input_held_back_records",
    Kind.GAUGE,
    "Offsets between the last stable offset and the end of the partition, as the last fetch told "
    "them: what a transaction that somebody has open keeps from being read.",
    _OF_INPUT,
)

# -- latency, observed once a commit

COMMIT_DURATION: Final = Metric(
    "headrace_commit_duration_seconds",
    Kind.HISTOGRAM,
    "Seconds from the beginning of a commit to the end of its transaction, when everybody sees it; "
    "of commits that succeeded.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0),
)
END_TO_END_LATENCY: Final = Metric(
    "headrace_end_to_end_latency_seconds",
    Kind.HISTOGRAM,
    "Seconds from a record's Kafka timestamp to the end of the transaction that commits it: of the "
    "first record that each commit has of an input, which waited longest.",
    ("topic",),
    buckets=(0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)

# -- commits and the group

COMMITS: Final = Metric(
    "headrace_commits_total",
    Kind.COUNTER,
    "Commits that succeeded; one whose answer was lost counts when the task is taken anew here and "
    "finds it.",
)
ABORTS: Final = Metric(
    "headrace_aborts_total",
    Kind.COUNTER,
    "Commits that were begun and not ended, or whose end is not known: the task begins again at its "
    "committed offsets.",
)
FENCES: Final = Metric(
    "headrace_fences_total",
    Kind.COUNTER,
    "How often another producer had taken a task's transactional id.",
)
OPEN_TRANSACTION_AGE: Final = Metric(
    "headrace_open_transaction_age_seconds",
    Kind.GAUGE,
    "Seconds since the oldest transaction was begun that this worker may have open; 0 without one. "
    "Of an input that is held back by somebody else's, headrace_input_held_back_records tells.",
)
REBALANCES: Final = Metric(
    "headrace_rebalances_total",
    Kind.COUNTER,
    "How often the group has assigned tasks to this worker, or told it that there are none.",
)
TASKS: Final = Metric(
    "headrace_tasks",
    Kind.GAUGE,
    "Tasks of this worker by state: running, taking, restoring, suspended.",
    ("state",),
)

# -- restore and standby

RESTORE_REMAINING: Final = Metric(
    "headrace_restore_remaining_records",
    Kind.GAUGE,
    "Changelog offsets that are still to be read before a task's table is whole; 0 when it is.",
    ("task", "table"),
)
RESTORED_RECORDS: Final = Metric(
    "headrace_restored_records_total",
    Kind.COUNTER,
    "Changelog records read to restore a table. Counted when they are on disk.",
    ("task", "table"),
)
STANDBY_LAG: Final = Metric(
    "headrace_standby_lag_records",
    Kind.GAUGE,
    "Changelog offsets that a copy of a task owned elsewhere is behind, all tables together.",
    ("task",),
)
GLOBAL_LAG: Final = Metric(
    "headrace_global_table_lag_records",
    Kind.GAUGE,
    "Changelog offsets that this worker's copy of a global table is behind, all partitions together.",
    ("table",),
)

# -- state

CACHE_HITS: Final = Metric(
    "headrace_cache_hits_total",
    Kind.COUNTER,
    "Rows that batches changed, less those that RocksDB was asked for in the same batch. Counted at "
    "commits.",
    ("table",),
)
CACHE_MISSES: Final = Metric(
    "headrace_cache_misses_total",
    Kind.COUNTER,
    "Rows that RocksDB was asked for as they were not in memory, those it does not have included. "
    "Counted at commits.",
    ("table",),
)
CACHE_ROWS: Final = Metric(
    "headrace_cache_rows",
    Kind.GAUGE,
    "Rows in memory, decoded, of all tasks; keys that are known to have none included.",
    ("table",),
)
STORE_SIZE: Final = Metric(
    "headrace_store_size_bytes",
    Kind.GAUGE,
    "Bytes of the files in the folder of the RocksDB of a task that this worker owns.",
    ("task",),
)
STORE_MEMORY: Final = Metric(
    "headrace_store_memory_bytes",
    Kind.GAUGE,
    "Bytes in memory of all RocksDBs of this worker: write_buffers, block_cache. Both fill up to a limit.",
    ("part",),
)

# -- what the Kafka clients did, aborted transactions included

PRODUCER_MESSAGES: Final = Metric(
    "kafka_producer_messages_total",
    Kind.COUNTER,
    "Records that Kafka has acknowledged, those of aborted transactions included.",
    ("topic",),
)
PRODUCER_ERRORS: Final = Metric(
    "kafka_producer_errors_total",
    Kind.COUNTER,
    "Commits, and tries to take a task, that failed: Kafka refused them, or did not answer in time.",
)
CONSUMER_MESSAGES: Final = Metric(
    "kafka_consumer_messages_total",
    Kind.COUNTER,
    "Records of inputs that were fetched; those of an aborted commit are fetched again.",
    ("topic",),
)
CONSUMER_ERRORS: Final = Metric(
    "kafka_consumer_errors_total",
    Kind.COUNTER,
    "Fetches, and looks at the member of the group, that failed and are tried again.",
)

# -- the worker

BUILD_INFO: Final = Metric(
    "headrace_build_info",
    Kind.GAUGE,
    "1, with the version, the application and its processing guarantee.",
    ("version", "application", "guarantee"),
)
LOOP_AGE: Final = Metric(
    "headrace_loop_age_seconds",
    Kind.GAUGE,
    "Seconds since the engine's loop has last turned; /livez looks at it.",
)

SECTIONS: Final[dict[str, tuple[Metric, ...]]] = {
    "Records": (
        RECORDS_IN,
        RECORDS_PROCESSED,
        RECORDS_LATE,
        RECORDS_SKIPPED,
        RECORDS_DEAD,
        DEAD_LETTERS,
        RECORDS_OUT,
    ),
    "Lag": (LAG_RECORDS, LAG_SECONDS, HELD_BACK_RECORDS),
    "Latency": (COMMIT_DURATION, END_TO_END_LATENCY),
    "Commits and the group": (COMMITS, ABORTS, FENCES, OPEN_TRANSACTION_AGE, REBALANCES, TASKS),
    "Restore and standby": (RESTORE_REMAINING, RESTORED_RECORDS, STANDBY_LAG, GLOBAL_LAG),
    "State": (CACHE_HITS, CACHE_MISSES, CACHE_ROWS, STORE_SIZE, STORE_MEMORY),
    "Kafka clients": (PRODUCER_MESSAGES, PRODUCER_ERRORS, CONSUMER_MESSAGES, CONSUMER_ERRORS),
    "The worker": (BUILD_INFO, LOOP_AGE),
}
METRICS: Final = tuple(metric for section in SECTIONS.values() for metric in section)

_INTRODUCTION: Final = """\
# Metrics

Each worker serves these at `/metrics` of its web port, in Prometheus' text format, and in OpenMetrics to
whoever accepts that; beside them those of the Python process: `process_*`, `python_*`. Counters begin at 0
with the process. What to alert on stands in [operations](operations.md#watching).

This page is made from [the list in the code](../streams/engine/metrics.py):
`.venv/bin/python -m streams.engine.metrics > docs/metrics.md`.
"""


def page() -> str:
    """Return docs/metrics.md."""
    return "\n".join([_INTRODUCTION, *map(_section, SECTIONS)])


def _section(title: str) -> str:
    lines = [f"## {title}", "", "| metric | type | labels | tells |", "|---|---|---|---|"]
    for metric in SECTIONS[title]:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(page())
