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
    until now. Who owns a task keeps it, unless another has far more of it.
    """
    members = sorted(stored)
    owned = owned or {}
    smallest, larger = divmod(len(tasks), len(members))
    placed: Placement = {member: [] for member in members}
    furthest: Counter[str] = Counter()
    for disk in stored.values():
        furthest |= Counter(disk)

    def has_room(member: str) -> bool:
        full = sum(len(ids) > smallest for ids in placed.values())
        return len(placed[member]) < smallest or (len(placed[member]) == smallest and full < larger)

    def is_near(member: str, task: str) -> bool:
        return stored[member].get(task, -1) >= furthest[task] - NEAR_RECORDS

    def is_owner(member: str, task: str) -> bool:
        return is_near(member, task) and task in owned.get(member, ())

    def difficulty(task: str) -> tuple[bool, int]:
        """First those that run somewhere, then the others; of both, those with few to choose from."""
        near = [m for m in members if task in stored[m] and is_near(m, task)]
        return not any(is_owner(m, task) for m in near), len(near)

    homeless = []
    for task in sorted(tasks, key=difficulty):
        holders = [m for m in members if task in stored[m] and has_room(m)]
        if holders:
            best = max(
                holders, key=lambda m: (is_near(m, task), is_owner(m, task), stored[m][task])
            )
            placed[best].append(task)
        else:
            homeless.append(task)
    for task in homeless:
        placed[min(members, key=lambda m: len(placed[m]))].append(task)
    return placed


def place_standbys(
    owners: Mapping[str, Sequence[str]],
    stored: Mapping[str, Mapping[str, int]],
    disks: Mapping[str, str],
    replicas: int,
) -> Placement:
    """Return who follows what: each task up to `replicas` times, each time on another disk.

    `disks` names, by member, the disk that it writes to; one without a name follows nothing. A task
    is followed where it is stored already, as long as no member has to hold two tasks more, owned
    and followed ones together, than another that could follow one of them in its place.
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
        self._stored = stored
        self._disks = disks
        self._members = sorted(member for member in owners if disks.get(member))
        self._owner = {task: member for member, ids in owners.items() for task in ids}
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

    def _load(self, member: str, task: str) -> tuple[int, int]:
        return self._copies[member], self._together[member, self._owner[task]]

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
