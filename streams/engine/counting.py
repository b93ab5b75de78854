"""What commits tell the metrics: an epoch counts once it is committed, and never twice."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from streams.engine.definitions import Topology
from streams.engine.epoch import Epoch
from streams.engine.errors import CommitFailedError, FencedError, KafkaUnavailableError
from streams.engine.meters import Meters
from streams.engine.metrics import (
    ABORTS,
    CACHE_HITS,
    CACHE_MISSES,
    COMMIT_DURATION,
    COMMITS,
    CONSUMER_MESSAGES,
    DEAD_LETTERS,
    END_TO_END_LATENCY,
    PRODUCER_ERRORS,
    PRODUCER_MESSAGES,
    RECORDS_DEAD,
    RECORDS_IN,
    RECORDS_LATE,
    RECORDS_OUT,
    RECORDS_PROCESSED,
    RECORDS_SKIPPED,
)
from streams.engine.records import Outgoing, TopicPartition
from streams.engine.task import Task


def begin_at_zero(meters: Meters, topology: Topology, application_id: str) -> None:
    """Make all series appear whose labels are known: a rate can only see a series' second value."""
    for topic in topology.inputs:
        meters.add(CONSUMER_MESSAGES, 0, topic.name)
    for flow in topology.flows:
        written = [topic.name for topic in flow.outputs]
        written += [flow.keeps.changelog(application_id)] if flow.keeps else []
        for topic_name in written:
            meters.add(RECORDS_OUT, 0, topic_name, flow.name)
            meters.add(PRODUCER_MESSAGES, 0, topic_name)
        for topic in flow.reads:
            for metric in (
                RECORDS_IN,
                RECORDS_PROCESSED,
                RECORDS_LATE,
                RECORDS_SKIPPED,
                RECORDS_DEAD,
            ):
                meters.add(metric, 0, topic.name, flow.name)
    for table in topology.tables:
        meters.add(CACHE_HITS, 0, table.name)
        meters.add(CACHE_MISSES, 0, table.name)
    for topic_name in [topology.dead_letters, *[topology.late_records] * topology.tells_late]:
        meters.add(RECORDS_OUT, 0, topic_name, "")
        meters.add(PRODUCER_MESSAGES, 0, topic_name)


@contextmanager
def commit_counted(
    task: Task, epoch: Epoch, changed: Mapping[str, Sequence[Outgoing]]
) -> Iterator[None]:
    """Count what the body commits: all of the epoch, or an abort if it raises.

    `changed` are the changelogs' records. What is in doubt after an error, `found` decides.
    """
    keepers = {
        flow.keeps.changelog(task.config.application_id): flow.name
        for flow in task.subtopology.flows
        if flow.keeps
    }
    for changelog, rows in changed.items():
        epoch.written[changelog, keepers[changelog]] += len(rows)
    for topic in (task.dead_letters_topic, task.late_records_topic):
        if records := epoch.outputs.get(topic):
            epoch.written[topic, ""] += len(records)
    epoch.number = task.position.commit + 1
    task.undecided = epoch
    begun_s = task.clock.monotonic_s()
    task.transaction_since_s = begun_s if task.config.exactly_once else None
    try:
        yield
    except BaseException as error:
        task.meters.add(ABORTS, 1)
        failed(task, error)
        raise
    task.undecided = task.transaction_since_s = None
    task.meters.observe(COMMIT_DURATION, task.clock.monotonic_s() - begun_s)
    now_ms = task.clock.wall_ms()
    for tp, oldest_ms in epoch.oldest_ms.items():
        task.meters.observe(END_TO_END_LATENCY, max(0, now_ms - oldest_ms) / 1000, tp.topic)
    _count(task, epoch)


def found(task: Task, committed: Mapping[TopicPartition, int], commit: int) -> None:
    """Count the epoch whose commit is in doubt, if these are its offsets and its commit's number.

    To be called when the task is taken anew: then no transaction of its is open any more, and the
    offsets are final.
    """
    epoch, task.undecided = task.undecided, None
    task.transaction_since_s = None
    if (
        epoch is not None
        and epoch.number == commit
        and epoch.positions.items() <= committed.items()
    ):
        _count(task, epoch)


def sent(task: Task, records: Mapping[str, Sequence[Outgoing]]) -> None:
    """Count records that Kafka has acknowledged."""
    for topic, of_topic in records.items():
        task.meters.add(PRODUCER_MESSAGES, len(of_topic), topic)


def failed(task: Task, error: BaseException) -> None:
    """Count an error of a task's producer, if it is one."""
    if isinstance(error, (CommitFailedError, FencedError, KafkaUnavailableError, TimeoutError)):
        task.meters.add(PRODUCER_ERRORS, 1)


def _count(task: Task, epoch: Epoch) -> None:
    add = task.meters.add
    add(COMMITS, 1)
    for labels, counts in epoch.counts.items():
        ended = {
            RECORDS_PROCESSED: counts.processed,
            RECORDS_LATE: counts.late,
            RECORDS_SKIPPED: counts.skipped,
            RECORDS_DEAD: counts.dead,
        }
        add(RECORDS_IN, sum(ended.values()), *labels)
        for metric, records in ended.items():
            if records:
                add(metric, records, *labels)
    for labels, records in epoch.written.items():
        add(RECORDS_OUT, records, *labels)
    for _, _, headers in epoch.outputs.get(task.dead_letters_topic, ()):
        told = dict(headers)
        names = ("__streams.errors.topic", "headrace.reason", "headrace.agent")
        add(DEAD_LETTERS, 1, *(told[name].decode() for name in names))
    for part in task.parts.values():
        add(CACHE_HITS, part.hits, part.table.name)
        add(CACHE_MISSES, part.misses, part.table.name)
        part.hits = part.misses = 0
