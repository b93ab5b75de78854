"""`headrace produce`: events into a topic, from a file or made up at a rate."""

from __future__ import annotations

import secrets
from typing import IO, TYPE_CHECKING, Any

import click

from commands.finite import FiniteRange
from commands.printing import counted

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from commands.producing import Lines, Outcome
    from config.settings import Compression, Settings

# As the settings have them, which take long to import.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
_SEED_LIMIT = 2**31 - 1
_USERS = 10_000
_OF_FILES = ("file", "keyed", "key_field", "as_is")
_OF_MADE_UP = ("seconds", "seed", "users", "poison", "payments", "products", "repeats")


@click.command(short_help="Send events to a topic: JSON lines, or made-up traffic.")
@click.argument("topic", required=False)
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--keyed", is_flag=True, help="Each line is KEY<TAB>JSON.")
@click.option(
    "--key-field",
    metavar="PATH",
    help="The field that is the key, as data.user_id.  [default: the topic's own; else no key]",
)
@click.option("--as-is", is_flag=True, help="Send each line's bytes, whatever they are.")
@click.option(
    "--compression",
    type=click.Choice(CODECS),
    help="Codec of the batches.  [default: KAFKA_COMPRESSION]",
)
@click.option(
    "--rate", metavar="N", type=click.IntRange(min=1), help="Make up N records a second instead."
)
@click.option(
    "--seconds",
    metavar="S",
    type=FiniteRange(min=0, min_open=True),
    help="With --rate: for so long.  [default: on and on, until Ctrl-C]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, _SEED_LIMIT),
    help="With --rate: the same seed makes the same users and orders.  [default: random]",
)
@click.option(
    "--users", type=click.IntRange(min=1), help="With --rate: users who come.  [default: 10000]"
)
@click.option(
    "--poison",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    help="With --rate: share of the records that are no valid events.  [default: 0]",
)
@click.option(
    "--payments",
    is_flag=True,
    help="With --rate: payments for the orders too, seconds to an hour after them.",
)
@click.option(
    "--products",
    is_flag=True,
    help="With --rate: products too, all first, then what is looked at, sold and restocked of them.",
)
@click.option(
    "--repeats",
    is_flag=True,
    help="With --rate: some events of orders again, at once to hours later, as they were or of another time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was sent as a JSON object.")
@click.pass_context
def produce(
    ctx: click.Context,
    *,
    topic: str | None,
    file: IO[bytes],
    keyed: bool,
    key_field: str | None,
    as_is: bool,
    compression: Compression | None,
    rate: int | None,
    seconds: float | None,
    seed: int | None,
    users: int | None,
    poison: float | None,
    payments: bool,
    products: bool,
    repeats: bool,
    as_json: bool,
) -> int:
    """Send the lines of FILE to TOPIC, one JSON event each; or made-up traffic with --rate.

    Made up are visits and orders, for both inputs of the application or for TOPIC alone; with --payments
    and --products for these inputs, too.

    Without FILE, or with -, standard input is read to its end first. Every line is checked before
    any is sent: one that the application would refuse is named with its number, and nothing is
    sent. --as-is sends all lines untouched. The key is the field that the topic declares (data.user_id).

    Returns when every record is acknowledged by all in-sync replicas. Keys go to the partitions that
    Kafka's own clients choose.

    \b
    Examples:
      headrace produce orders orders.jsonl
      echo 'no event at all' | headrace produce orders --as-is
      headrace produce --rate 1000 --seconds 30 --poison 0.01
    """
    _refuse_mixed(ctx, is_made_up=rate is not None)
    from commands.asking import run_to_end, running_kafka

    settings, client = running_kafka("produce")
    if compression is not None:
        settings = settings.model_copy(update={"kafka_compression": compression})
    if rate is not None:
        from commands.producing import now_ms, send_made_up
        from demo.generator import OrderGenerator
        from demo.repeats import repeated

        number = secrets.randbelow(_SEED_LIMIT) if seed is None else seed
        generator = OrderGenerator(
            number, users or _USERS, poison or 0.0, payments=payments, products=products
        )
        made_up = generator.records(now_ms)
        if repeats:
            made_up = repeated(made_up, now_ms, number)
        topics = _topics_made_up(topic, payments=payments, products=products)
        work = send_made_up(settings, client, made_up, topics, rate=rate, seconds=seconds)
        return run_to_end(_told(work, as_json=as_json), endless=seconds is None)
    if topic is None:
        raise click.UsageError("Missing argument 'TOPIC' (only --rate goes without)")
    lines, total = _checked(settings, topic, file, keyed=keyed, key_field=key_field, as_is=as_is)
    from commands.producing import send_lines

    return run_to_end(_told(send_lines(settings, client, topic, lines, total), as_json=as_json))


def _topics_made_up(topic: str | None, *, payments: bool, products: bool) -> list[str]:
    """Return the inputs for which records are made up: all, or this one. Raises UsageError."""
    from streams.topics import PAYMENTS, PRODUCTS
    from streams.topology import TOPOLOGY

    asked = {PAYMENTS: payments, PRODUCTS: products}
    inputs = [*TOPOLOGY.inputs, *(each for each, is_asked in asked.items() if is_asked)]
    topics = [each.name for each in inputs if topic in {None, each.name}]
    if not topics:
        more = {each.name for each in asked}
        hint = f" without --{topic}" if topic in more else ""
        msg = f"--rate makes up records of the application's inputs, not of {topic}{hint}"
        raise click.UsageError(msg)
    return topics


def _checked(
    settings: Settings,
    topic: str,
    file: IO[bytes],
    *,
    keyed: bool,
    key_field: str | None,
    as_is: bool,
) -> tuple[Lines, int]:
    """Return the file's lines, all of them good for the topic, and how many they are."""
    from commands.event_lines import keys_for
    from commands.producing import Lines, declared

    if file.isatty():
        click.echo("one event a line; Ctrl-D ends", err=True)
    keys = keys_for(declared(topic), keyed=keyed, key_field=key_field)
    lines = Lines(file, file.name, keys, as_is=as_is)
    total = lines.checked(declared(topic), settings.max_ahead_ms)
    if lines.skipped:
        click.echo(
            f"{lines.skipped:,} of {total:,} records have a type that {topic} does not know: "
            "workers skip them",
            err=True,
        )
    return lines, total


def _refuse_mixed(ctx: click.Context, *, is_made_up: bool) -> None:
    """Raise UsageError for an option that would go unused."""
    for name in _OF_FILES if is_made_up else _OF_MADE_UP:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            shown = name.upper() if name == "file" else f"--{name.replace('_', '-')}"
            raise click.UsageError(
                f"{shown} does not go with --rate" if is_made_up else f"{shown} needs --rate"
            )


async def _told(work: Coroutine[Any, Any, Outcome], *, as_json: bool) -> None:
    """Run the work and print what came of it."""
    outcome = await work
    rate = outcome.records / outcome.seconds if outcome.seconds else 0.0
    if as_json:
        import msgspec

        rounded = {"seconds": round(outcome.seconds, 3), "records_per_s": round(rate, 1)}
        document = outcome._asdict() | rounded
        click.echo(msgspec.json.encode(document))
        return
    # Below a second it would be the time to connect that is told.
    told = f": {rate:,.0f} a second" if outcome.seconds >= 1 else ""
    click.echo(
        f"{'' if outcome.is_whole else 'ended early: '}{counted(outcome.records, 'record')} to "
        f"{', '.join(outcome.topics)} in {outcome.seconds:.1f} s{told}"
    )
