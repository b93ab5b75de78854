"""What commands that ask a running Kafka share: which one it is, how they end, errors in one line."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from aiokafka import errors as kafka_errors

from config.kafka_client import kafka_client_options
from config.settings import SettingsError, load_settings
from streams.engine.errors import KafkaUnavailableError
from streams.engine.kafka_client import error_text, raise_denial
from streams.errors import HeadraceError

if TYPE_CHECKING:
    from config.settings import Settings

# A person waits: long enough for a broker that is far away, or just starting.
ANSWER_TIMEOUT_S = 15.0
_TELL_REFUSALS = ("aiokafka.consumer.fetcher", "aiokafka.producer.sender")


def running_kafka(command: str) -> tuple[Settings, dict[str, Any]]:
    """Return the settings, and what every aiokafka client takes to reach the Kafka that they name.

    Raises SettingsError where they name none: `command` is what then cannot work.
    """
    settings = load_settings()
    if not settings.kafka_brokers:
        raise SettingsError(
            f"KAFKA_BROKERS is not set: {command} needs a running Kafka; set host:port of its brokers"
        )
    return settings, kafka_client_options(settings)


def run_to_end(work: Coroutine[Any, Any, None], *, endless: bool = False) -> int:
    """Run the work until it is done, or SIGTERM or SIGINT cancels it; return the exit status.

    Ended by a signal, that is 0 for endless work and 128 + the signal's number for other. What
    Kafka refuses is raised as HeadraceError, in one line.
    """
    ended_by: list[signal.Signals] = []
    _tell_refusals_once()
    try:
        asyncio.run(_cancelled_by_signals(work, ended_by))
    except asyncio.CancelledError:
        if not ended_by:
            raise
    except (kafka_errors.KafkaError, KafkaUnavailableError, TimeoutError) as error:
        raise_denial(error)
        raise HeadraceError(_told(error)) from error
    return 128 + ended_by[0] if ended_by and not endless else 0


async def _cancelled_by_signals(
    work: Coroutine[Any, Any, None], ended_by: list[signal.Signals]
) -> None:
    task = asyncio.ensure_future(work)

    def end(number: signal.Signals) -> None:
        ended_by.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    await task


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError | kafka_errors.KafkaTimeoutError):
        return f"Kafka did not answer within {ANSWER_TIMEOUT_S:g} s: do all of its brokers run?"
    return f"Kafka refuses: {error_text(error)}"


def _tell_refusals_once() -> None:
    """Keep aiokafka from logging what is raised as well, unless somebody wants to see everything."""
    if logging.getLogger("aiokafka").level >= logging.WARNING:
        for name in _TELL_REFUSALS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
