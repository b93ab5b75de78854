"""Reads of committed rows, while the loop works: what a task's disk holds, and from which offsets.

A row is on disk once the transaction that brought it has ended (law 3); what batches have changed
since is not looked at.
"""

import logging
from collections.abc import Generator
from contextlib import closing
from typing import Final, TypeAlias, cast

from streams.engine.errors import StoreError
from streams.engine.store import Store
from streams.engine.task import State, Task

log = logging.getLogger(__name__)
Rows: TypeAlias = Generator[tuple[str, bytes], None, None]

# About a millisecond of walking: what a batch may have to wait.
_CHUNK_ROWS: Final = 500
_CHUNK_BYTES: Final = 1 << 20
_WHY: Final = {
    "taking": "is being taken",
    "restoring": "is restoring its state",
    "suspended": "is being handed over or taken anew",
}


class NotReadableError(Exception):
    """A task cannot be read now. `str()` is why, to be read behind the task's name."""


def state_of(task: Task) -> str:
    """Return `running`, `taking`, `restoring` (a part of taking: its state is rebuilt) or `suspended`."""
    if task.state is State.TAKING and task.store is not None and _is_half_restored(task.store):
        return "restoring"
    return task.state.name.lower()


def read_row(task: Task, table: str, key: str) -> bytes | None:
    """Return a row as it was committed, None where there is none. Raises NotReadableError."""
    store = _readable(task)
    try:
        return store.get(table, key)
    except StoreError as error:
        raise _unreadable(error) from error


def read_rows(task: Task, table: str, prefix: str, after: str | None) -> list[tuple[str, bytes]]:
    """Return the first committed rows whose key begins with `prefix` and is above `after`.

    In the order of the keys' UTF-8; as many as are read in about a millisecond, none at the end.
    Raises NotReadableError. Nothing is held open between two calls: an iterator of RocksDB would
    keep the folder locked for the task's next owner.
    """
    store = _readable(task)
    found: list[tuple[str, bytes]] = []
    size = 0
    try:
        # Closed at once, whoever else holds it: see above.
        with closing(cast("Rows", store.scan(table, prefix, after or ""))) as rows:
            for key, value in rows:
                if key == "" == after:  # to the store, no key is below an empty one
                    continue
                found.append((key, value))
                size += len(value)
                if len(found) == _CHUNK_ROWS or size > _CHUNK_BYTES:
                    break
    except StoreError as error:
        raise _unreadable(error) from error
    return found


def _is_half_restored(store: Store) -> bool:
    try:
        position = store.position()
    except StoreError:
        return False
    return position is None or not position.sources


def _readable(task: Task) -> Store:
    if task.state is State.RUNNING and task.store is not None:
        return task.store
    raise NotReadableError(_WHY.get(state_of(task), _WHY["suspended"]))


def _unreadable(error: StoreError) -> NotReadableError:
    log.warning("read: %s", error)
    return NotReadableError("has a store that cannot be read")
