"""`headrace broker`: the embedded Kafka, for as long as this process lives."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from types import FrameType

_LOOK_S = 1.0
_MISSES = 3  # in a row, so that one failed look does not end it


@click.command(short_help="Run the embedded Kafka in the foreground.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=9092,
    show_default=True,
    help="Port on loopback; 0 takes a free one.",
)
@click.option(
    "--data",
    "data_dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for Kafka's data.  [default: kafka, in HEADRACE_DATA_DIR]",
)
def broker(port: int, data_dir: Path | None) -> None:
    """Run the embedded Kafka: Apache Kafka itself, on this machine, its data in a folder.

    Prints its address on a line of its own when it is ready. Ends in order, with status 0, at
    SIGTERM or Ctrl-C.

    \b
    Example:
      headrace broker --port 9092 --data kafka-data
      KAFKA_BROKERS=127.0.0.1:9092 headrace worker
    """
    from config.settings import load_settings
    from streams.broker import EmbeddedKafka
    from streams.errors import BrokerError

    _exit_at_end_signal()
    folder = data_dir or load_settings().data_dir / "kafka"
    kafka = EmbeddedKafka(folder, brokers=1, port=port)
    try:
        kafka.start()
        click.echo(kafka.bootstrap)
        _wait_until_gone(kafka.bootstrap)
        raise BrokerError(f"Kafka at {kafka.bootstrap} has died: its logs are in {folder}")
    finally:
        kafka.stop()


def _exit_at_end_signal() -> None:
    """Unwind with status 0 at the first SIGTERM or SIGINT; more of them do not cut that short."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        signal.signal(number, end)


def _wait_until_gone(address: str) -> None:
    """Return when nothing listens at address any more."""
    host, port = address.rsplit(":", 1)
    misses = 0
    while misses < _MISSES:
        time.sleep(_LOOK_S)
        misses = 0 if _listens(host, int(port)) else misses + 1


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_LOOK_S).close()
    except OSError:
        return False
    return True
