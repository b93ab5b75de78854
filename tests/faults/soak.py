"""Hours at half load with a kill -9 each 30 s: does anything grow that should not, is all of it exact?

    python -m tests.faults.soak --minutes 60

No test: it takes as long as it is told. Three workers share the load; two of them are killed in turn,
the third sees all those rebalances and is never killed. That one is looked at before each kill, and
each victim before its own, so that its figures are those of lives of equal length.
In the end everything is held against the oracle, a partition at a time, so that memory suffices.
"""

import asyncio
import json
import os
import re
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any, Final, NamedTuple

import click

from streams.broker import EmbeddedKafka
from tests.faults.trial import Trial
from tests.faults.workers import WorkerProcess
from tests.scraped import Scraped

# Few users: the rows of their minutes are what may grow, and 24 h of them are kept.
_USERS: Final = 500
_MEASURED_RECORDS: Final = 150_000
_MB: Final = 1 << 20
_SHOWN_DIFFERENCES: Final = 20


class Sample(NamedTuple):
    """What one worker takes at one moment."""

    rss_mb: float
    """But for RocksDB's memory: that fills for longer than an hour, up to its limit."""
    rocksdb_memory_mb: float
    file_descriptors: int
    threads: int
    rocksdb_files: int
    rocksdb_mb: float


SLACK: Final = Sample(
    rss_mb=24,
    rocksdb_memory_mb=128,  # its limits, both together
    file_descriptors=16,
    threads=3,
    rocksdb_files=40,
    rocksdb_mb=32,
)
"""How much each may grow over the second half whatever its mean: caches fill, compactions lag."""
_GROWTH_SHARE: Final = 0.1


class Verdict(NamedTuple):
    """How a figure of a worker went on over the second half."""

    worker: str
    figure: str
    mean: float
    growth: float
    """The slope of its least-squares line over that half, times the half's length."""
    allowed: float

    @property
    def is_flat(self) -> bool:
        """Tell whether it grew by no more than a tenth of its mean, or its slack."""
        return self.growth <= self.allowed


def look(worker: WorkerProcess) -> Sample:
    """Return what a running worker takes now."""
    process = Path(f"/proc/{worker.process.pid}")
    status = (process / "status").read_text()
    files = [size for path in worker.state.rglob("*") if (size := _size(path)) is not None]
    with urllib.request.urlopen(f"http://{worker.web_address()}/metrics", timeout=30) as answer:
        rocksdb_mb = Scraped(answer.read().decode()).of("headrace_store_memory_bytes") / _MB
    return Sample(
        rss_mb=round(_number("VmRSS", status) / 1024 - rocksdb_mb, 1),
        rocksdb_memory_mb=round(rocksdb_mb, 1),
        file_descriptors=len(list((process / "fd").iterdir())),
        threads=_number("Threads", status),
        rocksdb_files=len(files),
        rocksdb_mb=round(sum(files) / _MB, 2),
    )


def _size(path: Path) -> int | None:
    """Return a file's size; None for a folder, or a file that RocksDB has just deleted."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _number(name: str, status: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found, name
    return int(found[1])


def judge(worker: str, samples: Sequence[Sample]) -> list[Verdict]:
    """Return a verdict on each figure of a worker, from the second half of its samples."""
    half = samples[len(samples) // 2 :]
    verdicts = []
    for figure, slack in SLACK._asdict().items():
        values = [float(getattr(sample, figure)) for sample in half]
        slope = linear_regression(range(len(values)), values).slope
        growth, mean = slope * (len(values) - 1), fmean(values)
        verdicts.append(Verdict(worker, figure, mean, growth, max(_GROWTH_SHARE * mean, slack)))
    return verdicts


async def highest_rate(trial: Trial) -> float:
    """Return how many records a second the workers make when they lag behind."""
    await trial.produce(_MEASURED_RECORDS)
    await trial.done(0.1)
    began_s, begun = time.monotonic(), await trial.progress()
    await trial.done()
    assert begun is not None
    return (begun.end - begun.committed) / (time.monotonic() - began_s)


async def soak(
    trial: Trial, minutes: float, rate: int, kill_each_s: float
) -> dict[str, list[Sample]]:
    """Keep the workers under load, and kill two of them in turn; return each one's samples."""
    samples: dict[str, list[Sample]] = {worker.folder.name: [] for worker in trial.workers}
    elder, *mortals = trial.workers
    victims = cycle(mortals)
    until_s = time.monotonic() + minutes * 60
    async with trial.load(rate):
        while time.monotonic() < until_s:
            await asyncio.sleep(kill_each_s)
            victim, at = next(victims), await trial.progress()
            for worker in (elder, victim):
                assert worker.is_alive(), f"{worker.folder.name} ended:\n{worker.said()[-2_000:]}"
                samples[worker.folder.name].append(await asyncio.to_thread(look, worker))
            lag = "unknown" if at is None else f"{at.end - at.committed:,}"
            _say(f"{_told(samples)}, lag {lag}: kill -9 of {victim.folder.name}")
            in_midst = at is not None and at.committed < at.end
            trial.faults["kill -9 in mid-work" if in_midst else "kill -9 while idle"] += 1
            victim.kill()
            victim.start()
    return samples


