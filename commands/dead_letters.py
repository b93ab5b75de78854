"""`headrace dead-letters`: the records that were refused, and why."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from aiokafka import TopicPartition

    from commands.letters import Letter

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_PLACE = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)-(?P<partition>\d+)@\d+")


@click.group(short_help="Show the records that were refused, and why.")
def dead_letters() -> None:
    """Show the records that were refused, and why.

    \b
    Examples:
      headrace dead-letters list
      headrace dead-letters show orders-1@1174
      headrace dead-letters counts
    """


@dead_letters.command("list", short_help="List the last dead letters.")
@click.option("--reason", metavar="R", help="Only this reason, as invalid-field.")
@click.option(
    "--last",
    "-n",
    metavar="N",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many of the last ones.",
)
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@_AS_JSON
def list_(*, reason: str | None, last: int, follow: bool, as_json: bool) -> int:
    """List the last dead letters: when, which record, why, and what is wrong with it.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace dead-letters list --reason rule-failed
      KAFKA_BROKERS=127.0.0.1:9092 headrace dead-letters list --last 0 --follow --json
    """
    from commands.asking import run_to_end, running_kafka
    from streams.engine.records import Reason

    if reason is not None and reason not in set(Reason):
        raise click.BadParameter(f"it is one of {', '.join(Reason)}", param_hint="--reason")
    _, client = running_kafka("dead-letters")
    return run_to_end(_list(client, reason, last, follow=follow, as_json=as_json), endless=follow)


async def _list(
    client: dict[str, Any], reason: str | None, last: int, *, follow: bool, as_json: bool
) -> None:
    from commands.letters import letter
    from commands.printing import print_table
    from commands.reading import read_tail, reader
    from commands.records import print_records

    def is_wanted(record: Any) -> bool:
        return reason is None or letter(record).reason == reason

    partitions = await _partitions(client)
    async with reader(client) as consumer:
        async for records in read_tail(consumer, partitions, last, is_wanted, follow=follow):
            letters = [letter(record) for record in records]
            if as_json:
                print_records(records, as_json=True)
            elif follow:
                for each in letters:
                    click.echo("  ".join(_row(each)))
            else:
                print_table(("refused at", "record", "reason", "message"), map(_row, letters))


def _row(each: Letter) -> Sequence[str]:
    from commands.printing import printable, time_text

    failed = f" in {printable(each.agent)}" if each.agent else ""
    return (
        time_text(each.refused_at_ms),
        each.source,
        f"{each.reason}{failed}",
        printable(each.message),
    )


@dead_letters.command(short_help="Show one dead letter: headers, trace, key and value.")
@click.argument("record", metavar="TOPIC-PARTITION@OFFSET")
@_AS_JSON
def show(*, record: str, as_json: bool) -> int:
    """Show the dead letter of one record: its headers, the trace of a rule, its key and its value.

    The record is named as `dead-letters list` does. A record that was refused more than once (under
    several application ids, say) is shown as often.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace dead-letters show orders-1@1174
    """
    from commands.asking import run_to_end, running_kafka

    place = _PLACE.fullmatch(record)
    if place is None:
        raise click.BadParameter("it looks like orders-1@1174", param_hint="TOPIC-PARTITION@OFFSET")
    _, client = running_kafka("dead-letters")
    return run_to_end(_show(client, record, int(place["partition"]), as_json=as_json))


async def _show(client: dict[str, Any], source: str, partition: int, *, as_json: bool) -> None:
    from commands.letters import told
    from commands.records import print_records
    from streams.errors import HeadraceError

    # A dead letter lies on its source's partition number.
    partitions = [tp for tp in await _partitions(client) if tp.partition == partition]
    letters = [each async for each in _letters(client, partitions) if each.source == source]
    if not letters:
        raise HeadraceError(
            f"there is no dead letter of {source}: `headrace dead-letters list` shows which there are"
        )
    if as_json:
        print_records([each.record for each in letters], as_json=True)
        return
    click.echo("\n\n".join("\n".join(told(each)) for each in letters))


@dead_letters.command(short_help="Count the dead letters by reason.")
@_AS_JSON
def counts(*, as_json: bool) -> int:
    """Count all dead letters that are kept, by reason and by the flow whose rule failed.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace dead-letters counts --json
    """
    from commands.asking import run_to_end, running_kafka

    _, client = running_kafka("dead-letters")
    return run_to_end(_counts(client, as_json=as_json))


async def _counts(client: dict[str, Any], *, as_json: bool) -> None:
    import msgspec

    from commands.letters import Tally
    from commands.printing import print_table, time_text

    tally = Tally()
    async for each in _letters(client, await _partitions(client)):
        tally.add(each)
    found = tally.counts()
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    rows = [(e.reason, e.agent, e.count, time_text(e.last_refused_at)) for e in found]
    print_table(("reason", "agent", "records", "last refused at"), rows)


async def _partitions(client: dict[str, Any]) -> list[TopicPartition]:
    from commands.topic_facts import partitions_of
    from streams.topology import TOPOLOGY

    return await partitions_of(client, TOPOLOGY.dead_letters)


async def _letters(
    client: dict[str, Any], partitions: Sequence[TopicPartition]
) -> AsyncIterator[Letter]:
    """Yield all letters of the partitions."""
    from commands.letters import letter
    from commands.reading import read_tail, reader

    async with reader(client) as consumer:
        async for records in read_tail(consumer, partitions, None, follow=False):
            for record in records:
                yield letter(record)
