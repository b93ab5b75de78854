"""`headrace verify`: whether local state, changelogs and committed offsets agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from commands.groups import group_option, of_group
from commands.printing import in_order

if TYPE_CHECKING:
    from config.settings import Settings
    from streams.engine.definitions import Topology
    from streams.engine.verify import TaskReport

EXIT_EQUAL = 0
EXIT_DIFFERENT = 1


@click.command(short_help="Compare local state, changelogs and committed offsets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many differing rows a table to print.",
)
@group_option
def verify(*, as_json: bool, limit: int, group: str) -> int:
    """Compare local state, changelogs and committed offsets, task by task; change nothing.

    A worker may run meanwhile: keys that it changes are counted as newer and not compared. Of
    tasks without state in this HEADRACE_DATA_DIR, changelogs and offsets are compared alone.

    Status 0: all is equal. 1: something differs.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace verify
      KAFKA_BROKERS=127.0.0.1:9092 headrace verify --json --limit 100
    """
    import asyncio

    from config.settings import SettingsError, load_settings

    settings, topology = of_group(load_settings(), group)
    if not settings.kafka_brokers:
        raise SettingsError(
            "KAFKA_BROKERS is not set: verify needs a running Kafka; set host:port of its brokers"
        )
    is_equal = asyncio.run(_verify(settings, topology, as_json=as_json, limit=limit))
    return EXIT_EQUAL if is_equal else EXIT_DIFFERENT


async def _verify(settings: Settings, topology: Topology, *, as_json: bool, limit: int) -> bool:
    """Print what is found as it is found; return whether all is equal."""
    import msgspec

    from config.kafka_client import kafka_client_options
    from streams.engine.kafka import KafkaCluster, KafkaOptions
    from streams.engine.verify import verify as compare

    client = kafka_client_options(settings)
    partitions = await _partitions(client, topology, settings.app_id)
    cluster = KafkaCluster(KafkaOptions(client=client, group=settings.app_id))
    await cluster.start()
    reports = []
    inputs = [topic.name for topic in topology.inputs]
    try:
        found = compare(
            topology,
            cluster,
            application_id=settings.app_id,
            data_dir=settings.data_dir,
            partitions=partitions,
            limit=limit,
        )
        async for report in found:
            reports.append(report)
            if not as_json:
                click.echo("\n".join(_lines(report, inputs)))
    finally:
        await cluster.stop()
    is_equal = all(report.is_equal for report in reports)
    if as_json:
        click.echo(msgspec.json.encode({"equal": is_equal, "tasks": reports}))
    return is_equal


async def _partitions(client: dict[str, object], topology: Topology, application_id: str) -> int:
    """Return how many partitions all topics have. Raises TopicError where one is missing."""
    from streams.engine.admin import partition_counts
    from streams.engine.layout import own_topics
    from streams.errors import TopicError

    names = [topic.name for topic in topology.inputs] + list(own_topics(topology, application_id))
    counts = await partition_counts(client, names, timeout_s=30)
    missing = [name for name in names if name not in counts]
    if missing:
        raise TopicError(
            f"missing topics: {', '.join(missing)}; no worker has run here with HEADRACE_APP_ID="
            f"{application_id}"
        )
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {counts[name]}" for name in names)
        raise TopicError(f"the topics' numbers of partitions differ: {told}")
    return counts[names[0]]


def _lines(report: TaskReport, inputs: Sequence[str]) -> Iterator[str]:
    """Yield the lines for people: one for each table, then what differs, indented."""
    ordered = in_order(report.offsets, inputs)
    offsets = ", ".join(f"{topic} at {offset:,}" for topic, offset in ordered.items())
    at = offsets or "no offsets committed"
    for table in report.tables:
        if report.stored:
            what = f"{table.equal:,} rows equal"
            what += f", {table.newer:,} newer" if table.newer else ""
            what += f", {table.differing:,} DIFFER" if table.differing else ""
        else:
            what = f"{table.equal:,} rows in the changelog, no state in this folder"
        yield f"{report.task}  {table.table}  {what}; {at}"
        yield from (f"    {line}" for line in table.differences)
        if more := table.differing - len(table.differences):
            yield f"    and {more:,} more"
    if not report.tables:
        yield f"{report.task}  {at}"
    yield from (f"    DIFFERS  {line}" for line in report.differences)