def _told(samples: dict[str, list[Sample]]) -> str:
    return " ".join(f"{name} {of[-1].rss_mb:.0f} MB" for name, of in samples.items() if of)


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}")


async def _run(
    folder: Path,
    *,
    seed: int,
    minutes: float,
    rate: int,
    kill_each_s: float,
    at_most: int,
    partitions: int,
) -> dict[str, Any]:
    with EmbeddedKafka(folder / "kafka") as kafka:
        trial = Trial(folder, kafka, seed, partitions=partitions, users=_USERS, look_on=False)
        async with trial:
            trial.start_workers(3)
            highest = await highest_rate(trial)
            rate = rate or min(at_most, round(highest / 2))
            _say(f"at most {highest:,.0f} records a second; from now on {rate:,}")
            samples = await soak(trial, minutes, rate, kill_each_s)
            _say("the load ends; everything is read back")
            await trial.done(deadline_s=600)
            for worker in trial.workers:
                await worker.says("worker starts")  # SIGTERM before that ends it with 143
            statuses = [worker.end() for worker in trial.workers]
            differences = [
                line for n in range(partitions) for line in await trial.check_partition(n)
            ]
    verdicts = [v for name, of in samples.items() for v in judge(name, of)]
    return {
        "seed": seed,
        "minutes": minutes,
        "cores": os.cpu_count(),
        "highest_records_per_s": round(highest),
        "records_per_s": rate,
        "records": trial.records,
        "faults": dict(trial.faults),
        "exit_statuses": statuses,
        "differences": differences,
        "verdicts": [{**v._asdict(), "is_flat": v.is_flat} for v in verdicts],
        "samples": {name: [s._asdict() for s in of] for name, of in samples.items()},
    }


def table(verdicts: Iterable[dict[str, Any]]) -> str:
    """Return the verdicts as a table."""
    lines = [f"{'worker':10} {'figure':17} {'mean':>9} {'growth':>9} {'allowed':>9}"]
    for v in verdicts:
        flat = "flat" if v["is_flat"] else "GROWS"
        lines.append(
            f"{v['worker']:10} {v['figure']:17} {v['mean']:9.1f} {v['growth']:+9.1f} "
            f"{v['allowed']:9.1f} {flat}"
        )
    return "\n".join(lines)


@click.command()
@click.option("--minutes", default=60.0, show_default=True, help="How long the load lasts.")
@click.option("--rate", default=0, help="Records a second; else half of what is measured.")
@click.option("--at-most", default=5_000, show_default=True, help="Where half of it is more.")
@click.option("--kill-each", default=30.0, show_default=True, help="Seconds between two kills.")
@click.option(
    "--partitions", default=16, show_default=True, help="One of them at a time is read back."
)
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), default=Path("build/soak.json"))
def main(  # noqa: PLR0917 - one parameter an option
    minutes: float,
    rate: int,
    at_most: int,
    kill_each: float,
    partitions: int,
    seed: int,
    file: Path,
) -> None:
    """Soak three workers; status 0: everything is exact, and nothing grows."""
    if minutes * 60 < 12 * kill_each:
        msg = "too short: a slope needs three kills of each victim in the second half"
        raise click.UsageError(msg)
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        report = asyncio.run(
            _run(
                Path(folder), seed=seed, minutes=minutes, rate=rate, kill_each_s=kill_each,
                at_most=at_most, partitions=partitions,
            )
        )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=1), encoding="utf-8")
    click.echo(table(report["verdicts"]))
    click.echo(f"{report['records']:,} records, {report['faults']}")
    for line in report["differences"][:_SHOWN_DIFFERENCES]:
        click.echo(f"differs: {line}")
    is_exact = not report["differences"] and not any(report["exit_statuses"])
    is_flat = all(v["is_flat"] for v in report["verdicts"])
    click.echo(f"{'exact' if is_exact else 'NOT EXACT'}, {'flat' if is_flat else 'NOT FLAT'}")
    sys.exit(0 if is_exact and is_flat else 1)


if __name__ == "__main__":
    main()
