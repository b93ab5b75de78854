"""What the bench asks of a system: how it is started, and how to read what it leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeGuard

import msgspec

from bench.work import Row, TableName
from streams.errors import HeadraceError

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "bench"
"""Peers' environments and what is compiled: made once, in no one's way."""

Guarantee: TypeAlias = Literal["exactly_once", "at_least_once"]


class CannotMeasureError(HeadraceError):
    """A system cannot be had on this machine; the bench says why and goes on."""


@dataclass(frozen=True)
class Place:
    """Where one process of a system works."""

    bootstrap: str
    app_id: str
    folder: Path
    """Its own, and that of its state: without it, it has to read its changelogs."""
    commit_interval_ms: int
    """For systems that do not choose it by themselves; the same for all of them."""


class Command(NamedTuple):
    """A process to start. `environment` is added to what the bench itself has of PATH and HOME."""

    arguments: tuple[str, ...]
    environment: dict[str, str]


class ChangelogRecord(Protocol):
    """What aiokafka says of a record."""

    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...


class System(Protocol):
    """One system with one guarantee. Its group is named after the application id (`group`)."""

    @property
    def name(self) -> str:
        """As results name it: headrace, kafka-streams, ..."""

    @property
    def guarantee(self) -> Guarantee: ...
    @property
    def variant(self) -> str:
        """What tells it from others of its name and guarantee; usually empty."""

    @property
    def share(self) -> float:
        """Of the events that a fast system gets, so that a slow one ends within a minute or two."""

    @property
    def does_the_work(self) -> bool:
        """Whether it leaves events and tables behind; the ceiling only reads."""

    def prepare(self) -> str:
        """Have all that it needs on this machine; return its version. Raises CannotMeasureError."""

    def command(self, place: Place) -> Command: ...

    def group(self, app_id: str) -> str:
        """Return the consumer group whose committed offsets tell how far it is."""


class Keeper(System, Protocol):
    """A system that does the work: it leaves its tables in changelogs."""

    def changelog(self, app_id: str, table: TableName) -> str: ...

    def row(self, table: TableName, key: bytes, value: bytes) -> tuple[str, Row]:
        """Return a changelog's row: `user-7`, or `user-7@<start of the minute, ms>`, and what it has."""

    def is_row(self, record: ChangelogRecord) -> bool:
        """Tell whether a changelog's record is a row at all, or the system's own bookkeeping."""


def does_the_work(system: System) -> TypeGuard[Keeper]:
    """Tell whether a system keeps tables that can be looked at."""
    return system.does_the_work


class Usual:
    """What most systems have alike; a base of theirs."""

    def group(self, app_id: str) -> str:
        """Return the application id."""
        return app_id

    def changelog(self, app_id: str, table: TableName) -> str:
        """Return `<application id>-<table>-changelog`."""
        return f"{app_id}-{table}-changelog"

    def is_row(self, record: ChangelogRecord) -> bool:  # noqa: ARG002 - there is nothing else
        """Tell that it is."""
        return True


class _CountedJson(msgspec.Struct):
    orders: int
    amount_cents: int


_decode_counted = msgspec.json.Decoder(_CountedJson).decode


def counted(value: bytes) -> Row:
    """Return a row that is JSON with whole cents, as the peers' programs write them."""
    row = _decode_counted(value)
    return Row(row.orders, row.amount_cents)


def label(system: System) -> str:
    """Return the name that people call it by, and that --systems takes."""
    short = {"exactly_once": "eo", "at_least_once": "alo"}[system.guarantee]
    parts = [system.name, short if system.does_the_work else "", system.variant]
    return "-".join(filter(None, parts))
