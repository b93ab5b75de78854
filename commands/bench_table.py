"""The table that the bench ends with."""

from __future__ import annotations

from bench.losses import OURS
from bench.operators.page import times_of_others
from bench.results import OperatorRow, Results, Row
from commands.printing import Cell, print_table

HEADERS = (
    "system",
    "events/s",
    "lowest - highest",
    "CPU s/M",
    "MB",
    "bytes/event",
    "p50 ms",
    "p99 ms",
    "start s",
    "restored/s",
    "pause ms",
)


def show(results: Results) -> None:
    """Print a row for each system, then what went wrong."""
    print_table(HEADERS, [_cells(row) for row in results.rows])


def show_operators(results: Results) -> None:
    """Print a row for each operator and system."""
    ratios = times_of_others(results)
    print_table(
        ("operator", "system", "events/s", "lowest - highest", "ours does", "CPU s/M", "MB"),
        [
            (
                row.operator,
                row.label,
                _rounded(row.events_per_s),
                _between(row),
                _rounded(ratios.get(row.operator), 2) if row.label != OURS else None,
                _rounded(row.cpu_s_per_million, 1),
                _rounded(row.peak_rss_mb),
            )
            for row in results.operators
        ],
    )


def _cells(row: Row) -> list[Cell]:
    latency = row.latency_ms
    return [
        row.label,
        _rounded(row.events_per_s),
        _between(row),
        _rounded(row.cpu_s_per_million, 1),
        _rounded(row.peak_rss_mb),
        _rounded(row.broker_bytes_per_event),
        _rounded(latency.p50 if latency else None),
        _rounded(latency.p99 if latency else None),
        _rounded(row.start_s, 1),
        _rounded(row.restore_rows_per_s),
        _rounded(row.rebalance_pause_ms),
    ]


def _rounded(value: float | None, digits: int | None = None) -> Cell:
    return None if value is None else round(value, digits)


def _between(row: Row | OperatorRow) -> Cell:
    if row.events_per_s_lowest is None or row.events_per_s_highest is None:
        return None
    return f"{row.events_per_s_lowest:,.0f} - {row.events_per_s_highest:,.0f}"
