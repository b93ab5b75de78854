"""Quix Streams, at least once and exactly once."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import msgspec

from bench.environments import Environment
from bench.systems.system import ROOT, ChangelogRecord, Command, Guarantee, Place, Usual, counted
from bench.work import Row, TableName, minute_key

_ENVIRONMENT: Final = Environment("quix", "quixstreams")
_STORES: Final = {"user_orders": "default", "user_order_minutes": "tumbling_window_60000_reduce"}
_WINDOW: Final = struct.Struct(">cQcQ")  # |start|end, ms


_user = msgspec.json.Decoder(str).decode


@dataclass(frozen=True)
class Quix(Usual):
    """bench/programs/quix_orders.py."""

    guarantee: Guarantee
    name = "quix"
    variant = ""
    share = 0.1
    does_the_work = True

    def prepare(self) -> str:
        """Make its environment; return its version."""
        return _ENVIRONMENT.make()

    def command(self, place: Place) -> Command:
        """Return the start of the program."""
        return Command(
            (str(_ENVIRONMENT.python), str(ROOT / "bench" / "programs" / "quix_orders.py")),
            {
                "BENCH_BOOTSTRAP": place.bootstrap,
                "BENCH_APP_ID": place.app_id,
                "BENCH_STATE": str(place.folder / "state"),
                "BENCH_COMMIT_INTERVAL_MS": str(place.commit_interval_ms),
                "BENCH_GUARANTEE": self.guarantee.replace("_", "-"),
            },
        )

    def changelog(self, app_id: str, table: TableName) -> str:
        """Return `changelog__<group>--<input>--<store>`."""
        return f"changelog__{app_id}--orders--{_STORES[table]}"

    def row(self, table: TableName, key: bytes, value: bytes) -> tuple[str, Row]:
        """Return a row; keys are `"<user>"|"row"`, and of a window `"<user>"|<start>|<end>`."""
        if table == "user_orders":
            name = _user(key.rpartition(b"|")[0])
        else:
            _, start_ms, _, _ = _WINDOW.unpack(key[-_WINDOW.size :])
            name = minute_key(_user(key[: -_WINDOW.size]), start_ms)
        return name, counted(value)

    def is_row(self, record: ChangelogRecord) -> bool:
        """Tell whether it is of the column family of values; others hold stream times."""
        return dict(record.headers).get("__column_family__", b"default") == b"default"
