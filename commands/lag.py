"""`headrace lag`: how far the workers are behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from commands.finite import FiniteRange
from commands.groups import group_option, of_group

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from rich.console import RenderableType

    from commands.group_lag import GroupLag, LagReader

_BY_MEMBER = ("member", "host", "tasks", "records", "seconds")
_BY_TASK = ("task", "member", "records", "seconds", "committed/end")


@click.command(short_help="Show how far the workers are behind.")
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--every",
    metavar="S",
    type=FiniteRange(min=0.1),
    default=2.0,
    show_default=True,
    help="Seconds between two looks of --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object a look.")
@group_option
def lag(*, watch: bool, every: float, as_json: bool, group: str) -> int:
    """Show how far the workers are behind: in records and in seconds, by member and by task.

    Records lie between the committed offsets and what readers of committed records can see. Seconds
    are the age of the oldest of them, since it came to Kafka.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag --watch --every 5
      KAFKA_BROKERS=127.0.0.1:9092 headrace lag --json
    """
    from commands.asking import run_to_end, running_kafka
    from commands.group_lag import lag_reader

    settings, client = running_kafka("lag")
    settings, topology = of_group(settings, group)
    reading = lag_reader(topology, client, settings.app_id)
    work = _watch(reading, every, as_json=as_json) if watch else _once(reading, as_json=as_json)
    return run_to_end(work, endless=watch)


async def _once(reading: AbstractAsyncContextManager[LagReader], *, as_json: bool) -> None:
    async with reading as reader:
        _print(await reader.look(), as_json=as_json)


async def _watch(
    reading: AbstractAsyncContextManager[LagReader], every_s: float, *, as_json: bool
) -> None:
    from commands.printing import on_terminal

    async with reading as reader:
        if as_json or not on_terminal():
            while True:
                _print(await reader.look(), as_json=as_json)
                await asyncio.sleep(every_s)
        from rich.live import Live

        with Live(_rich(await reader.look()), auto_refresh=False) as live:
            while True:
                await asyncio.sleep(every_s)
                live.update(_rich(await reader.look()), refresh=True)


def _print(found: GroupLag, *, as_json: bool) -> None:
    from commands.printing import on_terminal, print_table

    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(found))
    elif on_terminal():
        from rich.console import Console

        Console(highlight=False).print(_rich(found))
    else:
        click.echo(_summary(found))
        if found.members:
            click.echo()
            print_table(_BY_MEMBER, _member_rows(found))
        click.echo()
        print_table(_BY_TASK, _task_rows(found))


def _rich(found: GroupLag) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from commands.printing import rich_table

    parts: list[RenderableType] = [Text(_summary(found)), ""]
    if found.members:
        parts += [rich_table(_BY_MEMBER, _member_rows(found)), ""]
    return Group(*parts, rich_table(_BY_TASK, _task_rows(found)))


def _summary(found: GroupLag) -> str:
    return f"group {found.group}: {_members_told(found)}; {_lag_told(found)}"


def _members_told(found: GroupLag) -> str:
    if not found.members:
        never = all(part.committed is None for task in found.tasks for part in task.partitions)
        return "no worker runs" + (", and none has committed anything" if never else "")
    state = "" if found.state == "Stable" else ", tasks are being shared out"
    return f"{len(found.members)} {'worker' if len(found.members) == 1 else 'workers'}{state}"


def _lag_told(found: GroupLag) -> str:
    if not found.records:
        return "nothing to do"
    age = "" if found.seconds is None else f", {found.seconds:,.1f} s"
    return f"{found.records:,} records{age} behind"


def _member_rows(found: GroupLag) -> list[list[str | int | float | None]]:
    return [[m.label, m.host, len(m.tasks), m.records, m.seconds] for m in found.members]


def _task_rows(found: GroupLag) -> list[list[str | int | float | None]]:
    labels = {member.member_id: member.label for member in found.members}
    return [
        [
            task.task,
            labels.get(task.member_id or ""),
            task.records,
            task.seconds,
            "  ".join(
                f"{p.topic} {'-' if p.committed is None else p.committed}/{p.end}"
                for p in task.partitions
            ),
        ]
        for task in found.tasks
    ]
