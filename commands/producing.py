"""What `headrace produce` does: lines checked and sent, or records made up at a rate."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from commands.event_lines import Check, Keys, Line, event_lines, lines_as_they_are
from commands.sending import Sender
from commands.topic_facts import missing
from streams.engine.admin import partition_counts
from streams.errors import HeadraceError
from streams.topology import GROUPS

if TYPE_CHECKING:
    from config.settings import Settings
    from demo.generator import TopicKeyValue
    from streams.engine.definitions import Topic

_TICK_S = 0.02
_MOST_A_TICK = 5_000
_PROGRESS_S = 0.1
_NAMED_FAULTS = 3


class Outcome(NamedTuple):
    """Records that Kafka has, in how many seconds; `is_whole` unless it was cut short."""

    topics: list[str]
    records: int
    seconds: float
    is_whole: bool


class Lines:
    """A file's lines as records for a topic; the file is read as often as wanted."""

    def __init__(self, stream: IO[bytes], name: str, keys: Keys, *, as_is: bool) -> None:
        """Read the stream to its end, unless it can be read again."""
        self.name = name
        self.skipped = 0
        self._stream = stream if stream.seekable() else _copied(stream)
        self._start = self._stream.tell()
        self._keys = keys
        self._as_is = as_is

    def __iter__(self) -> Iterator[Line]:
        self._stream.seek(self._start)
        return (lines_as_they_are if self._as_is else event_lines)(self._stream, self._keys)

    def checked(self, topic: Topic | None, max_ahead_ms: int) -> int:
        """Return the number of lines. Raises HeadraceError if any is none for the topic.

        Afterwards `skipped` tells how many have an event type that the topic does not know.
        """
        total = sum(1 for _ in self)
        check = Check(topic, max_ahead_ms)
        found: Iterator[str]
        if self._as_is:
            found = (f"line {line.number}: {line.fault}" for line in self if line.fault)
        else:
            found = check.faults(self, now_ms())
        named = list(islice(found, _NAMED_FAULTS))
        if named:
            more = sum(1 for _ in found)
            hint = "" if self._as_is else " (--as-is sends them as they are)"
            raise HeadraceError(
                f"{self.name}: {len(named) + more:,} of {total:,} lines are refused, and nothing was "
                f"sent: {'; '.join(named)}{f'; and {more:,} more' if more else ''}{hint}"
            )
        self.skipped = check.skipped
        return total


def declared(name: str) -> Topic | None:
    """Return the application's topic of this name, with its events and its key."""
    flows = [flow for topology in GROUPS.values() for flow in topology.flows]
    topics = [topic for flow in flows for topic in (*flow.reads, *flow.outputs)]
    return next((topic for topic in topics if topic.name == name), None)


async def send_lines(
    settings: Settings, client: Mapping[str, Any], topic: str, lines: Iterable[Line], total: int
) -> Outcome:
    """Send the lines; returning proves that Kafka has as many as the outcome says."""
    async with _sender(settings, client, [topic]) as sender:

        async def work() -> None:
            for number, key, value, _ in lines:
                await sender.send(topic, key, value, number)

        return await _outcome(sender, [topic], work(), total)


def now_ms() -> int:
    """Return the clock's time, ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


async def send_made_up(
    settings: Settings,
    client: Mapping[str, Any],
    made_up: Iterator[TopicKeyValue],
    topics: list[str],
    *,
    rate: int,
    seconds: float | None,
) -> Outcome:
    """Send `rate` made-up records of these topics a second for so long (None: until cancelled)."""
    async with _sender(settings, client, topics) as sender:

        async def work() -> None:
            records = (record for record in made_up if record[0] in topics)
            start_s, elapsed_s, sent = time.monotonic(), 0.0, 0
            while seconds is None or elapsed_s < seconds:
                await asyncio.sleep(_TICK_S)
                elapsed_s = time.monotonic() - start_s
                elapsed_s = elapsed_s if seconds is None else min(elapsed_s, seconds)
                due = min(round(elapsed_s * rate) - sent, _MOST_A_TICK)
                for topic, key, value in islice(records, due):
                    sent += 1
                    await sender.send(topic, key, value, sent)
                await sender.send_batches()

        total = None if seconds is None else round(seconds * rate)
        return await _outcome(sender, topics, work(), total)


@contextlib.asynccontextmanager
async def _sender(
    settings: Settings, client: Mapping[str, Any], topics: list[str]
) -> AsyncIterator[Sender]:
    present = await partition_counts(client, topics, timeout_s=15)
    for name in topics:
        if name not in present:
            raise missing(name)
    async with Sender(client, present, settings.compression_type) as sender:
        yield sender


async def _outcome(
    sender: Sender, topics: list[str], work: Coroutine[Any, Any, None], total: int | None
) -> Outcome:
    """Run the work with a progress bar; ended early, what was handed over still goes out."""
    start_s = time.monotonic()
    is_whole = True
    showing = asyncio.ensure_future(_show_progress(sender, total))
    try:
        await work
        await sender.flush()
    except asyncio.CancelledError:
        is_whole = total is None
        await sender.flush()
    finally:
        showing.cancel()
        await asyncio.wait({showing})
    return Outcome(topics, sender.acknowledged, time.monotonic() - start_s, is_whole)


async def _show_progress(sender: Sender, total: int | None) -> None:
    """Show how far it is on stderr, if that is a terminal, until cancelled."""
    if not sys.stderr.isatty():
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("sending"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=total, rate="")
        start_s = time.monotonic()
        while True:
            await asyncio.sleep(_PROGRESS_S)
            rate = sender.acknowledged / (time.monotonic() - start_s)
            progress.update(bar, completed=sender.acknowledged, rate=f"{rate:,.0f}/s")


def _copied(stream: IO[bytes]) -> IO[bytes]:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is read until the process ends
    try:
        while block := stream.read(1 << 20):
            copy.write(block)
        copy.seek(0)
    except OSError as error:
        raise HeadraceError(
            f"what comes in cannot be read and kept in {tempfile.gettempdir()} ({error.strerror}): "
            "name a FILE, or set TMPDIR"
        ) from error
    return copy
