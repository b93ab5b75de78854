"""Which kind of part a task has of which kind of table."""

from typing import Any, TypeAlias

from streams.engine.column_part import ColumnPart, WindowedColumnPart
from streams.engine.definitions import PaneTable, Table, TimedTable, WindowedTable
from streams.engine.pane_part import PanePart
from streams.engine.store import Store
from streams.engine.table import TablePart, WindowedPart
from streams.engine.timed_part import TimedPart

Part: TypeAlias = TablePart[Any] | ColumnPart[Any]
TimeBoundPart: TypeAlias = WindowedPart[Any] | WindowedColumnPart[Any] | TimedPart[Any]
"""Has a stream time, which is committed with it."""


def part_of(table: Table[Any], store: Store) -> Part:
    """Return a task's part of a table."""
    if isinstance(table, TimedTable):
        return TimedPart(table, store)
    if isinstance(table, PaneTable):
        return PanePart(table, store)
    if isinstance(table, WindowedTable):
        if table.columns is None:
            return WindowedPart(table, store)
        return WindowedColumnPart(table, table.columns, store)
    if table.columns is None:
        return TablePart(table, store)
    return ColumnPart(table, table.columns, store)
