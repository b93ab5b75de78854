"""Which tasks' state lies on this worker's disk, and how far it is: what the group's leader is told."""

from collections.abc import Collection, Mapping

from streams.engine.assignor import stored_tasks
from streams.engine.cluster import Member
from streams.engine.config import EngineConfig
from streams.engine.errors import StoreError
from streams.engine.following import Standbys
from streams.engine.standby import disk_name
from streams.engine.store import Store
from streams.engine.task import Task


class Copies:
    """The stores on disk that are not owned here: those that are followed, and those that just lie there."""

    def __init__(self, config: EngineConfig, standbys: Standbys) -> None:
        self._config = config
        self._folder = config.data_dir / config.application_id
        self._standbys = standbys
        self._disk = ""
        self._stored: dict[str, int] = {}

    def look(self) -> None:
        """Look at what the disk has. Raises StoreError where it has to have a name and can have none."""
        self._stored = stored_tasks(self._folder)
        if self._config.standby_replicas:
            self._disk = disk_name(self._config.data_dir)

    def tell(self, tasks: Mapping[str, Task]) -> Member:
        """Return what the leader is told by the owner of `tasks`."""
        lying = {task_id: at for task_id, at in self._stored.items() if self._is_there(task_id)}
        owned = {task_id: self._reached(task) for task_id, task in tasks.items()}
        stored = lying | self._standbys.reached() | owned
        return Member(stored, self._config.web_address, list(owned), self._disk)

    def let_go(self, task: Task, followed: Collection[str]) -> None:
        """Close a task that somebody else owns now; its store stays open where it is followed."""
        self._stored[task.id] = self._reached(task)
        if task.id in followed:
            self._standbys.keep(task.id, task.give_store())
        task.close()

    def release(self, task_id: str) -> Store | None:
        """Return the open store of a task that is owned from now on; None where it is not followed."""
        self._stored |= self._standbys.reached()
        return self._standbys.release(task_id)

    def follow(self, task_ids: Collection[str]) -> None:
        """Follow these and no others."""
        self._stored |= self._standbys.reached()
        self._standbys.follow(task_ids)

    def _reached(self, task: Task) -> int:
        """Return how far an owned task's disk is: what is rebuilt counts from its new beginning."""
        if task.store is None:  # not opened yet, or thrown away
            return self._stored.get(task.id, 0) if self._is_there(task.id) else 0
        try:
            position = task.store.position()
        except StoreError:  # whoever works with it hears of that, and rebuilds it
            return 0
        return 0 if position is None else sum(position.changelogs.values())

    def _is_there(self, task_id: str) -> bool:
        return (self._folder / task_id).exists()
