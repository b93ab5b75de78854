"""Stock Faust with its tables; it has no exactly-once that works (FAQ of its issues #323, #517)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from bench.environments import Environment
from bench.systems.system import ROOT, Command, Guarantee, Place, Usual, counted
from bench.work import MINUTE_MS, Row, TableName, minute_key

_ENVIRONMENT: Final = Environment("faust", "faust-streaming")

_ARGUMENTS: Final = ("-A", "faust_orders", "-L", "uvloop", "-l", "warn", "worker", "--without-web")


@dataclass(frozen=True)
class Faust(Usual):
    """bench/programs/faust_orders.py, by Faust's own worker command."""

    guarantee: Guarantee = "at_least_once"
    name = "faust"
    variant = ""
    share = 0.015
    does_the_work = True

    def prepare(self) -> str:
        """Make its environment; return its version."""
        return _ENVIRONMENT.make()

    def command(self, place: Place) -> Command:
        """Return the start of a worker without its web server."""
        program = str(ROOT / "bench" / "programs")
        return Command(
            (str(_ENVIRONMENT.python), "-m", "faust", *_ARGUMENTS),
            {
                "PYTHONPATH": program,
                "BENCH_BOOTSTRAP": place.bootstrap,
                "BENCH_APP_ID": place.app_id,
                "BENCH_STATE": str(place.folder / "state"),
                "BENCH_COMMIT_INTERVAL_MS": str(place.commit_interval_ms),
            },
        )

    def row(self, table: TableName, key: bytes, value: bytes) -> tuple[str, Row]:
        """Return a row; a window's key is [user, [start, end]], in seconds, JSON as all."""
        name = msgspec.json.decode(key)
        if table == "user_order_minutes":
            user, (start_s, _) = name
            start_ms = round(start_s * 1000)
            name = minute_key(user, start_ms - start_ms % MINUTE_MS)
        return name, counted(value)
