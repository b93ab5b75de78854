"""How commands print: tables by rich on a terminal, plain columns elsewhere; texts made harmless."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import click

if TYPE_CHECKING:
    from rich.table import Table

Cell: TypeAlias = str | int | float | None
"""Numbers stand on the right; None (nothing known) is a dash."""

_SPACE_BETWEEN = 2


def on_terminal() -> bool:
    """Tell whether a person reads what is printed."""
    return sys.stdout.isatty()


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a table: by rich on a terminal, else its header and rows in columns."""
    cells = [list(row) for row in rows]
    if on_terminal():
        from rich.console import Console

        Console(highlight=False).print(rich_table(headers, cells))
        return
    lines = [list(headers), *([_plain(cell) for cell in row] for row in cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = [_is_number_column(column) for column in _columns(headers, cells)]
    click.echo("\n".join(_aligned(line, widths, numbers) for line in lines))


def rich_table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """Return the table as rich shows it."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for header, column in zip(headers, _columns(headers, rows), strict=True):
        right = _is_number_column(column)
        # The last one takes what is left of the line.
        table.add_column(
            header,
            justify="right" if right else "left",
            overflow="fold",
            no_wrap=header != headers[-1],
        )
    for row in rows:
        table.add_row(*map(_for_people, row))
    return table


def counted(number: int, thing: str) -> str:
    """Return `1 record`, `2,000 records`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def in_order(offsets: Mapping[str, int], topics: Sequence[str]) -> dict[str, int]:
    """Return the offsets by topic in the order of these topics, what is none of them last."""
    known = {topic: offsets[topic] for topic in topics if topic in offsets}
    return known | dict(offsets)


def printable(text: str) -> str:
    """Return the text on one line, with what could move a terminal's cursor written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(data: bytes | None, longest: int | None = None) -> str:
    """Return bytes for people: on one line, what is no UTF-8 as escapes, cut after `longest`."""
    if data is None:
        return "null"
    text = printable(data.decode(errors="backslashreplace"))
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def time_text(time_ms: int) -> str:
    """Return ms since 1970 as RFC 3339 text in UTC; a dash where there is no such time."""
    try:
        moment = datetime.fromtimestamp(time_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return "-"
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03d}Z" if time_ms >= 0 else "-"


def _columns(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    return [[row[at] for row in rows] for at in range(len(headers))]


def _is_number_column(column: Sequence[Cell]) -> bool:
    return all(isinstance(cell, int | float | None) for cell in column)


def _aligned(line: Sequence[str], widths: Sequence[int], numbers: Sequence[bool]) -> str:
    between = " " * _SPACE_BETWEEN
    padded = [
        text.rjust(width) if number else text.ljust(width)
        for text, width, number in zip(line, widths, numbers, strict=True)
    ]
    return between.join(padded).rstrip()


def _plain(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.1f}"
    if isinstance(cell, int):
        return f"{cell:,}"
    return "-" if cell is None else printable(str(cell))


def _for_people(cell: Cell) -> str:
    from rich.markup import escape

    return escape(_plain(cell))
