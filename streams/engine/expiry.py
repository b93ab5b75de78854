"""Which stored rows of a windowed table are to be removed, and which the store need not be asked for."""

from collections.abc import Sequence
from typing import Any, Final

from streams.engine.definitions import WindowedTable, WindowKey
from streams.engine.store import Store

# Rows that one commit removes because their windows are gone, at most: after a silence of days a
# single event ends millions of windows, more than a transaction should hold.
EXPIRED_AT_ONCE: Final = 50_000
_NEVER_MS: Final = 1 << 63


class Expiry:
    """Sweeps one partition's gone windows out of the store, by the time index, a bounded part a commit."""

    __slots__ = ("_seen_from_ms", "_store", "_swept_ms", "_table", "has_expired")

    def __init__(self, table: WindowedTable[Any], store: Store) -> None:
        self._table = table
        self._store = store
        self.has_expired = False
        """Whether rows of gone windows are still to be removed: more than one commit takes."""
        self._swept_ms = 0
        """The stored rows of windows that began before this are removed."""
        self._seen_from_ms = _NEVER_MS
        """Of windows that begin here or later all rows are known: none of them was there before.

        Most look-ups that find nothing are the first of a key in a new window: the store, asked for
        them, took a twentieth of all time.
        """

    def begin_at(self, stream_time_ms: int) -> None:
        """Go on from a committed stream time; nothing may be open."""
        gone_ms = self._table.windows.gone_ms(stream_time_ms)
        # What the commits before did not come to; nobody may ever send a record that brings the next.
        self.has_expired = bool(self._store.begun(self._table.name, 0, gone_ms, 1))
        self._swept_ms = 0
        # Asked, not concluded from stream time: without transactions rows may be ahead of it.
        last_ms = self._store.last_begun(self._table.name)
        self._seen_from_ms = 0 if last_ms is None else last_ms + 1

    def sweep(self, stream_time_ms: int, in_memory: Sequence[bytes] | None = None) -> list[bytes]:
        """Return the keys, as stored, of the rows that this commit is to remove.

        `in_memory` are those of all stored rows of gone windows that were known until now.
        """
        windows = self._table.windows
        gone_ms = windows.gone_ms(stream_time_ms)
        if windows.start_ms(gone_ms) < self._swept_ms:
            return []
        if in_memory is not None and self._has_all_of(in_memory):  # the store need not be asked
            self._swept_ms = gone_ms + 1
            return list(in_memory)
        found = self._store.begun(self._table.name, self._swept_ms, gone_ms, EXPIRED_AT_ONCE)
        self.has_expired = len(found) == EXPIRED_AT_ONCE
        if not self.has_expired:
            self._swept_ms = gone_ms + 1
        elif found:
            self._swept_ms = self._table.key_of(found[-1])[1]
        return [text.encode() for text in found]

    def _has_all_of(self, in_memory: Sequence[bytes]) -> bool:
        """Tell whether these are all rows that are to be removed, and not too many for a commit."""
        is_whole = not self.has_expired and self.is_window_known(self._swept_ms)
        return is_whole and len(in_memory) < EXPIRED_AT_ONCE

    def is_known(self, key: WindowKey) -> bool:
        """Tell whether the store has nothing of a key's window that is not known."""
        return key[1] >= self._seen_from_ms

    def is_window_known(self, start_ms: int) -> bool:
        """Tell whether the store has nothing of a window, and those that begin later, that is not known."""
        return start_ms >= self._seen_from_ms

    def forgotten(self, keys: Sequence[WindowKey]) -> None:
        """Take note that rows are in the store alone."""
        last_ms = max(start_ms for _, start_ms in keys)
        self._seen_from_ms = max(self._seen_from_ms, last_ms + 1)

    def reset(self) -> None:
        """Know of no window any more that its rows are known."""
        self._seen_from_ms = _NEVER_MS
