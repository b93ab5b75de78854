"""What the demo says: plain lines, with colour where a person looks at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from demo.oracle import Outcome

_DIFFERENCES_SHOWN = 20
_DIFFERENCE_CHARACTERS = 400
_STYLES = {"HIGH": "yellow", "VIP": "green", "DEAD": "red"}


class Reading(NamedTuple):
    """How it stands at one moment; counts since the start."""

    seconds: float
    records: int
    derived: int
    dead_letters: int
    lag: int
    latencies_ms: Sequence[float]
    """Of what was seen since the last reading."""
    late: int | None = None
    """Late records; None where no topic tells of them."""


class Report:
    """Says it on stdout, a line at a time."""

    def __init__(self) -> None:
        self._last = Reading(0, 0, 0, 0, 0, ())
        self._told: dict[str, str] = {}

    def note(self, line: str) -> None:
        """Say what is going on."""
        _say(line, "cyan")

    def tasks(self, worker: str, partitions: Iterable[str]) -> None:
        """Say what a worker has to do."""
        _say(f"{worker}: {' '.join(partitions) or 'nothing to do'}", "cyan")

    def reading(self, now: Reading, latest: Mapping[str, str]) -> None:
        """Say how it stands, and one of the latest events, another kind each time and none twice."""
        last, self._last = self._last, now
        late = "" if now.late is None else f"  late {now.late:,}"
        rate = (now.records - last.records) / max(now.seconds - last.seconds, 0.001)
        _say(
            f"{now.seconds:5.0f} s  records {now.records:,} ({rate:,.0f}/s)  derived {now.derived:,}"
            f"  dead letters {now.dead_letters:,}{late}  lag {now.lag:,}"
            f"  latency {_latency(now.latencies_ms)}"
        )
        if text := news(latest, self._told):
            _say(f"         {text}", _STYLES.get(text.split(" ", 1)[0]))

    def summary(
        self,
        outcome: Outcome,
        *,
        records: int,
        skipped: int,
        late_are: str,
        seconds: float,
        latencies_ms: Sequence[float],
        remarks: Sequence[str] = (),
    ) -> None:
        """Say what came of it all. The events are those that were read back."""
        derived = {topic: sum(map(len, found.values())) for topic, found in outcome.derived.items()}
        reasons = outcome.refused
        rate = records / seconds if seconds else 0.0
        told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())
        _say("")
        _say(f"records in    {records:,} in {seconds:.1f} s: {rate:,.0f} a second")
        _say("derived       " + ", ".join(f"{count:,} in {t}" for t, count in derived.items()))
        _say(f"dead letters  {reasons.total():,}" + (f": {told}" if told else ""))
        _say(f"skipped       {skipped:,} (unknown event types, tombstones)")
        _say(f"late          {outcome.late:,} {late_are}")
        for remark in remarks:
            _say(remark)
        tables = (f"{len(rows):,} rows of {table}" for table, rows in outcome.tables.items())
        _say("tables        " + ", ".join(tables))
        _say(f"latency       {_latency(latencies_ms)}, from sent to seen by a reader downstream")

    def equal(self) -> None:
        """Say that the check found nothing."""
        _say("everything that came out equals the plain-Python oracle", "bold green")

    def different(self, differences: Sequence[str]) -> None:
        """Say what the check found."""
        _say(f"{len(differences):,} differences from the plain-Python oracle:", "bold red")
        for line in differences[:_DIFFERENCES_SHOWN]:
            _say(f"  {line[:_DIFFERENCE_CHARACTERS]}", "red")
        if len(differences) > _DIFFERENCES_SHOWN:
            _say(f"  ... and {len(differences) - _DIFFERENCES_SHOWN:,} more", "red")

    def kept(self, folder: Path) -> None:
        """Say where to look for the cause."""
        _say(f"logs, state and Kafka's data are kept in {folder}", "cyan")


def news(latest: Mapping[str, str], told: MutableMapping[str, str]) -> str | None:
    """Return a text of `latest` that is not the one told last of its kind; None if all were told.

    A kind's turn comes again after all others'. `told`, by kind, is kept up to date.
    """
    for kind in [*(kind for kind in latest if kind not in told), *told]:
        text = latest.get(kind)
        if text is not None and told.get(kind) != text:
            told.pop(kind, None)
            told[kind] = text
            return text
    return None


def _latency(latencies_ms: Sequence[float]) -> str:
    if not latencies_ms:
        return "-"
    ordered = sorted(latencies_ms)
    return f"p50 {quantile(ordered, 0.5):.0f} ms p99 {quantile(ordered, 0.99):.0f} ms"


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the number that this share of the sorted numbers is below; there must be one."""
    return ordered[int(share * (len(ordered) - 1))]


def _say(line: str, style: str | None = None) -> None:
    if style is None or not sys.stdout.isatty():
        click.echo(line)
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that a pipe has no use for

    Console().print(line, style=style, markup=False, highlight=False, soft_wrap=True)
