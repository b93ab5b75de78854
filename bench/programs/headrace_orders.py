"""`python -m bench.programs.headrace_orders [all]`: a worker of the flows that do the bench's work.

They are those of the production topology, and run as `headrace worker` runs them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Final

from config.logging import configure_logging
from config.settings import load_settings
from streams.app import create_worker, serve
from streams.engine.definitions import Topology
from streams.topology import FLOWS, TOPOLOGY

_WORK: Final = {"high_value_orders", "vip_upgrades", "user_order_minutes"}


async def _run(topology: Topology) -> None:
    until = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, until.set)
    await serve(create_worker(load_settings(), topology), until, dict(os.environ))


def run_worker(topology: Topology) -> None:
    """Run a worker until SIGTERM."""
    configure_logging(verbose=False)
    asyncio.run(_run(topology))


def main(arguments: list[str]) -> None:
    """Run a worker of the work, or of all flows."""
    work = Topology(
        tuple(flow for flow in FLOWS if flow.name in _WORK), dead_letters=TOPOLOGY.dead_letters
    )
    run_worker(TOPOLOGY if arguments == ["all"] else work)


if __name__ == "__main__":
    main(sys.argv[1:])
