"""`headrace tables`: asks the running workers for rows of any table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from commands.groups import group_option, of_group, of_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from commands.workers import Workers
    from config.settings import Settings
    from tables.questions import Page, Query, Row, Scan


class _Address(click.ParamType):
    """`host:port`."""

    name = "HOST:PORT"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            self.fail(f"{value!r} is no HOST:PORT, as 127.0.0.1:6066", param, ctx)
        return value


_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_WORKER = click.option(
    "--worker",
    type=_Address(),
    help="The worker to ask.  [default: one of the group on KAFKA_BROKERS, else this machine's]",
)
_PREFIX = click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin so.")
_MS = click.IntRange(min=0)


@click.group(short_help="Ask running workers for rows of their tables.")
def tables() -> None:
    """Ask running workers for rows of their tables, as they were committed.

    Any worker answers for all of its group: what it does not have itself, it asks the others for.
    Which group keeps a table, this command knows.

    \b
    Examples:
      headrace tables list
      headrace tables get user_orders user-7
      headrace tables scan user_order_minutes --key user-7
      headrace tables watch user_orders user-7
    """


@tables.command("list", short_help="List tables, and tasks by worker.")
@group_option
@_WORKER
@_AS_JSON
def list_(*, group: str, worker: str | None, as_json: bool) -> None:
    """List a group's tables, and its tasks by worker with their states and source offsets.

    \b
    Example:
      headrace tables list --worker 127.0.0.1:6066
    """
    import msgspec

    from commands.printing import print_table
    from commands.workers import Workers
    from config.settings import load_settings
    from tables.questions import Overview
    from tables.web.wire import TABLES

    body = Workers(of_group(load_settings(), group)[0], worker).ask(TABLES)
    if as_json:
        click.echo(body)
        return
    overview = msgspec.json.decode(body, type=Overview)
    print_table(
        ("table", "kind", "tasks"), [(t.table, t.kind, len(t.tasks)) for t in overview.tables]
    )
    click.echo()
    print_table(
        ("worker", "task", "state", "has read up to"),
        [
            (view.worker or "-", task.task, task.state, _offsets(task.sources) or view.why)
            for view in overview.workers
            for task in view.tasks
        ],
    )


@tables.command(short_help="Print the row of a key.")
@click.argument("table")
@click.argument("key")
@_WORKER
@_AS_JSON
def get(*, table: str, key: str, worker: str | None, as_json: bool) -> None:
    """Print the row of KEY in TABLE, who has it, and from which source offsets it is.

    The key of a windowed table is KEY@START, the window's start in ms. Status 1: there is none.

    \b
    Examples:
      headrace tables get user_orders user-7
      headrace tables get user_order_minutes user-7@1763715600000 --json
    """
    import msgspec

    from tables.questions import Found, Get

    if _is_windowed(table) and not key.rpartition("@")[2].isdigit():
        raise click.UsageError(
            f"the keys of {table} are KEY@START, START being a window's start in ms: "
            f"`headrace tables scan {table} --key {key}` shows those of {key}"
        )
    body = _workers(worker, table).ask(_path(Get(table, key)))
    if as_json:
        click.echo(body)
        return
    found = msgspec.json.decode(body, type=Found)
    click.echo(msgspec.json.format(found.value, indent=2))
    click.echo(f"{found.task} of {found.worker} has it, as of {_offsets(found.sources)}", err=True)


@tables.command(short_help="Print rows in key order.")
@click.argument("table")
@_PREFIX
@click.option("--key", metavar="KEY", help="Of a windowed table: the windows of this key.")
@click.option(
    "--from", "from_ms", metavar="MS", type=_MS, help="Windows that start at MS or later."
)
@click.option("--to", "to_ms", metavar="MS", type=_MS, help="Windows that start before MS.")
@click.option("--after", metavar="KEY", help="Only keys above this one: to go on behind it.")
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many."
)
@_WORKER
@_AS_JSON
def scan(
    *,
    table: str,
    prefix: str,
    key: str | None,
    from_ms: int | None,
    to_ms: int | None,
    after: str | None,
    limit: int,
    worker: str | None,
    as_json: bool,
) -> None:
    """Print rows of TABLE in the order of their keys, those of all workers together.

    With --json an object a row. If there are more, a line on stderr says how to go on.

    \b
    Examples:
      headrace tables scan user_orders --prefix user-1 --limit 20
      headrace tables scan user_order_minutes --key user-7 --from 1763715600000
      headrace tables scan users --limit 1000000 --json > users.jsonl
    """
    from tables.questions import Scan

    if key is None and (from_ms is not None or to_ms is not None):
        raise click.UsageError("--from and --to need --key")
    if key is not None and prefix:
        raise click.UsageError("--key and --prefix exclude each other")
    if key is not None and _is_windowed(table) is False:
        raise click.UsageError(
            f"--key is for tables with windows, and {table} has none: "
            f"`headrace tables get {table} {key}` prints a row"
        )
    first = Scan(table, prefix, key, from_ms, to_ms, after, limit)
    rest, printed = None, 0
    for page in _pages(_workers(worker, table), first):
        _print_rows(page.rows, as_json=as_json)
        rest, printed = page.next, printed + len(page.rows)
    if not printed:
        click.echo("no rows", err=True)
    if rest is not None:
        click.echo(f"there are more: go on with --after {rest!r}", err=True)


@tables.command(short_help="Count rows.")
@click.argument("table")
@_PREFIX
@_WORKER
@_AS_JSON
def count(*, table: str, prefix: str, worker: str | None, as_json: bool) -> None:
    """Count the rows of TABLE. The workers walk over all of them: seconds for millions.

    \b
    Example:
      headrace tables count user_orders
    """
    import msgspec

    from tables.questions import Count, Counted

    body = _workers(worker, table).ask(_path(Count(table, prefix)), is_count=True)
    if as_json:
        click.echo(body)
        return
    click.echo(f"{msgspec.json.decode(body, type=Counted).count:,}")


@tables.command(short_help="Print rows as they change.")
@click.argument("table")
@click.argument("key", required=False)
@_AS_JSON
def watch(*, table: str, key: str | None, as_json: bool) -> int:
    """Print what is committed to TABLE from now on, a line a change, until Ctrl-C.

    It is read from the table's changelog, so it asks no worker and needs KAFKA_BROKERS. Several
    changes of a row between two commits are one. `null`: the row was removed. With KEY only that
    row; of a windowed table, all windows of that key.

    \b
    Examples:
      KAFKA_BROKERS=127.0.0.1:9092 headrace tables watch user_orders
      KAFKA_BROKERS=127.0.0.1:9092 headrace tables watch user_order_minutes user-7 --json
    """
    from commands.asking import run_to_end, running_kafka

    settings, client = running_kafka("tables watch")
    return run_to_end(_watch(settings, client, table, key, as_json=as_json), endless=True)


async def _watch(
    settings: Settings, client: dict[str, Any], table: str, key: str | None, *, as_json: bool
) -> None:
    from commands.reading import read_tail, reader
    from commands.topic_facts import partitions_of

    changelog, wanted = _changes(settings, table, key)
    partitions = await partitions_of(client, changelog)
    async with reader(client) as consumer:
        async for records in read_tail(consumer, partitions, 0, wanted, follow=True):
            for record in records:
                click.echo(_change(record, as_json=as_json))


def _changes(settings: Settings, table: str, key: str | None) -> tuple[str, Callable[[Any], bool]]:
    """Return a table's changelog, and which of its records are wanted. Raises HeadraceError."""
    from streams.engine.definitions import WindowedTable
    from streams.errors import HeadraceError

    settings, topology = of_table(settings, table)
    known = {each.name: each for each in topology.tables}
    if table not in known:
        raise HeadraceError(f"there is no table {table!r}; there are {', '.join(sorted(known))}")
    is_windowed = isinstance(known[table], WindowedTable)

    def is_wanted(record: Any) -> bool:
        text = (record.key or b"").decode(errors="replace")
        return key is None or key in (text, text.rpartition("@")[0] if is_windowed else text)

    return known[table].changelog(settings.app_id), is_wanted


