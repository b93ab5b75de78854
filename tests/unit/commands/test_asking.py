"""What holds for every command that asks a running Kafka."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from aiokafka import errors as kafka_errors
from click.testing import CliRunner

from commands.asking import run_to_end
from commands.main import COMMANDS, cli, run
from streams.errors import HeadraceError

GROUPS = ("topics", "dead-letters")


def below(name: str) -> list[str]:
    group = getattr(importlib.import_module(COMMANDS[name].module), name.replace("-", "_"))
    assert isinstance(group, click.Group)
    return list(group.commands)


@pytest.mark.parametrize(("group", "name"), [(g, name) for g in GROUPS for name in below(g)])
def test_each_command_below_another_has_a_help_with_an_example(group: str, name: str) -> None:
    result = CliRunner().invoke(cli, [group, name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert f"headrace {group} {name}" in result.output
    assert "--verbose" in result.output
    assert "--json" in result.output


@pytest.mark.parametrize(
    "args",
    [
        ["topics", "list"],
        ["topics", "create"],
        ["topics", "describe", "orders"],
        ["topics", "tail", "orders"],
        ["produce", "orders"],
        ["produce", "--rate", "1"],
        ["lag"],
        ["dead-letters", "list"],
        ["dead-letters", "show", "orders-0@1"],
        ["dead-letters", "counts"],
    ],
    ids=" ".join,
)
def test_without_kafka_brokers_it_is_refused_in_one_line(
    args: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in [name for name in os.environ if name.startswith(("KAFKA_", "HEADRACE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # away from a .env
    assert run(args) == 1
    assert capsys.readouterr().err == (
        f"headrace: KAFKA_BROKERS is not set: {args[0]} needs a running Kafka; set host:port of its "
        "brokers\n"
    )


@pytest.mark.parametrize(
    "args",
    [
        ["produce"],
        ["produce", "orders", "--rate", "1", "--keyed"],
        ["produce", "orders", "-", "--rate", "1"],
        ["produce", "orders", "--seconds", "1"],
        ["produce", "elsewhere", "--rate", "1"],
        ["produce", "payments", "--rate", "1"],
        ["produce", "orders", "--payments"],
        ["produce", "products", "--rate", "1"],
        ["produce", "orders", "--repeats"],
        ["topics", "tail", "orders", "--last", "1", "--from-beginning"],
        ["dead-letters", "show", "orders"],
        ["dead-letters", "list", "--reason", "bad-luck"],
    ],
    ids=" ".join,
)
def test_a_wrong_call_is_told_before_kafka_is_asked(
    args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BROKERS", "127.0.0.1:1")
    assert run(args) == 2
    assert "Usage: headrace " in capsys.readouterr().err


class TestRunToEnd:
    @pytest.fixture(autouse=True)
    def _handlers(self) -> Iterator[None]:
        """Put back what asyncio sets to the system's default."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("endless", [True, False])
    def test_a_signal_cancels_the_work_and_makes_the_status(
        self, number: signal.Signals, *, endless: bool
    ) -> None:
        unwound = []

        async def work() -> None:
            os.kill(os.getpid(), number)
            try:
                await asyncio.Event().wait()
            finally:
                unwound.append(True)

        assert run_to_end(work(), endless=endless) == (0 if endless else 128 + number)
        assert unwound == [True]

    def test_work_that_is_done_has_status_0(self) -> None:
        assert run_to_end(asyncio.sleep(0)) == 0

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (
                kafka_errors.TopicAuthorizationFailedError("orders"),
                "Kafka denies this user what it needs ",
            ),
            (kafka_errors.UnknownError("x"), "Kafka refuses: "),
            (TimeoutError(), "Kafka did not answer within 15 s"),
        ],
        ids=["authorization", "other", "timeout"],
    )
    def test_what_kafka_refuses_is_told_in_words(self, error: Exception, told: str) -> None:
        async def work() -> None:
            raise error

        with pytest.raises(HeadraceError, match=f"^{told}"):
            run_to_end(work())
