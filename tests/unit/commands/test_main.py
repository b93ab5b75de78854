from __future__ import annotations

import importlib.metadata
import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import click
import pytest
from click.testing import CliRunner

from commands import main
from commands.main import COMMANDS, Lazy, cli, run
from commands.produce import CODECS
from config.settings import Compression
from streams.errors import HeadraceError

HEADRACE = [sys.executable, "-c", "from commands.main import main; main()"]
ROOT = Path(main.__file__).parent.parent
PRESENT = [name for name, lazy in COMMANDS.items() if importlib.util.find_spec(lazy.module)]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the command `headrace fail`: see fail()."""
    monkeypatch.setitem(COMMANDS, "fail", Lazy(__name__, "Fail."))


@click.command()
@click.argument("kind")
def fail(kind: str) -> None:
    """Fail in the way that is asked for."""
    errors: dict[str, BaseException] = {
        "expected": HeadraceError("no broker at kafka-1:9092\nstart one"),
        "unexpected": ZeroDivisionError("division by zero"),
        "interrupt": KeyboardInterrupt(),
        "status": SystemExit(7),
        "usage": click.UsageError("that is not how"),
    }
    raise errors[kind]


def headrace(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HEADRACE, *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys\n"
        "from commands.main import run\n"
        "status = run(['--help'])\n"
        "heavy = {'aiokafka', 'faust', 'pydantic', 'rich', 'rocksdict', 'structlog', 'asyncio'}\n"
        "print('imported:', sorted(heavy & sys.modules.keys()))\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "imported: []" in done.stdout
    for name, lazy in COMMANDS.items():
        assert name in done.stdout
        assert lazy.summary in done.stdout


def test_help_of_a_command_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, io, sys\n"
        "import click\n"
        "from commands import main\n"
        "def told(command, *names):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert main.run([*names, '--help']) == 0\n"
        "    for name, below in getattr(command, 'commands', {}).items():\n"
        "        told(below, *names, name)\n"
        "for name in main.COMMANDS.keys() - {'faust'}:\n"
        "    told(main.cli.get_command(click.Context(main.cli), name), name)\n"
        "heavy = {'aiokafka', 'faust', 'pydantic', 'rich', 'rocksdict', 'structlog'}\n"
        "print('imported:', sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "imported: []\n"


def test_the_codecs_of_produce_are_those_of_the_settings() -> None:
    assert get_args(Compression) == CODECS


def test_version_is_the_distribution_s() -> None:
    assert headrace("--version").stdout == f"headrace {importlib.metadata.version('headrace')}\n"


@pytest.mark.parametrize("name", PRESENT)
def test_each_command_has_a_help_with_an_example(name: str) -> None:
    result = CliRunner().invoke(cli, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert f"headrace {name}" in result.output
    assert "--verbose" in result.output


@pytest.mark.usefixtures("failing")
class TestErrors:
    def test_an_expected_one_is_one_line(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(["fail", "expected"]) == 1
        assert capfd.readouterr() == ("", "headrace: no broker at kafka-1:9092 start one\n")

    def test_an_unexpected_one_has_its_type_and_a_hint(
        self, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert run(["fail", "unexpected"]) == 1
        assert capfd.readouterr().err == (
            "headrace: ZeroDivisionError: division by zero (--verbose shows where)\n"
        )

    @pytest.mark.parametrize("kind", ["expected", "unexpected"])
    @pytest.mark.parametrize("place", ["before", "after"])
    def test_verbose_adds_the_traceback(
        self, kind: str, place: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        args = ["fail", kind]
        assert run(["--verbose", *args] if place == "before" else [*args, "--verbose"]) == 1
        err = capfd.readouterr().err
        assert err.startswith("Traceback")
        assert err.splitlines()[-1].startswith("headrace: ")
        assert "--verbose" not in err

    def test_ctrl_c_is_130_without_a_word(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(["fail", "interrupt"]) == 130
        assert capfd.readouterr().err.strip() == ""

    def test_a_wrong_call_is_click_s(self, capfd: pytest.CaptureFixture[str]) -> None:
        assert run(["fail", "usage"]) == 2
        assert "that is not how" in capfd.readouterr().err

    def test_a_command_may_choose_its_status(self) -> None:
        with pytest.raises(SystemExit) as caught:
            run(["fail", "status"])
        assert caught.value.code == 7


def test_an_unknown_command_is_a_wrong_call() -> None:
    done = headrace("brokr")
    assert done.returncode == 2
    assert "brokr" in done.stderr


def test_a_setting_that_makes_no_sense_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_PARTITIONS", "none")
    done = headrace("broker")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("headrace: HEADRACE_PARTITIONS='none' makes no sense")
    assert len(done.stderr.splitlines()) == 1


def test_sigterm_unwinds_what_is_open() -> None:
    code = (
        "import click, sys, time, types\n"
        "from commands import main\n"
        "@click.command()\n"
        "def wait():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('closed', flush=True)\n"
        "sys.modules['wait'] = types.SimpleNamespace(wait=wait)\n"
        "main.COMMANDS['wait'] = main.Lazy('wait', 'Wait.')\n"
        "sys.argv = ['headrace', 'wait']\n"
        "main.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "closed\n"
        assert process.wait(10) == 128 + signal.SIGTERM


def shell(redirected: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run `headrace` with its streams redirected as the shell's words say."""
    words = ["sh", "-c", f'exec "$@" {redirected}', "sh", *HEADRACE, *args]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(("args", "status"), [(["--help"], 0), (["produce", "orders"], 1)])
def test_a_stream_that_the_caller_closed_is_missed_by_nobody(
    closed: str, args: list[str], status: int
) -> None:
    done = shell(closed, *args)
    assert done.returncode == status, done.stderr
    assert "Error:" not in done.stderr


def test_a_full_device_is_one_line() -> None:
    done = shell(">/dev/full", "--help")
    assert done.returncode == 1
    assert done.stderr == "headrace: cannot write the output: No space left on device\n"


def test_a_reader_that_has_gone_hears_nothing() -> None:
    assert shell("| true", "--help").stderr == ""


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "args",
    [
        ("demo", "--seconds"),
        ("demo", "--poison"),
        ("produce", "--rate", "1", "--seconds"),
        ("lag", "--watch", "--every"),
    ],
)
def test_a_number_that_is_none_is_a_wrong_call(
    args: tuple[str, ...], number: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*args, number]) == 2
    assert f"Invalid value for '{args[-1]}'" in capfd.readouterr().err
