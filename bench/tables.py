"""Tables in Markdown, and how figures stand in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def times(ours: float | None, theirs: float | None) -> str:
    """Return how many times as many one does as another; empty where one of them is not known."""
    return f"{ours / theirs:.1f} times as many" if ours and theirs else ""


def number(value: float | None, digits: int = 0) -> str:
    """Return a figure, empty where it is not known."""
    return "" if value is None else f"{value:,.{digits}f}"


def between(lowest: float | None, highest: float | None) -> str:
    """Return how far figures lie apart, empty where none is known."""
    return "" if lowest is None else f"{number(lowest)} to {number(highest)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of a header and rows."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
