"""What the group's members tell its leader, and what the leader decides: whole tasks (decision 0004)."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from streams.engine.cluster import Assignment, Member, Owner
from streams.engine.errors import StoreError, StoreFormatError
from streams.engine.layout import Subtopology
from streams.engine.placement import place, place_standbys
from streams.engine.store import GLOBAL_FOLDER, Store

log = logging.getLogger(__name__)


class TaskGrouping:
    """Assigns whole tasks: all inputs of a subtopology's partition go to one member."""

    def __init__(
        self,
        subtopologies: Sequence[Subtopology],
        partitions: int,
        tell: Callable[[], Member],
        standby_replicas: int = 0,
    ) -> None:
        """`tell` returns what this member tells; `standby_replicas` counts where it is the leader."""
        self._subtopologies = subtopologies
        self._partitions = partitions
        self._tell = tell
        self._standby_replicas = standby_replicas
        self.owners: Sequence[Owner] = ()
        """Who owns what, as the leader told last."""
        self.standbys: Sequence[str] = ()
        """The tasks that this member follows, as the leader told last."""

    def describe(self) -> Member:
        """Return what this member tells the leader."""
        return self._tell()

    def has_other_address(self, web: str, task_ids: Collection[str]) -> bool:
        """Tell whether the others would ask elsewhere than at `web` for these tasks of this member.

        A static member that is back in time gets its assignment as it was; nobody else hears of it.
        """
        told = {owner.web for owner in self.owners if set(owner.tasks) & set(task_ids)}
        return bool(told - {"", web})

    def assign(self, members: Mapping[str, Member]) -> Assignment:
        """Decide for all, as the group's leader."""
        tasks = {
            subtopology.task_id(partition): subtopology.partitions(partition)
            for partition in range(self._partitions)
            for subtopology in self._subtopologies
        }
        stored = {name: member.tasks for name, member in members.items()}
        owned = {name: member.owned for name, member in members.items()}
        disks = {name: member.disk for name, member in members.items()}
        placed = place(list(tasks), stored, owned)
        standbys = place_standbys(placed, stored, disks, self._standby_replicas)
        self._say_what_is_missing(len(tasks), sum(map(len, standbys.values())), len(members))
        return Assignment(
            {name: [tp for task in ids for tp in tasks[task]] for name, ids in placed.items()},
            [Owner(members[name].web, ids) for name, ids in placed.items()],
            standbys,
        )

    def _say_what_is_missing(self, tasks: int, standbys: int, members: int) -> None:
        wanted = tasks * min(self._standby_replicas, members - 1)
        if standbys < wanted:
            log.warning(
                "%d of %d standbys have no place: workers with one HEADRACE_DATA_DIR, or without "
                "HEADRACE_STANDBY_REPLICAS, do not follow each other",
                wanted - standbys,
                wanted,
            )

    def hear(self, owners: Sequence[Owner], standbys: Sequence[str] = ()) -> None:
        """Hear who owns what and what to follow, before the listener hears of its own partitions."""
        self.owners = owners
        self.standbys = standbys


def stored_tasks(folder: Path) -> dict[str, int]:
    """Return how far each task in an application's folder is: the sum of its changelog offsets.

    A hint only: a store that cannot be read is left out, and its task is merely placed elsewhere.
    Raises StoreFormatError for one of a newer release: before anything is taken, or written.
    """
    stored = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name == GLOBAL_FOLDER:
            continue
        try:
            store = Store(path, read_only=True)
            try:
                position = store.position()
            finally:
                store.close()
        except StoreFormatError:
            raise
        except StoreError:
            continue
        if position is not None:
            stored[path.name] = sum(position.changelogs.values())
    return stored
