"""What the parts share of tables that stream time closes something of: timed ones, and those of panes."""

from streams.operators.timed import Late


class ClosedByStreamTime:
    """Stream time of a part's accepted batches, and what the running one found to be late."""

    stream_time_ms: int
    """The highest event time of the accepted batches of the flow's inputs; 0 before the first event."""
    _heard_ms: int
    """The highest event time itself: without what the clock has added to it."""
    has_due: bool
    """Whether something may be due that was not closed yet."""
    late_events: list[Late]
    """What the running batch's rule found to be late, once a window."""

    def is_late(self, late: Late) -> None:
        """Take note of an event that was not used."""
        self.late_events.append(late)

    @property
    def late(self) -> int:
        """How many events of the running batch were late for some window."""
        return len({id(late.event) for late in self.late_events})

    def reached(self, time_ms: int) -> None:
        """Say that an event of the flow's inputs had this time."""
        self._heard_ms = max(self._heard_ms, time_ms)
        self.stream_time_ms = max(self.stream_time_ms, time_ms)
        self.has_due = True

    def pass_quiet(self, quiet_ms: int) -> None:
        """Move stream time on as if time had passed for it as it did on the clock since the last event."""
        if self._heard_ms and self._heard_ms + quiet_ms > self.stream_time_ms:
            self.stream_time_ms = self._heard_ms + quiet_ms
            self.has_due = True
