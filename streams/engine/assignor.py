"""Which member gets which task: whole tasks, balanced, where the state lies (decision 0004)."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from streams.engine.cluster import Assignment, Member, Owner
from streams.engine.errors import StoreError, StoreFormatError
from streams.engine.layout import Subtopology
from streams.engine.store import Store


class TaskGrouping:
    """Assigns whole tasks: all inputs of a subtopology's partition go to one member."""

    def __init__(
        self,
        subtopologies: Sequence[Subtopology],
        partitions: int,
        stored: Callable[[], Mapping[str, int]],
        web_address: str,
    ) -> None:
        self._subtopologies = subtopologies
        self._partitions = partitions
        self._stored = stored
        self._web_address = web_address
        self.owners: Sequence[Owner] = ()
        """Who owns what, as the leader told last."""

    def describe(self) -> Member:
        """Return what this member tells the leader."""
        return Member(self._stored(), self._web_address)

    def assign(self, members: Mapping[str, Member]) -> Assignment:
        """Decide for all, as the group's leader."""
        tasks = {
            subtopology.task_id(partition): subtopology.partitions(partition)
            for partition in range(self._partitions)
            for subtopology in self._subtopologies
        }
        placed = place(list(tasks), {name: member.tasks for name, member in members.items()})
        return Assignment(
            {name: [tp for task in ids for tp in tasks[task]] for name, ids in placed.items()},
            [Owner(members[name].web, ids) for name, ids in placed.items()],
        )

    def hear(self, owners: Sequence[Owner]) -> None:
        """Hear who owns what, before the listener hears of its own partitions."""
        self.owners = owners


def place(tasks: Sequence[str], stored: Mapping[str, Mapping[str, int]]) -> dict[str, list[str]]:
    """Return tasks by member: at most one more on any than on another, else where most of it is stored.

    `stored` tells, by member, how far each task on its disk is restored.
    """
    members = sorted(stored)
    smallest, larger = divmod(len(tasks), len(members))
    placed: dict[str, list[str]] = {member: [] for member in members}

    def has_room(member: str) -> bool:
        full = sum(len(ids) > smallest for ids in placed.values())
        return len(placed[member]) < smallest or (len(placed[member]) == smallest and full < larger)

    homeless = []
    for task in tasks:
        holders = [m for m in members if task in stored[m] and has_room(m)]
        if holders:
            placed[max(holders, key=lambda m: stored[m][task])].append(task)
        else:
            homeless.append(task)
    for task in homeless:
        placed[min(members, key=lambda m: len(placed[m]))].append(task)
    return placed


def stored_tasks(folder: Path) -> dict[str, int]:
    """Return how far each task in an application's folder is: the sum of its changelog offsets.

    A hint only: a store that cannot be read is left out, and its task is merely placed elsewhere.
    Raises StoreFormatError for one of a newer release: before anything is taken, or written.
    """
    stored = {}
    for path in folder.iterdir() if folder.is_dir() else ():
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
