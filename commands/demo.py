"""`headrace demo`: the application at work on this machine, and the proof that it is right."""

from __future__ import annotations

import signal
from collections.abc import Sequence

import click

from commands.finite import FiniteRange

# As demo/groups.py has them, which takes long to import.
GROUPS = ("main", "windows", "deduplication", "sales")
_SEED_LIMIT = 2**31 - 1


@click.command(short_help="Show the whole application at work on this machine.")
@click.option(
    "--group",
    type=click.Choice(GROUPS),
    default=GROUPS[0],
    show_default=True,
    help="The flows to show. Those of `windows`, `sales` and `deduplication` wait for event time, which "
    "passes a hundred times as fast, or four hundred.",
)
@click.option(
    "--seconds",
    metavar="N",
    type=FiniteRange(min=0, min_open=True),
    help="Send orders for so long, then check the outcome.  [default: on and on, until Ctrl-C]",
)
@click.option(
    "--rate",
    type=click.IntRange(min=1),
    default=2_000,
    show_default=True,
    help="Records a second into the topics that the group reads.",
)
@click.option(
    "--workers", type=click.IntRange(1, 16), default=2, show_default=True, help="Worker processes."
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 128),
    default=4,
    show_default=True,
    help="Partitions of each topic, where the topics are new.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, _SEED_LIMIT),
    help="The same seed makes the same users and orders.  [default: random]",
)
@click.option(
    "--poison",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    default=0.005,
    show_default=True,
    help="Share of the records that are no valid events.",
)
@click.option(
    "--users", type=click.IntRange(min=1), default=2_000, show_default=True, help="Users who order."
)
def demo(
    *,
    group: str,
    seconds: float | None,
    rate: int,
    workers: int,
    partitions: int,
    seed: int | None,
    poison: float,
    users: int,
) -> int:
    """Show the application at work: Kafka, workers, orders, and what comes of them.

    Starts an embedded Kafka (or uses the one that KAFKA_BROKERS names, if its topics are empty) and
    workers, and sends users and orders. With --seconds it then reads everything back and compares it
    with a second, plain implementation of the rules: status 0 if all is equal.

    On a terminal it is a live view, and keys do things to it: k (or 1 to 9) kills a worker with
    kill -9, s starts one, p sends poison, + and - change the rate, space pauses. q, or Ctrl-C once,
    ends it with the comparison. Elsewhere it says each second how it goes, in plain lines.

    \b
    Example:
      headrace demo --seconds 30
      headrace demo --group windows
      headrace demo --group sales --seconds 30
      headrace demo --rate 10000 --workers 3 --partitions 6
    """
    from demo.ending import EndedBySignal, EndSignals

    ends = EndSignals()
    ends.install()
    try:
        from config.settings import load_settings

        settings = load_settings()
        click.echo(_first_line(settings.kafka_brokers))
        from demo.run import Plan, run_demo

        plan = Plan(
            seconds=seconds,
            rate=rate,
            workers=workers,
            partitions=partitions,
            seed=seed,
            poison=poison,
            users=users,
            group=group,
        )
        from demo.screen import terminal

        status = run_demo(plan, settings, ends, terminal())
    except EndedBySignal as end:
        click.echo("ended: nothing that was started is left")
        # Endless, it has no other way to end; else it was cut short of its proof.
        return 0 if seconds is None else 128 + signal.Signals(end.number)
    cut_short = seconds is not None and ends.interrupted
    return 128 + signal.SIGINT if cut_short and status == 0 else status


def _first_line(brokers: Sequence[str]) -> str:
    """Say what takes the first seconds, before what is slow to import."""
    from streams.kafka_jars import ROOTS

    if brokers:
        return f"using the Kafka at {', '.join(brokers)} ..."
    return f"starting Kafka {ROOTS[0].rsplit(':', 1)[1]} ..."
