"""`headrace topics`: make, list, describe and read topics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commands.topic_facts import TopicFacts
    from config.settings import Settings

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@click.group(short_help="Make, list, describe and read topics.")
def topics() -> None:
    """Make, list, describe and read topics, on the Kafka that KAFKA_BROKERS names.

    \b
    Examples:
      headrace topics create
      headrace topics list
      headrace topics tail high-value-orders --follow
    """


@topics.command(short_help="Make the topics that the application needs, or a named one.")
@click.argument("name", required=False)
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    help="Number of partitions.  [default: that of the inputs, else HEADRACE_PARTITIONS]",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 32_767),
    help="Copies of each partition.  [default: KAFKA_REPLICATION_FACTOR]",
)
@_AS_JSON
def create(
    *, name: str | None, partitions: int | None, replication_factor: int | None, as_json: bool
) -> int:
    """Make what is missing of the topics that the application needs; or the topic NAME.

    What is there is left as it is, so that it may be called again and again. A topic that is there
    with another number of partitions is refused.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace topics create
      KAFKA_BROKERS=kafka-1:9092 headrace topics create --partitions 12 --replication-factor 3
      KAFKA_BROKERS=127.0.0.1:9092 headrace topics create scratch --partitions 2
    """
    from commands.asking import run_to_end, running_kafka

    settings, client = running_kafka("topics")
    wanted = (
        {"partitions": settings.partitions} if partitions is None else {"partitions": partitions}
    )
    copies = replication_factor or settings.kafka_replication_factor
    known = settings.model_copy(update={**wanted, "kafka_replication_factor": copies})
    return run_to_end(
        _create(known, client, name, is_exact=partitions is not None, as_json=as_json)
    )


async def _create(
    settings: Settings, client: dict[str, Any], name: str | None, *, is_exact: bool, as_json: bool
) -> None:
    import msgspec

    from commands.printing import print_table
    from commands.topic_making import make_topics

    made = await make_topics(settings, client, name, is_exact=is_exact)
    if as_json:
        click.echo(msgspec.json.encode(made))
        return
    rows = [
        (each.topic, each.kind, each.partitions, "made" if each.made else "was there")
        for each in made
    ]
    print_table(("topic", "is", "partitions", ""), rows)


@topics.command("list", short_help="List the application's topics.")
@click.option("--all", "others", is_flag=True, help="List what else the cluster has, too.")
@_AS_JSON
def list_(*, others: bool, as_json: bool) -> int:
    """List the application's topics: what each is, its partitions and records.

    Records are counted as end less begin of the offsets: what compaction has removed and the
    markers of transactions count too. A topic that is missing has dashes.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace topics list
      KAFKA_BROKERS=127.0.0.1:9092 headrace topics list --all --json
    """
    from commands.asking import run_to_end, running_kafka

    settings, client = running_kafka("topics")
    return run_to_end(_list(settings, client, others=others, as_json=as_json))


async def _list(settings: Settings, client: dict[str, Any], *, others: bool, as_json: bool) -> None:
    import msgspec

    from commands.groups import every_group
    from commands.printing import print_table
    from commands.topic_facts import kinds, topic_facts

    known = kinds(every_group(settings))
    facts = await topic_facts(client, known, others=others)
    if as_json:
        objects = [
            {
                "topic": each.topic,
                "kind": each.kind,
                "partitions": len(each.partitions),
                "records": each.records,
            }
            for each in facts
        ]
        click.echo(msgspec.json.encode(objects))
        return
    rows = [(e.topic, e.kind, len(e.partitions) or None, e.records) for e in facts]
    print_table(("topic", "is", "partitions", "records"), rows)


@topics.command(short_help="Show a topic's partitions and configuration.")
@click.argument("name")
@_AS_JSON
def describe(*, name: str, as_json: bool) -> int:
    """Show the topic NAME: its partitions, and what of its configuration is not Kafka's default.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace topics describe orders
    """
    from commands.asking import run_to_end, running_kafka

    settings, client = running_kafka("topics")
    return run_to_end(_describe(settings, client, name, as_json=as_json))


async def _describe(
    settings: Settings, client: dict[str, Any], name: str, *, as_json: bool
) -> None:
    import msgspec

    from commands.groups import every_group
    from commands.printing import counted, print_table
    from commands.topic_facts import changed_config, kinds, one_topic

    facts = await one_topic(client, kinds(every_group(settings)), name)
    config = await changed_config(client, name)
    if as_json:
        document = {**msgspec.to_builtins(facts), "config": {e.name: e.value for e in config}}
        click.echo(msgspec.json.encode(document))
        return
    click.echo(f"{name}: {facts.kind}, {counted(len(facts.partitions), 'partition')}\n")
    print_table(("configuration", "value", "set by"), config)
    click.echo()
    print_table(
        ("partition", "leader", "replicas", "in sync", "begin", "end"), _partition_rows(facts)
    )


def _partition_rows(facts: TopicFacts) -> Sequence[tuple[str | int | None, ...]]:
    return [
        (
            str(each.partition),
            "none" if each.leader < 0 else str(each.leader),
            ",".join(map(str, each.replicas)),
            ",".join(map(str, each.in_sync)),
            each.begin,
            each.end,
        )
        for each in facts.partitions
    ]


@topics.command(short_help="Print a topic's records, events decoded.")
@click.argument("name")
@click.option(
    "--last",
    "-n",
    metavar="N",
    type=click.IntRange(min=0),
    help="The last N records of all partitions together.  [default: 10]",
)
@click.option("--from-beginning", is_flag=True, help="All records, from the first that is there.")
@click.option(
    "--follow/--until-end",
    "-f/",
    default=False,
    help="Go on with what comes, until Ctrl-C; or end at the end.  [default: until-end]",
)
@click.option(
    "--partition",
    "-p",
    "numbers",
    metavar="P",
    type=click.IntRange(min=0),
    multiple=True,
    help="Only this partition; may be given more than once.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a record.")
def tail(
    *,
    name: str,
    last: int | None,
    from_beginning: bool,
    follow: bool,
    numbers: tuple[int, ...],
    as_json: bool,
) -> int:
    """Print records of the topic NAME, a line each, as readers of committed records see them.

    A line has Kafka's time, partition@offset, the key, the event's type and its data's fields but
    for the key; of what is no event, the raw value. Partitions are read side by side: only the
    records of one partition are in their order.

    \b
    Examples:
      headrace topics tail high-value-orders
      headrace topics tail orders --follow --partition 0
      headrace topics tail orders --from-beginning --json | head -n 1000 > orders.jsonl
    """
    from commands.asking import run_to_end, running_kafka

    if from_beginning and last is not None:
        raise click.UsageError("--last and --from-beginning exclude each other")
    _, client = running_kafka("topics")
    count = None if from_beginning else 10 if last is None else last
    work = _tail(client, name, numbers, count, follow=follow, as_json=as_json)
    return run_to_end(work, endless=follow)


async def _tail(
    client: dict[str, Any],
    name: str,
    numbers: Sequence[int],
    count: int | None,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    from commands.reading import read_tail, reader
    from commands.records import print_records
    from commands.topic_facts import partitions_of
    from streams.errors import TopicError

    partitions = await partitions_of(client, name)
    if unknown := set(numbers) - {tp.partition for tp in partitions}:
        raise TopicError(
            f"topic {name} has no partition {min(unknown)}: it has 0 to {len(partitions) - 1}"
        )
    chosen = [tp for tp in partitions if not numbers or tp.partition in numbers]
    printed = 0
    async with reader(client) as consumer:
        async for records in read_tail(consumer, chosen, count, follow=follow):
            print_records(records, as_json=as_json)
            printed += len(records)
    if not printed:
        click.echo("no records", err=True)
