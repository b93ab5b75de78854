"""Deletes what was processed of repartition topics: nobody else reads them, and they would only grow."""

import logging
from typing import Final

from streams.engine.beside import Beside
from streams.engine.cluster import Cluster
from streams.engine.config import EngineConfig
from streams.engine.records import TopicPartition
from streams.engine.task import Task
from streams.errors import HeadraceError

log: Final = logging.getLogger(__name__)


class Purging:
    """Deletes behind commits, each input seldom: a request for each commit would be as many again."""

    def __init__(self, cluster: Cluster, config: EngineConfig, beside: Beside) -> None:
        self._cluster = cluster
        self._interval_s = config.purge_interval_s
        self._beside = beside
        self._due_s: dict[str, float] = {}

    def committed(self, task: Task) -> None:
        """Delete what a task's commit has made superfluous, if it is time again."""
        topics = {topic.name for topic in task.subtopology.purged}
        processed = {
            tp: task.position.sources[tp.topic]
            for tp in task.inputs
            if tp.topic in topics and tp.topic in task.position.sources
        }
        now_s = task.clock.monotonic_s()
        if processed and now_s >= self._due_s.setdefault(task.id, now_s + self._interval_s):
            self._due_s[task.id] = now_s + self._interval_s
            self._beside.start(self._purge(task.id, processed), f"purge {task.id}")

    async def _purge(self, task_id: str, processed: dict[TopicPartition, int]) -> None:
        try:
            await self._cluster.delete_before(processed)
        except HeadraceError as error:  # it costs room, nothing else: the next commit tries again
            log.warning("%s: what is processed of its repartition topics stays: %s", task_id, error)