def _change(record: Any, *, as_json: bool) -> str:
    """Return a changelog's record as a line."""
    import msgspec

    from commands.printing import shown, time_text

    if not as_json:
        return f"{time_text(record.timestamp)}  {shown(record.key)}  {shown(record.value)}"
    told = {
        "key": (record.key or b"").decode(errors="replace"),
        "value": msgspec.Raw(record.value or b"null"),
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
    }
    return msgspec.json.encode(told).decode()


def _is_windowed(table: str) -> bool | None:
    """Tell whether a table has windows; None if it is none of the application's."""
    from streams.engine.definitions import WindowedTable
    from streams.topology import GROUPS

    known = {each.name: each for topology in GROUPS.values() for each in topology.tables}
    return isinstance(known[table], WindowedTable) if table in known else None


def _workers(worker: str | None, table: str) -> Workers:
    """Return the workers of the group that keeps a table."""
    from commands.workers import Workers
    from config.settings import load_settings

    return Workers(of_table(load_settings(), table)[0], worker)


def _path(query: Query) -> str:
    from streams.errors import HeadraceError
    from tables.web.wire import path_of

    try:
        return path_of(query)
    except UnicodeEncodeError as error:  # an argument that is no text in the terminal's encoding
        raise HeadraceError("keys are text in UTF-8: this one is not") from error


def _pages(workers: Workers, scan: Scan) -> Iterator[Page]:
    """Yield pages until there are as many rows as are wanted."""
    import msgspec

    from tables.questions import MAX_LIMIT, Page

    left, after = scan.limit, scan.after
    while left > 0:
        query = msgspec.structs.replace(scan, after=after, limit=min(left, MAX_LIMIT))
        page = msgspec.json.decode(workers.ask(_path(query)), type=Page)
        yield page
        if page.next is None:
            return
        left, after = left - len(page.rows), page.next


def _print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    import msgspec

    from commands.printing import printable

    for row in rows:
        if as_json:
            click.echo(msgspec.json.encode(row))
        else:
            click.echo(f"{printable(row.key)}  {printable(bytes(row.value).decode())}")


def _offsets(sources: Mapping[str, int]) -> str:
    from commands.printing import in_order
    from streams.topology import GROUPS

    groups = GROUPS.values()
    inputs = [topic.name for topology in groups for topic in topology.inputs]
    inputs += [twin.name for topology in groups for _, twin in topology.twins]
    return ", ".join(f"{topic} {at:,}" for topic, at in in_order(sources, inputs).items())
