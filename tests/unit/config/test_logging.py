from __future__ import annotations

import io
import json
import logging
from typing import Any

import pytest

from config.logging import configure_logging


class Terminal(io.StringIO):
    """A stream that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


pytestmark = pytest.mark.usefixtures("_logging_as_it_was")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_where_nobody_looks_each_line_is_a_json_object() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    logging.getLogger("streams.engine").warning("took %d tasks", 3, extra={"worker": "a"})
    (line,) = lines(stream)
    assert line["message"] == "took 3 tasks"
    assert line["logger"] == "streams.engine"
    assert line["level"] == "warning"
    assert line["worker"] == "a"
    assert line["timestamp"].endswith("Z")


def test_on_a_terminal_a_line_is_for_people() -> None:
    stream = Terminal()
    configure_logging(stream=stream)
    logging.getLogger("streams.engine").info("took 3 tasks")
    assert "took 3 tasks" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize("name", ["faust.transport", "aiokafka.consumer", "mode.worker"])
def test_the_libraries_are_quiet_below_warnings_unless_verbose(name: str) -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    logging.getLogger(name).info("joined group")
    assert lines(stream) == []
    logging.getLogger(name).warning("heartbeat failed")
    configure_logging(verbose=True, stream=stream)
    logging.getLogger(name).info("joined group")
    assert [line["message"] for line in lines(stream)] == ["heartbeat failed", "joined group"]


def test_debug_lines_of_ours_are_shown_when_verbose() -> None:
    stream = io.StringIO()
    configure_logging(verbose=True, stream=stream)
    logging.getLogger("streams.engine").debug("epoch 3 opens")
    assert [line["message"] for line in lines(stream)] == ["epoch 3 opens"]


@pytest.mark.parametrize(
    ("message", "extra"),
    [
        ("login", {"sasl_plain_password": "hunter2"}),
        ("login", {"options": {"nested": {"password": "hunter2"}}}),
        ("connecting to kafka://ada:hunter2@kafka-1:9092", {}),
        ("client made with {'sasl_plain_password': 'hunter2', 'acks': 1}", {}),
        ("sasl_password=hunter2", {}),
        ("login", {"brokers": ["kafka://ada:hunter2@kafka-1"]}),
    ],
)
@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_no_line_shows_a_password(
    message: str, extra: dict[str, object], stream: io.StringIO
) -> None:
    configure_logging(stream=stream)
    logging.getLogger("headrace").warning(message, extra=extra)
    assert "***" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_traceback_shows_no_password() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    try:
        int("kafka://ada:hunter2@kafka-1")
    except ValueError:
        logging.getLogger("headrace").exception("start failed")
    (line,) = lines(stream)
    assert "ValueError" in line["exception"]
    assert "hunter2" not in stream.getvalue()
