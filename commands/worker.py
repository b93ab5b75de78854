"""`headrace worker`: processes this machine's share of the topics until it is ended."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from commands.groups import group_option, of_group

if TYPE_CHECKING:
    from config.settings import Settings
    from streams.engine.definitions import Topology

log = logging.getLogger(__name__)


@click.command(short_help="Run a worker.")
@group_option
@click.option(
    "--reset",
    is_flag=True,
    help="Go on with what an input still holds, where unread records are gone or the topic was made "
    "anew. Tables stay as they are.",
)
def worker(*, group: str, reset: bool) -> None:
    """Process events: take a share of the partitions, beside all other workers of the group.

    Every setting is an environment variable (docs/contract.md). SIGTERM or Ctrl-C ends it in
    order: what was begun is committed, and the other workers take over. Status 0 then.

    \b
    Example:
      KAFKA_BROKERS=127.0.0.1:9092 headrace worker
      KAFKA_BROKERS=127.0.0.1:9092 HEADRACE_DATA_DIR=second headrace worker
    """
    from commands.kafka import settings_with_kafka
    from config.settings import load_settings

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the loop has its own handlers
    settings, topology = of_group(load_settings(), group)
    with settings_with_kafka(settings) as known:
        asyncio.run(_run(known, topology, reset=reset))


async def _run(settings: Settings, topology: Topology, *, reset: bool) -> None:
    from commands.banner import show_banner
    from streams.app import create_worker, serve

    until = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, until.set)
    log.info("connecting to %s", ", ".join(settings.kafka_brokers))
    worker = create_worker(settings, topology, reset=reset)
    worker.when_connected = partial(show_banner, settings, worker.topology)
    await serve(worker, until, dict(os.environ))
    log.info("stopped")
