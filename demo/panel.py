"""What the live view shows of a group beside flows, workers and events, and how it comes to know."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Panel(NamedTuple):
    """A title, with words at its other end, and rows of which each has a left and a right side."""

    title: str
    end: str
    rows: Sequence[tuple[str, str]]


class Sights:
    """What there is to see of a group. This is what there is of each: nothing but what is counted anyhow.

    It is told each record once, as a reader downstream sees it.
    """

    reads: tuple[str, ...] = ()
    """Topics that it wants to see, too, beside those that the group tells."""

    def see_record(self, topic: str, record: Any) -> None:
        """See a record of a topic that `reads` names, or that the group writes for others."""

    def see_row(self, table: str, record: Any) -> None:
        """See a changed row: a record of a table's changelog."""

    def panels(self, late: Counter[str]) -> list[Panel]:
        """Return what to show, the most important first: beside late records, by flow, and dead letters."""
        del late
        return []

    @property
    def news(self) -> Mapping[str, str]:
        """Return the latest text of each kind, beside those of what the group tells."""
        return {}


def counts(title: str, of: Counter[str]) -> Panel:
    """Return how often there is what, most frequent first, with the sum."""
    rows = [(name, f"{count:,}") for name, count in of.most_common()]
    return Panel(title, f"{of.total():,}", rows)
