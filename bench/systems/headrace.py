"""This application: the three flows of its production topology that do the work, or all of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version

import msgspec

from bench.systems.system import ROOT, Command, Guarantee, Place, Usual
from bench.work import Row, TableName


class _Row(msgspec.Struct):
    orders: int
    amount: float


_decode = msgspec.json.Decoder(_Row).decode


@dataclass(frozen=True)
class Headrace(Usual):
    """As `headrace worker` runs it, with its own defaults."""

    guarantee: Guarantee
    all_flows: bool = False
    name = "headrace"
    share = 1.0
    does_the_work = True
    program = "bench.programs.headrace_orders"

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the program is told."""
        return ("all",) if self.all_flows else ()

    @property
    def variant(self) -> str:
        """Whether it does all flows of the contract, two more than the work."""
        return "all-flows" if self.all_flows else ""

    def prepare(self) -> str:
        """Return its version: it is here."""
        return version("headrace")

    def command(self, place: Place) -> Command:
        """Return a worker's start; the commit interval is its own, adaptive one."""
        return Command(
            (sys.executable, "-m", self.program, *self.arguments),
            {
                "PYTHONPATH": str(ROOT),
                "KAFKA_BROKERS": place.bootstrap,
                "KAFKA_CLIENT_ID": place.folder.name,
                "HEADRACE_APP_ID": place.app_id,
                "HEADRACE_DATA_DIR": str(place.folder / "state"),
                "HEADRACE_PROCESSING_GUARANTEE": self.guarantee,
                "HEADRACE_WEB_PORT": "26066",
            },
        )

    def row(self, table: TableName, key: bytes, value: bytes) -> tuple[str, Row]:  # noqa: ARG002 - both have one form
        """Return what docs/contract.md says of a row."""
        row = _decode(value)
        return key.decode(), Row(row.orders, round(row.amount * 100))
