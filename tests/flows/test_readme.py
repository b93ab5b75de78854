"""What README.md shows is run: its new agent on the driver, and each command by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from commands.main import COMMANDS, cli
from tests.flows.shown import ROOT, copy_with, new_files, python, shown_in

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = shown_in(README)
LINES_OF_A_FLOW = 35
# What the flow must come to, told without the README's own test.
STORY = """
import json, sys
from pathlib import Path
from config.settings import load_settings
from streams.testing import Driver, records_of
from streams.topics import OFTEN_CANCELLED, ORDERS, VIP_UPGRADES
from streams.topology import TOPOLOGY
from tables.definitions import CANCELLATIONS

def event(number, user, kind="order.cancelled", **data):
    return {"event_id": f"e-{number}", "event_type": kind, "aggregate_id": "o", "timestamp": number,
            "data": {"order_id": "o", "user_id": user, **data}}

ada = [event(number, "ada") for number in range(5)]
bob = [event(number, "bob") for number in range(10, 12)]
created = [event(number, "ada", "order.created", amount=1) for number in range(20, 30)]
with Driver(TOPOLOGY, load_settings(data_dir=Path(sys.argv[1]))) as driver:
    driver.pipe(ORDERS, records_of([*ada, *bob, *created]))
    print(json.dumps({
        "often": [json.loads(sent.value)["event_id"] for sent in driver.read(OFTEN_CANCELLED)],
        "vips": len(driver.read(VIP_UPGRADES)),
        "table": driver.table(CANCELLATIONS),
        "changelog": {key: int(value) for key, value in driver.changelog(CANCELLATIONS).items()},
    }))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project with the README's flow in it."""
    return copy_with(SHOWN, tmp_path_factory.mktemp("readme") / "project")


def test_the_agent_it_shows_does_what_it_says(copy: Path, tmp_path: Path) -> None:
    where = python(copy, "-c", "import streams.topology as t; print(t.__file__)")
    assert Path(where.strip()).is_relative_to(copy)
    told = python(copy, "-c", STORY, str(tmp_path))
    assert told.splitlines()[-1] == (
        '{"often": ["e-2:user.often_cancelled"], "vips": 1, '
        '"table": {"ada": 5, "bob": 2}, "changelog": {"ada": 5, "bob": 2}}'
    )


def test_the_test_it_shows_passes(copy: Path) -> None:
    test = "tests/flows/test_often_cancelled.py"
    assert "1 passed" in python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", test)


def test_the_code_it_shows_passes_the_lint(copy: Path) -> None:
    python(copy, "-m", "ruff", "check", "--no-cache", *new_files(SHOWN))
    python(copy, "-m", "ruff", "format", "--no-cache", "--check", *new_files(SHOWN))


def test_an_agent_is_as_short_as_it_seems() -> None:
    code = [
        line
        for path, block in SHOWN
        if not path.startswith("tests/")
        for line in block.splitlines()
        if line and not line.startswith(("from ", "import ")) and '"""' not in line
    ]
    assert len(code) <= LINES_OF_A_FLOW


def commands(text: str) -> set[str]:
    """Return the commands of `headrace` that a text shows as code."""
    return set(
        re.findall(r"(?:^|`|\n +)(?:\w+=\S+ )*(?:\.venv/bin/)?headrace ([a-z-]+[a-z])", text)
    )


def test_every_command_that_it_shows_has_a_help() -> None:
    shown = commands(README)
    assert shown >= {"worker", "broker"}
    for name in sorted(shown):
        assert name in COMMANDS
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_the_demo_s_words_are_those_that_it_shows() -> None:
    report = (ROOT / "demo" / "report.py").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```text\n(starting Kafka.*?)```", README, re.DOTALL)
    summary = shown.partition("reading everything back ...\n\n")[2].splitlines()
    assert len(summary) == 8
    assert f'"{summary[-1]}"' in report
    for line in summary[:-1]:
        assert f'"{re.split("  +", line)[0]} ' in report


def test_what_it_says_is_not_there_is_not_there() -> None:
    (listed,) = re.findall(r"The commands? (.*?) do(?:es)? not exist", README)
    missing = set(re.findall(r"`(\w+)`", listed))
    assert missing
    assert missing & COMMANDS.keys() == set()
