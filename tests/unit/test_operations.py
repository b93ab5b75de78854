"""docs/operations.md tells of what there is: errors by their words, settings, commands, figures."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import aiokafka.errors
import click
import pytest

from commands.main import COMMANDS, cli
from config.settings import Settings, environment_name
from streams.engine.config import EngineConfig
from streams.engine.kafka_client import KafkaOptions
from streams.engine.store import StoreMemory

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
ADVICE = PAGE[PAGE.index("## What to do when") :]
SOURCES = [
    path
    for folder in ("agents", "commands", "config", "streams", "tables")
    for path in (ROOT / folder).rglob("*.py")
]
# What stops a worker for reasons that an operator can do something about. Errors of the embedded
# Kafka and of single settings say all that there is to say themselves.
OPERATORS_ERRORS = {
    "BrokerUnreachableError",
    "CauselessFailureError",
    "OwnershipError",
    "StateMismatchError",
    "StoreCorruptError",
    "StoreError",
    "StoreLockedError",
    "TopicError",
    "UnexpectedEndError",
}
DEFAULTS = Settings.model_construct()
ENGINE = EngineConfig(application_id="any", data_dir=ROOT)
MEMORY = inspect.signature(StoreMemory).parameters


def quoted() -> list[str]:
    """Return the words of errors and warnings that the last table's first column quotes."""
    first = [row.split(" | ")[0] for row in ADVICE.splitlines() if row.startswith("| `")]
    return [words for cell in first for words in re.findall(r"`([^`]+)`", cell)]


def words_of(node: ast.AST) -> str:
    """Return the constant text of an expression, with ~ for what is filled in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(map(words_of, parts))
    return "~"


def literals(source: Path) -> Iterator[str]:
    """Yield every text that a source holds, implicit concatenation joined."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield words_of(node)


TEXTS = [text for source in SOURCES for text in literals(source)]


def raised() -> Iterator[tuple[str, str]]:
    """Yield place and words of each error for operators that streams/ and tables/ make."""
    for source in SOURCES:
        if source.parts[len(ROOT.parts)] not in {"streams", "tables"} or source.stem == "testing":
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        assigned = {
            (node.targets[0].id, node.lineno): node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
        for call in ast.walk(tree):
            match call:
                case ast.Call(func=ast.Name(id=name), args=[message, *_]) if (
                    name in OPERATORS_ERRORS
                ):
                    if isinstance(message, ast.Name):
                        lines = [at for of, at in assigned if of == message.id and at < call.lineno]
                        message = assigned[message.id, max(lines)]
                    words = words_of(message)
                    if re.search(r"\w \w", words):  # else it passes on what somebody else says
                        yield f"{source.name}:{call.lineno}", words


@pytest.mark.parametrize("words", sorted(set(quoted())))
def test_what_is_quoted_is_said_by_the_code_or_is_kafkas_name_for_an_error(words: str) -> None:
    assert any(words in text for text in TEXTS) or hasattr(aiokafka.errors, words)


@pytest.mark.parametrize(("place", "words"), [pytest.param(*site, id=site[0]) for site in raised()])
def test_each_error_that_an_operator_may_see_has_its_row(place: str, words: str) -> None:
    assert any(known in words for known in quoted()), words


def test_errors_are_found_in_the_code() -> None:
    assert len(list(raised())) > 12


def test_settings_that_are_named_exist() -> None:
    named = set(re.findall(r"\b((?:KAFKA|HEADRACE)_[A-Z_]+)\b", PAGE))
    assert named <= set(map(environment_name, Settings.model_fields))


def test_commands_and_options_that_are_named_exist() -> None:
    lines = re.findall(r"(?:`|^ {4})headrace ([^`\n]+)", PAGE, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        name, *rest = line.split()
        assert name in COMMANDS
        command = cli.get_command(click.Context(cli), name)
        while isinstance(command, click.Group) and rest:
            command = command.commands[rest.pop(0)]
        assert command is not None
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options


@pytest.mark.parametrize(
    "told",
    [
        f"{MEMORY['block_cache_bytes'].default >> 20} MB of block cache",
        f"{MEMORY['write_buffer_bytes'].default >> 20} MB of write buffers",
        f"{MEMORY['known_rows'].default:,} rows in use",
        f"`KAFKA_SESSION_TIMEOUT_MS` ({DEFAULTS.kafka_session_timeout_ms // 1000} s)",
        f"`KAFKA_REBALANCE_TIMEOUT_MS` ({ENGINE.revoke_timeout_s():g} s)",
        f"more than {ENGINE.lock_timeout_s:g} s",
        f"below {KafkaOptions(client={}, group='').transaction_timeout_ms}",
        f"{ENGINE.state_lifetime_ms // 3_600_000} hours, as local state of up to that age",
    ],
)
def test_figures_are_those_of_the_code(told: str) -> None:
    assert told in PAGE
