"""How a signal ends the demo: once, whatever is going on, and with everything tidied up."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndedBySignal(BaseException):
    """The first signal that asked for the end: no error, and no handler of errors takes it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class EndSignals:
    """SIGINT, SIGTERM and SIGHUP: the first unwinds the program, all later ones are ignored.

    Outside `run` EndedBySignal is raised wherever the main thread is. asyncio's own handlers would
    reset the signals to their defaults when its loop closes, in the middle of the tidying up.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._unwind: Callable[[int], None] = _raise
        self._instead: Callable[[], object] | None = None
        self.interrupted = False
        """Whether a Ctrl-C did something else than to end everything at once."""

    def install(self) -> None:
        """Take the signals over, for the rest of the process."""
        for number in _NUMBERS:
            signal.signal(number, self._receive)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work in an event loop; a signal cancels it, and EndedBySignal is raised at its end.

        Once it returns or raises, signals are ignored: what is left is tidying up.
        """
        try:
            return asyncio.run(self._cancellable(work))
        except asyncio.CancelledError:
            if self._number is None:
                raise
            raise EndedBySignal(self._number) from None
        finally:
            self._unwind = _ignore

    @contextlib.contextmanager
    def interrupt_means(self, does: Callable[[], object]) -> Iterator[None]:
        """Meanwhile, the first SIGINT does this in the event loop; the next one is as any."""
        loop = asyncio.get_running_loop()
        self._instead = lambda: loop.call_soon_threadsafe(does)
        try:
            yield
        finally:
            self._instead = None

    async def _cancellable(self, work: Coroutine[Any, Any, T]) -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        self._unwind = lambda _number: _ignore(loop.call_soon_threadsafe(task.cancel))
        return await task

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        instead = self._instead
        if number == signal.SIGINT and instead is not None:
            self._instead = None
            self.interrupted = True
            instead()
        elif self._number is None:
            self._number = number
            self._unwind(number)


def _raise(number: int) -> None:
    raise EndedBySignal(number)


def _ignore(_: object) -> None:
    return
