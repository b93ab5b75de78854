"""Where log lines go and how they look; the one place that knows structlog.

All code logs through the standard library (`logging.getLogger(__name__)`, values by `extra={...}`);
so Faust, Mode and aiokafka come along.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Final, TextIO

import structlog

from config.seldom import SeldomHandler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from structlog.typing import EventDict, Processor, WrappedLogger

# At INFO they tell of each rebalance, connection and service. What matters of it our own say.
CHATTY_LOGGERS: Final = ("aiohttp", "aiokafka", "asyncio", "faust", "kafka", "mode")
# What stops an agent or the app we tell in one line, they in a traceback each; the coordinator calls
# every rebalance and every first start of a group an error.
TOLD_BY_US: Final = ("aiokafka.consumer.group_coordinator", "faust.agents", "faust.headrace")
_HIDDEN: Final = "***"
_SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|credential", re.IGNORECASE)
_ADDRESS_WITH_LOGIN: Final = re.compile(r"(?P<scheme>\w+://)[^\s/@]+@")
_PASSWORD_OPTION: Final = re.compile(
    r"(?P<name>\w*(?:password|secret)\w*['\"]?\s*[=:]\s*)(?P<quote>['\"]?)[^\s,'\")}]+",
    re.IGNORECASE,
)


def configure_logging(*, verbose: bool = False, stream: TextIO | None = None) -> None:
    """Send every log line of the process to stream (stderr by default). May be called again.

    To a terminal for people, else one JSON object a line. `verbose` shows our debug lines, and the
    libraries' own below warnings. Passwords and logins in addresses are hidden in both. Warnings that
    repeat come seldom (config/seldom.py). Starting Faust's worker afterwards needs
    `override_logging=False`, or Mode sets up its own instead.
    """
    out = stream or sys.stderr
    handler = SeldomHandler(out, libraries=CHATTY_LOGGERS)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_described(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_rendered(for_people=out.isatty()),
            ],
        )
    )
    logging.captureWarnings(capture=True)
    logging.basicConfig(
        handlers=[handler], level=logging.DEBUG if verbose else logging.INFO, force=True
    )
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
    for name in TOLD_BY_US:
        logging.getLogger(name).setLevel(logging.INFO if verbose else logging.CRITICAL)


def hide_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Return the event without passwords: by the value's name, and within texts."""
    return {name: _without_secrets(name, value) for name, value in event.items()}


def _without_secrets(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return _HIDDEN
    if isinstance(value, dict):
        return {key: _without_secrets(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets("", item) for item in value]
    if isinstance(value, str):
        hidden = _ADDRESS_WITH_LOGIN.sub(rf"\g<scheme>{_HIDDEN}@", value)
        return _PASSWORD_OPTION.sub(rf"\g<name>\g<quote>{_HIDDEN}", hidden)
    return value


def _described() -> Sequence[Processor]:
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _rendered(*, for_people: bool) -> Sequence[Processor]:
    # A traceback becomes text first, so that it is searched for secrets too.
    if for_people:
        return [
            structlog.processors.format_exc_info,
            hide_secrets,
            structlog.dev.ConsoleRenderer(),
        ]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        hide_secrets,
        structlog.processors.JSONRenderer(default=str),
    ]
