"""Which events of `orders` the group `deduplication` passes on: docs/contract.md again."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from demo.oracle.outcome import DeadLetter, diff_letters
from demo.oracle.records import ORDERS, Source, judge
from demo.oracle.windows_outcome import Late, diff_late

HOUR_MS = 3_600_000
LATE_AFTER_MS = HOUR_MS + 300_000

KeyValue: TypeAlias = tuple[bytes | None, bytes | None]


@dataclass
class Deduplicated:
    """What came of `orders`. `passed` is key and value of what was passed on, by partition."""

    passed: dict[int, list[KeyValue]] = field(default_factory=dict)
    late: list[Late] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    left_out: int = 0
    """How many repeat one that was passed on. No topic tells of them: it is not compared."""


def expect_deduplicated(
    records: Mapping[int, Iterable[Source]], max_ahead_ms: int = HOUR_MS
) -> Deduplicated:
    """Return what must come of the records of `orders`, by partition."""
    outcome = Deduplicated()
    for partition, sources in sorted(records.items()):
        _pass_on(partition, sources, max_ahead_ms, outcome)
    return outcome


def _pass_on(
    partition: int, sources: Iterable[Source], max_ahead_ms: int, outcome: Deduplicated
) -> None:
    passed = outcome.passed.setdefault(partition, [])
    times_ms: dict[tuple[str, str], list[int]] = {}
    now_ms = 0
    for source in sources:
        event = judge(ORDERS, source, max_ahead_ms)
        if event is None:
            outcome.skipped[ORDERS] += 1
            continue
        if isinstance(event, str):
            outcome.dead_letters.append(DeadLetter(ORDERS, partition, source.offset, event))
            continue
        time_ms = event["timestamp"]
        now_ms = max(now_ms, time_ms)
        if (late_ms := now_ms - time_ms - LATE_AFTER_MS) > 0:
            window = f"{time_ms - HOUR_MS}-{time_ms + HOUR_MS + 1}"
            where = ORDERS, partition, source.offset
            outcome.late.append(Late("orders_deduplicated", window, *where, late_ms, late_ms))
            continue
        of_id = times_ms.setdefault((event["data"]["user_id"], event["event_id"]), [])
        if any(abs(time_ms - other_ms) <= HOUR_MS for other_ms in of_id):
            outcome.left_out += 1
        else:
            of_id.append(time_ms)
            passed.append((source.key, source.value))


def diff_deduplicated(expected: Deduplicated, actual: Deduplicated) -> list[str]:
    """Return a line for each difference, none where the two agree: byte by byte, and in the same order."""
    lines: list[str] = []
    for partition in sorted({*expected.passed, *actual.passed}):
        wanted, found = expected.passed.get(partition, []), actual.passed.get(partition, [])
        lines += _diff_passed(f"orders-deduplicated[{partition}]", wanted, found)
    lines += diff_late(expected.late, actual.late)
    return lines + diff_letters(expected.dead_letters, actual.dead_letters)


def _diff_passed(where: str, expected: list[KeyValue], actual: list[KeyValue]) -> list[str]:
    wanted, found = Counter(expected), Counter(actual)
    lines = [f"{where}: missing {value!r}" for _, value in (wanted - found).elements()]
    lines += [f"{where}: not expected {value!r}" for _, value in (found - wanted).elements()]
    if not lines and expected != actual:
        at = next(
            n for n, both in enumerate(zip(expected, actual, strict=True)) if both[0] != both[1]
        )
        lines.append(f"{where} #{at}: in another order than in orders: {actual[at][1]!r}")
    return lines
