"""The ceiling of what a Python program can read by itself: aiokafka, and no work at all."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version

from bench.systems.system import ROOT, Command, Guarantee, Place


@dataclass(frozen=True)
class AiokafkaRead:
    """bench/programs/reader.py: polls, counts and commits, decodes nothing."""

    guarantee: Guarantee = "at_least_once"
    name = "aiokafka-read"
    variant = ""
    share = 1.0
    does_the_work = False

    def prepare(self) -> str:
        """Return its version: it comes with the application."""
        return version("aiokafka")

    def command(self, place: Place) -> Command:
        """Return the start of the reader."""
        return Command(
            (sys.executable, "-m", "bench.programs.reader"),
            {
                "PYTHONPATH": str(ROOT),
                "BENCH_BOOTSTRAP": place.bootstrap,
                "BENCH_APP_ID": place.app_id,
                "BENCH_COMMIT_INTERVAL_MS": str(place.commit_interval_ms),
            },
        )

    def group(self, app_id: str) -> str:
        """Return the application id."""
        return app_id
