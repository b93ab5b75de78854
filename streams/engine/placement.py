"""Which member owns which task, and which follow it: balanced, where the state lies (decisions 0004, 0017).

Pure: what members tell goes in, a placement comes out, the same for the same.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

Placement = dict[str, list[str]]
"""Tasks by member."""

# A copy that is behind the furthest by no more than this is as good as it: read in a tenth of a second.
# A standby even stands a few offsets above the owner: it reads the ends of transactions, too.
NEAR_RECORDS: Final = 10_000


def place(
    tasks: Sequence[str],
    stored: Mapping[str, Mapping[str, int]],
    owned: Mapping[str, Collection[str]] | None = None,
) -> Placement:
    """Return who owns what: at most one task more on any than on another, else where most of it is stored.

    `stored` tells, by member, how far each task on its disk is restored; `owned` which tasks it owned
    until now. Who owns a task keeps it, unless another has far more of it, or room is made for a task
    that would be restored from its beginning elsewhere.
    """
    return _Owners(len(tasks), stored, owned or {}).placed(tasks)


class _Owners:
    """Owners while tasks are placed."""

    def __init__(
        self,
        tasks: int,
        stored: Mapping[str, Mapping[str, int]],
        owned: Mapping[str, Collection[str]],
    ) -> None:
        self._stored = stored
        self._owned = owned
        self._members = sorted(stored)
        self._smallest, self._larger = divmod(tasks, len(stored))
        self._furthest: Counter[str] = Counter()
        for disk in stored.values():
            self._furthest |= Counter(disk)
        self._placed: Placement = {member: [] for member in self._members}

    def placed(self, tasks: Sequence[str]) -> Placement:
        """Place each task with the best of those that have it; what nobody has goes to whoever has least.

        First those that run somewhere, then the others; of both, those with few to choose from.
        """
        homeless = []
        for task in sorted(tasks, key=lambda t: (not self._runs(t), len(self._near(t)))):
            if self._near(task) and not any(map(self._has_room, self._near(task))):
                self._make_room_for(task)
            holders = [m for m in self._members if task in self._stored[m] and self._has_room(m)]
            if holders:
                best = max(holders, key=lambda m: self._worth(m, task))
                self._placed[best].append(task)
            else:
                homeless.append(task)
        for task in homeless:
            least = min(self._members, key=lambda m: len(self._placed[m]))
            self._placed[least].append(task)
        return self._placed

    def _has_room(self, member: str) -> bool:
        size = len(self._placed[member])
        full = sum(len(ids) > self._smallest for ids in self._placed.values())
        return size < self._smallest or (size == self._smallest and full < self._larger)

    def _near(self, task: str) -> list[str]:
        """Return the members whose copy is as good as any."""
        enough = self._furthest[task] - NEAR_RECORDS
        stored = self._stored
        return [m for m in self._members if task in stored[m] and stored[m][task] >= enough]

    def _runs(self, task: str) -> bool:
        return any(task in self._owned.get(member, ()) for member in self._near(task))

    def _worth(self, member: str, task: str) -> tuple[bool, bool, int]:
        is_owner = task in self._owned.get(member, ())
        return member in self._near(task), is_owner, self._stored[member][task]

    def _make_room_for(self, task: str) -> None:
        """Have a full member that is near let go of another task that somebody with room is near."""
        for member in self._near(task):
            for other in self._placed[member]:
                for heir in filter(self._has_room, self._near(other)):
                    self._placed[member].remove(other)
                    self._placed[heir].append(other)
                    return


def place_standbys(
    owners: Mapping[str, Sequence[str]],
    stored: Mapping[str, Mapping[str, int]],
    disks: Mapping[str, str],
    replicas: int,
) -> Placement:
    """Return who follows what: each task up to `replicas` times, each time on another disk.

    `disks` names, by member, the disk that it writes to; one without a name follows nothing, and is
    not followed: it may write to any of them, and would find its folder locked. A task is followed
    where it is stored already, as long as no member has to hold two tasks more, owned and followed
    ones together, than another that could follow one of them in its place.
    """
    return _Standbys(owners, stored, disks).placed(replicas)


class _Standbys:
    """Standbys while they are placed."""

    def __init__(
        self,
        owners: Mapping[str, Sequence[str]],
        stored: Mapping[str, Mapping[str, int]],
        disks: Mapping[str, str],
    ) -> None:
        self._owned = owners
        self._stored = stored
        self._disks = disks
        self._members = sorted(member for member in owners if disks.get(member))
        self._owner = {task: member for member in self._members for task in owners[member]}
        self._copies = Counter({member: len(ids) for member, ids in owners.items()})
        self._used = {task: {disks.get(member)} for task, member in self._owner.items()}
        self._together: Counter[tuple[str, str]] = Counter()
        """How many tasks of one member another follows: where they all go if the one dies."""
        self._placed: Placement = {member: [] for member in owners}

    def placed(self, replicas: int) -> Placement:
        """Place each task so often, then even it out."""
        for _ in range(replicas):
            homeless = []
            for task in sorted(self._owner):
                able = [m for m in self._members if self._may_follow(m, task)]
                holders = [m for m in able if task in self._stored[m]]
                if holders:
                    self._add(max(holders, key=lambda m: self._stored[m][task]), task)
                elif able:
                    homeless.append(task)
            for task in homeless:
                able = [m for m in self._members if self._may_follow(m, task)]
                self._add(min(able, key=lambda m: self._load(m, task)), task)
        while self._even_out():
            pass
        return self._placed

    def _may_follow(self, member: str, task: str) -> bool:
        return self._disks[member] not in self._used[task]

    def _load(self, member: str, task: str) -> tuple[int, int, int]:
        """Few copies first; then few of the same owner, and few of its own: it will have room."""
        together = self._together[member, self._owner[task]]
        return self._copies[member], together, len(self._owned[member])

    def _add(self, member: str, task: str, count: int = 1) -> None:
        self._copies[member] += count
        self._together[member, self._owner[task]] += count
        if count > 0:
            self._placed[member].append(task)
            self._used[task].add(self._disks[member])
        else:
            self._placed[member].remove(task)
            self._used[task].remove(self._disks[member])

    def _even_out(self) -> bool:
        """Move one standby from a member to another that has two tasks less; tell whether there was one."""
        by_load = sorted(self._members, key=lambda m: self._copies[m])
        for full in reversed(by_load):
            for spare in by_load:
                if self._copies[full] - self._copies[spare] <= 1:
                    break
                movable = [t for t in self._placed[full] if self._may_move(t, full, spare)]
                if movable:
                    at = self._stored[spare]
                    task = max(sorted(movable), key=lambda t: at.get(t, -1))
                    self._add(full, task, -1)
                    self._add(spare, task)
                    return True
        return False

    def _may_move(self, task: str, member: str, other: str) -> bool:
        used = self._used[task] - {self._disks[member]}
        return self._disks[other] not in used
