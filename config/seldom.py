"""Log lines that repeat, told seldom and counted."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Hashable

_QUIET_S: Final = 10.0
# How lines about a record that a rule failed on begin; they end in the flow and the error.
_DEAD_LETTER: Final = "dead letter: "


class SeldomHandler(logging.StreamHandler[TextIO]):
    """Writes the first warning of a kind at once, and of those that follow one in ten seconds.

    That is the latest one, which tells in `repeated` for how many it stands. Of one kind are the dead
    letters of a flow, a library's lines of one template (aiokafka tells of a lost broker 100 times in
    ten seconds), and else lines of the same text. Closing writes what is held back.
    """

    def __init__(self, stream: TextIO, *, libraries: tuple[str, ...]) -> None:
        super().__init__(stream)
        self._libraries = libraries
        self._held: dict[Hashable, _Held] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line or hold it back; called with the handler's lock."""
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        kind = _kind(record, self._libraries)
        if kind in self._held:
            self._held[kind] = _Held(record, self._held[kind].lines + 1)
            return
        self._held[kind] = _Held()
        super().emit(record)
        if self._timer is None:
            self._start_timer()

    def close(self) -> None:
        """Write what is held back; end."""
        self.acquire()
        try:
            if self._timer is not None:
                self._timer.cancel()
            self._write_held()
        finally:
            self.release()
        super().close()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(_QUIET_S, self._time_is_over)
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # too late in the process's life; close() comes yet
            self._timer.start()

    def _time_is_over(self) -> None:
        self.acquire()
        try:
            self._timer = None
            self._write_held()
            if self._held:
                self._start_timer()
        finally:
            self.release()

    def _write_held(self) -> None:
        """Write the latest of each kind; one of which nothing came is forgotten."""
        before, self._held = self._held, {}
        for kind, held in before.items():
            if held.latest is not None:
                held.latest.repeated = held.lines
                super().emit(held.latest)
                self._held[kind] = _Held()


class _Held(NamedTuple):
    """What was held back of a kind since its last line."""

    latest: logging.LogRecord | None = None
    lines: int = 0


def _kind(record: logging.LogRecord, libraries: tuple[str, ...]) -> Hashable:
    """Return what lines have in common that are not worth one each."""
    template = str(record.msg)
    if template.startswith(_DEAD_LETTER) and isinstance(record.args, tuple) and record.args[1:]:
        return (_DEAD_LETTER, record.args[-2])
    if record.name.startswith(libraries):
        return (record.name, template)
    return (record.name, record.getMessage())
