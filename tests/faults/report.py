"""What the trials of a run went through, as a table: `python -m tests.faults.report FILE`.

The file has a line a trial, as JSON: `test`, `seed`, `faults` (how often each was provoked), `records`
that were compared with the oracle, and `error`, null where everything was equal.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def table(trials: Iterable[Mapping[str, Any]]) -> str:
    """Return a Markdown table of faults, and the sums under it."""
    provoked: Counter[str] = Counter()
    seeds: dict[str, set[int]] = defaultdict(set)
    records: Counter[str] = Counter()
    failed: list[str] = []
    compared = count = 0
    for trial in trials:
        count += 1
        compared += trial["records"]
        if trial["error"] is not None:
            failed.append(f"{trial['test']}, seed {trial['seed']}: {trial['error']}")
        for fault, times in trial["faults"].items():
            provoked[fault] += times
            seeds[fault].add(trial["seed"])
            records[fault] += trial["records"]
    lines = ["| fault | provoked | seeds | records compared |", "|---|---:|---:|---:|"]
    lines += [
        f"| {fault} | {provoked[fault]:,} | {len(seeds[fault])} | {records[fault]:,} |"
        for fault in sorted(provoked)
    ]
    sums = (
        f"{count} trials, {provoked.total():,} faults, {compared:,} input records; "
        f"trials in which anything was lost, doubled or otherwise different: {len(failed)}."
    )
    return "\n".join([*lines, "", sums, *(f"- {line}" for line in failed)])


if __name__ == "__main__":
    told = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    print(table(map(json.loads, told)))  # noqa: T201 - this is what it is for
