"""Event time that passes a hundred times as fast as the clock, and of which no result hangs on turns.

The flows of the group `windows` read two topics, or one. Of one, offsets say all. Two meet in turns that
hang on what a worker has fetched when, and on who was killed in between. So that nothing hangs on that:

Let the clock be at c when a record is sent, and its event time t. It is **in time** if c - t is at most
IN_TIME_MS, or **days late**. Before the record is committed the clock goes on to at most c + LEAD_MS, 2 s
at this pace: beyond that it waits for the workers. So stream time, at the turn of one in time, is at most
t + IN_TIME_MS + LEAD_MS: within the grace of 5 minutes that both flows have. Whatever the turns, then:

- `order_payments`: no order or payment in time is late, and each finds its partners, as these are kept
  for as long as something in time can match them. What is days late lies a day before the first
  record, behind another of its user that was in time, of its own topic: so of its own partition, where
  offsets say that stream time was there first. So it is late.
- `user_sessions`: an event in time is never late, and a session near it (30 minutes) has not closed, which
  takes 35 minutes of quiet. So sessions are what gaps in the event times make them, and closed or not
  by the end. What is days late is so for the same reason as above, and near no session: none is as old.
- `spending_spikes`, `order_stats`: they read `orders` alone. Lateness decides (some orders come
  more than their minute of grace behind), and is the same in any turns.

Only how much too late a record was, where two topics are read, hangs on turns: the oracle has bounds.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aiokafka import TopicPartition

from demo.generator import Lateness

PACE = 100
"""Milliseconds of event time in one of the clock."""
PAST_MS = 24 * 3_600_000
"""How long before the present event time begins; it has caught up after a quarter of an hour."""
LEAD_MS = 200_000
IN_TIME_MS = 100_000
LATENESS = Lateness(30_000, 80_000, (12_000, 30_000), is_certain=True)
"""Orders: 80 s and 2 s of jitter. Visits: 30 s, and what passes while their three records are sent.

That is one tick (see below), or a few records where a tick has fewer. Payments: 2 s of jitter.
"""
_MOST_A_TICK_MS = 10_000
_MOST_A_RECORD_MS = 2_000


class _Tick(NamedTuple):
    """A moment of event time, and how many records each input had after it."""

    event_ms: int
    ends: dict[TopicPartition, int]


class EventClock:
    """Event time: called, it tells it. It stands still but for `go_on`, and never goes back."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` is the clock: ms since 1970 UTC."""
        self._clock = now_ms
        self._looked_ms = now_ms()
        self._event_ms = self._looked_ms - PAST_MS
        self._uncommitted: deque[_Tick] = deque()

    def __call__(self) -> int:
        """Return event time, ms since 1970 UTC: the same for all records of a tick."""
        return self._event_ms

    def go_on(self, records: int) -> None:
        """Go on before the tick in which so many records are sent.

        At its pace, but for a present that it has reached, workers that are behind, ticks that come slowly,
        and few records.
        """
        if not records:
            return
        now_ms = self._clock()
        passed_ms = (now_ms - self._looked_ms) * PACE
        self._looked_ms = now_ms
        step_ms = min(passed_ms, _MOST_A_TICK_MS, records * _MOST_A_RECORD_MS)
        since_ms = self._uncommitted[0].event_ms if self._uncommitted else self._event_ms
        self._event_ms = max(
            self._event_ms, min(self._event_ms + step_ms, since_ms + LEAD_MS, now_ms)
        )

    def sent(self, ends: Mapping[TopicPartition, int]) -> None:
        """Say how many records each input has now; all of the last tick were handed to Kafka."""
        if self._uncommitted and self._uncommitted[-1].event_ms == self._event_ms:
            self._uncommitted.pop()
        self._uncommitted.append(_Tick(self._event_ms, dict(ends)))

    def committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Say how many records of each input the workers have committed."""
        while self._uncommitted and all(
            offsets.get(tp, 0) >= end for tp, end in self._uncommitted[0].ends.items()
        ):
            self._uncommitted.popleft()
