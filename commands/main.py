"""`headrace`: finds the command that is asked for, and turns what goes wrong into one line."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from streams.errors import HeadraceError

if TYPE_CHECKING:
    from types import FrameType

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Lazy(NamedTuple):
    """A command that is imported when it is asked for, and its line in the list of commands."""

    module: str
    summary: str


# Each module holds a click command under the command's name (with _ for -).
COMMANDS = {
    "bench": Lazy("commands.bench", "Measure this application beside others."),
    "broker": Lazy("commands.broker", "Run the embedded Kafka in the foreground."),
    "dead-letters": Lazy("commands.dead_letters", "Show the records that were refused, and why."),
    "demo": Lazy("commands.demo", "Show the whole application at work on this machine."),
    "faust": Lazy("commands.faust", "Faust's own command line on this application."),
    "lag": Lazy("commands.lag", "Show how far the workers are behind."),
    "produce": Lazy("commands.produce", "Send events to a topic: JSON lines, or made-up traffic."),
    "tables": Lazy("commands.tables", "Ask running workers for rows of their tables."),
    "topics": Lazy("commands.topics", "Make, list, describe and read topics."),
    "verify": Lazy("commands.verify", "Compare local state, changelogs and committed offsets."),
    "worker": Lazy("commands.worker", "Run a worker."),
}


class LazyGroup(click.Group):
    """A group whose list of commands imports none of them: `headrace --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface
        return sorted(COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(COMMANDS[cmd_name].module), name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{COMMANDS[cmd_name].module}.{name} is no click command")
        _add_verbose(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].summary) for name in self.list_commands(ctx)])


def _set_up_logging(ctx: click.Context, _parameter: click.Parameter, value: object) -> None:
    """Set up logging once all words were heard: of `--help` alone it would take half of the time."""
    root = ctx.find_root()
    root.meta["headrace.verbose"] = bool(value) or root.meta.get("headrace.verbose", False)
    if isinstance(ctx.command, click.Group):
        return  # the command comes yet, and sets it up
    from config.logging import configure_logging

    configure_logging(verbose=root.meta["headrace.verbose"])


# Before and after the command's name, as people try both.
_VERBOSE = click.Option(
    ["--verbose"],
    is_flag=True,
    expose_value=False,
    callback=_set_up_logging,
    help="Show debug lines, and the traceback of an error.",
)


def _add_verbose(command: click.Command) -> None:
    """Give the command, and each below it, the option."""
    if _VERBOSE.name not in (parameter.name for parameter in command.params):
        command.params.append(_VERBOSE)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _add_verbose(below)


@click.group(cls=LazyGroup, params=[_VERBOSE])
@click.version_option(package_name="headrace", prog_name="headrace", message="%(prog)s %(version)s")
def cli() -> None:
    """Stream processing of order and user events on Kafka, exactly once.

    \b
    Examples:
      headrace demo --seconds 30
      headrace broker --port 9092 --data kafka-data
      headrace worker --help
    """


def main() -> NoReturn:
    """Run the command line of this process and exit with its status."""
    _open_what_is_closed()
    signal.signal(signal.SIGTERM, _raise_terminated)
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run `headrace` with these arguments; return its exit status. An error is a line on stderr.

    0: done. 1: failed. 2: called wrongly. 130 and 143: ended by SIGINT and SIGTERM (a command
    that runs until it is ended takes them itself, and returns 0).
    """
    verbose = "--verbose" in args
    try:
        outcome = cli.main(list(args), prog_name="headrace", standalone_mode=False)
    except click.Abort:  # click's word for SIGINT
        return EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except HeadraceError as error:
        return _failed(str(error), error, verbose=verbose)
    except Exception as error:  # noqa: BLE001 - the last place where it can be told
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            return _failed(f"cannot write the output: {error.strerror}", error, verbose=verbose)
        hint = "" if verbose else " (--verbose shows where)"
        return _failed(f"{type(error).__name__}: {error}{hint}", error, verbose=verbose)
    return outcome if isinstance(outcome, int) else 0


def _failed(line: str, error: Exception, *, verbose: bool) -> int:
    if verbose:
        traceback.print_exception(error)
    click.echo(f"headrace: {' '.join(line.split())}", err=True)
    return EXIT_FAILED


def _open_what_is_closed() -> None:
    """Let a standard stream that the caller closed (`<&-`, `>&-`) be empty, or lead nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # In this order each gets its own descriptor: the lowest free one.
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8"))


def _raise_terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that what is open is closed and what was started is ended."""
    sys.exit(EXIT_TERMINATED)
