"""The table of operators in docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.losses import OURS
from bench.results import OperatorRow, Results
from bench.tables import between, number, table


def times_of_others(results: Results) -> dict[str, float]:
    """Return by operator how many times as many events this application does as the other system."""
    ours = {row.operator: row.events_per_s for row in results.operators if row.label == OURS}
    theirs = {row.operator: row.events_per_s for row in results.operators if row.label != OURS}
    return {
        operator: own / other
        for operator, own in ours.items()
        if own and (other := theirs.get(operator))
    }


def operators_table(results: Results, rows: Iterable[OperatorRow]) -> str:
    """Return a row for each of these, an operator and system."""
    ratios = times_of_others(results)
    return table(
        (
            "",
            "system",
            "events/s",
            "lowest to highest",
            f"{OURS} does",
            "CPU s per million",
            "peak MB",
            "events",
            "users",
        ),
        (_cells(row, ratios) for row in rows),
    )


def _cells(row: OperatorRow, ratios: Mapping[str, float]) -> tuple[str, ...]:
    ratio = ratios.get(row.operator) if row.label != OURS else None
    return (
        row.operator,
        row.label,
        number(row.events_per_s),
        between(row.events_per_s_lowest, row.events_per_s_highest),
        f"{ratio:.1f} times as many" if ratio else "",
        number(row.cpu_s_per_million, 1),
        number(row.peak_rss_mb),
        "; ".join(row.problems) or number(row.events),
        number(row.users),
    )
