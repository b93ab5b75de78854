"""How fast the load is: a rate that may change, pauses, bursts, and an end that may come early."""

from collections.abc import Iterable

from demo.generator import TopicKeyValue


class Pace:
    """Tells how many records are due. Times are seconds since the load began.

    At a rate that never changes `rate * seconds` records have been due, whenever it was asked.
    """

    def __init__(self, rate: int) -> None:
        self.ended = False
        """Whether nothing more is to be sent."""
        self._rate = rate
        self._paused = False
        self._now_s = 0.0
        self._since_s = 0.0
        self._due_before = 0
        self._taken = 0
        self._burst: list[TopicKeyValue] = []

    @property
    def rate(self) -> int:
        """Records a second, while it is not paused."""
        return self._rate

    @property
    def paused(self) -> bool:
        """Whether nothing but bursts is sent."""
        return self._paused

    def change(self, *, rate: int | None = None, paused: bool | None = None) -> None:
        """Go on at another rate, stop for a while, or go on. What was due and not taken is given up."""
        self._due_before = self._taken
        self._since_s = self._now_s
        self._rate = self._rate if rate is None else rate
        self._paused = self._paused if paused is None else paused

    def end(self) -> None:
        """Let nothing more be sent."""
        self.ended = True

    def take_due(self, now_s: float, most: int) -> int:
        """Return how many records are to be sent now, at most so many; the rest is due next time."""
        self._now_s = now_s
        due = min(self._due(now_s) - self._taken, most)
        self._taken += due
        return due

    def add_burst(self, records: Iterable[TopicKeyValue]) -> None:
        """Have records sent beside those that are due."""
        self._burst.extend(records)

    def take_burst(self) -> list[TopicKeyValue]:
        """Return the records of bursts that were not taken yet."""
        taken, self._burst = self._burst, []
        return taken

    def _due(self, now_s: float) -> int:
        rate = 0 if self._paused else self._rate
        return self._due_before + int((now_s - self._since_s) * rate)
