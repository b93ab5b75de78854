"""The one module that reads a clock (law 6); the engine gets a Clock, rules and operators never do."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells the time to the engine."""

    def wall_ms(self) -> int:
        """Return milliseconds since 1970 UTC."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back, from some start."""


class SystemClock:
    """The machine's clock."""

    def wall_ms(self) -> int:
        """Return milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never go back, from some start."""
        return time.monotonic()
