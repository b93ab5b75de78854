"""How often to commit: as often as asked, unless that costs work that is waiting."""

from collections.abc import Iterable
from typing import Final

from streams.engine.clock import Clock
from streams.engine.config import EngineConfig
from streams.engine.task import Task

# 32 tasks at 100 ms each cost a third of a core, 4 cost 6 %: at most 100 commits a second a worker.
_COMMITS_A_SECOND: Final = 100
_BEHIND_S: Final = 1.0
_MEASURED_S: Final = 0.1
# Records a second, until the first were measured: a slow machine's.
_FIRST_GUESS: Final = 50_000.0
_LONGEST_FETCH_S: Final = 0.2


class Pace:
    """Knows how fast this worker works, and from that how far apart commits should be."""

    def __init__(self, config: EngineConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._busy_s = 0.0
        self._records = 0
        self._rate = _FIRST_GUESS

    def processed(self, records: int, took_s: float) -> None:
        """Count processed records; the rate is that of the last tenth of a second spent on them."""
        self._records += records
        self._busy_s += took_s
        if self._busy_s >= _MEASURED_S:
            self._rate = self._records / self._busy_s
            self._busy_s, self._records = 0.0, 0

    def interval_s(self, backlog: int, tasks: int) -> float:
        """Return the time between two commits of a task, with `backlog` records waiting.

        More than a second behind, the interval stretches: more changes of a key become one changelog
        record, and nobody sees a difference, for the backlog is the latency.
        """
        interval_s = max(self._config.commit_interval_ms / 1000, tasks / _COMMITS_A_SECOND)
        if backlog > _BEHIND_S * self._rate:
            return max(interval_s, self._config.max_stretched_interval_ms / 1000)
        return interval_s

    def first_due_s(self, partition: int, tasks: int) -> float:
        """Return when a task that has just been taken commits first: tasks are spread over the interval."""
        interval_s = self._config.commit_interval_ms / 1000
        share = partition % max(tasks, 1) / max(tasks, 1)
        return self._clock.monotonic_s() + interval_s * (1 + share) / 2

    def fetch_timeout_s(self, tasks: Iterable[Task]) -> float:
        """Return how long a fetch may wait: until the next commit is due."""
        due_s = [
            task.commit_due_s for task in tasks if task.has_to_commit() and task.commit is None
        ]
        if not due_s:
            return _LONGEST_FETCH_S
        return min(max(min(due_s) - self._clock.monotonic_s(), 0.001), _LONGEST_FETCH_S)
