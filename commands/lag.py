"""`headrace lag`: how far the workers are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from commands.finite import FiniteRange
from commands.groups import group_option, of_group
from commands.printing import counted

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rich.console import Console, RenderableType

    from commands.group_lag import GroupLag, LagReader

_BY_MEMBER = ("worker", "host", "tasks", "records", "seconds")
_BY_TASK = ("task", "worker", "input", "records", "seconds")
_OFFSETS = ("committed", "end")
"""What a narrow terminal has no room for."""
_WIDEST = 1_000


@click.command(short_help="Show how far the workers are behind.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--every",
    metavar="S",
    type=FiniteRange(min=0.1),
    default=2.0,
    show_default=True,
    help="With --watch: seconds between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a look.")
@group_option
@click.pass_context
def lag(ctx: click.Context, *, watch: bool, every: float, as_json: bool, group: str) -> int:
    """Show how far the workers are behind: in records and in seconds, by member and by task.

    Records lie between the committed offsets and what readers of committed records can see. Seconds
    are the age of the oldest of them, since it came to Kafka.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag --watch --every 5
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag --json
    """
    if not watch and ctx.get_parameter_source("every") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--every needs --watch")
    from commands.asking import run_to_end, running_kafka
    from commands.group_lag import lag_reader

    settings, client = running_kafka("lag")
    settings, topology = of_group(settings, group)
    reading = lag_reader(topology, client, settings.app_id)
    work = _watch(reading, every, as_json=as_json) if watch else _once(reading, as_json=as_json)
    return run_to_end(work, endless=watch)


async def _once(reading: AbstractAsyncContextManager[LagReader], *, as_json: bool) -> None:
    async with reading as reader:
        print_lag(await reader.look(), as_json=as_json)


async def _watch(
    reading: AbstractAsyncContextManager[LagReader], every_s: float, *, as_json: bool
) -> None:
    import asyncio

    from commands.printing import on_terminal

    async with reading as reader:
        if as_json or not on_terminal():
            while True:
                print_lag(await reader.look(), as_json=as_json)
                await asyncio.sleep(every_s)
        from rich.console import Console
        from rich.live import Live

        console = Console(highlight=False)
        first = _rich(await reader.look(), console)
        with Live(first, console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every_s)
                live.update(_rich(await reader.look(), console), refresh=True)


def print_lag(found: GroupLag, *, as_json: bool) -> None:
    """Print a look at the group: as JSON, or as tables."""
    from commands.printing import on_terminal, print_table

    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found))
    elif on_terminal():
        from rich.console import Console

        console = Console(highlight=False)
        console.print(_rich(found, console))
    else:
        click.echo(_summary(found))
        if found.members:
            click.echo()
            print_table(_BY_MEMBER, _member_rows(found))
        click.echo()
        print_table((*_BY_TASK, *_OFFSETS), _input_rows(found))


def _rich(found: GroupLag, console: Console) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from commands.printing import rich_table

    parts: list[RenderableType] = [Text(_summary(found)), ""]
    if found.members:
        parts += [rich_table(_BY_MEMBER, _member_rows(found)), ""]
    rows = _input_rows(found)
    by_task = rich_table((*_BY_TASK, *_OFFSETS), rows)
    unbounded = console.options.update(width=_WIDEST)
    if console.measure(by_task, options=unbounded).maximum > console.width:
        by_task = rich_table(_BY_TASK, [row[: len(_BY_TASK)] for row in rows])
    return Group(*parts, by_task)


def _summary(found: GroupLag) -> str:
    return f"group {found.group}: {_members_told(found)}; {_lag_told(found)}"


def _members_told(found: GroupLag) -> str:
    if not found.members:
        never = all(part.committed is None for task in found.tasks for part in task.partitions)
        return "no worker runs" + (", and none has committed anything" if never else "")
    state = "" if found.state == "Stable" else ", tasks are being shared out"
    return f"{counted(len(found.members), 'worker')}{state}"


def _lag_told(found: GroupLag) -> str:
    if not found.records:
        return "nothing to do"
    age = "" if found.seconds is None else f", {found.seconds:,.1f} s"
    return f"{counted(found.records, 'record')}{age} behind"


def _member_rows(found: GroupLag) -> list[list[str | int | float | None]]:
    return [[m.label, m.host, len(m.tasks), m.records, m.seconds] for m in found.members]


def _input_rows(found: GroupLag) -> list[list[str | int | float | None]]:
    labels = {member.member_id: member.label for member in found.members}
    return [
        [
            task.task,
            labels.get(task.member_id or ""),
            each.topic,
            each.records,
            each.seconds,
            each.committed,
            each.end,
        ]
        for task in found.tasks
        for each in task.partitions
    ]
