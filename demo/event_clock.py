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

The flows of the group `sales` hand records on through topics of their own. There a record counts as
committed when what came of it is, too: the clock waits for both. And nothing is days late. So, in any turns:

- `product_sales`, `order_value_quantiles`: no line and no value is late: graces are 5 minutes or more.
- `order_countries`: nobody orders for `settles_ms` after they told their country (see Lateness). So what was
  told up to an order's time was committed long before the order is settled, a minute of stream time later.
- Of each day some minutes pass (Hours). The rest is left out once all that was sent is committed, and a bell
  in each partition, without which orders would wait for their minute until the next day.

- `top_products`: what products earned comes out of order by what tasks of `product_sales` are apart, which is
  less than its grace of 15 minutes: in each partition a test order is where a part of a day begins, and ends.
  So no task of them is behind by more than those 20 minutes, less the 5 until the first window is told.

The flow of the group `deduplication` reads `orders` alone, and tells nothing by time: offsets say all.
"""

from collections import deque
from collections.abc import Callable, Mapping
from itertools import chain
from typing import NamedTuple

from aiokafka import TopicPartition

from demo.following import Standing
from demo.generator import Lateness

PACE = 100
"""Milliseconds of event time in one of the clock."""
PAST_MS = 24 * 3_600_000
"""How long before the present event time begins; it has caught up after a quarter of an hour."""
LEAD_MS = 200_000
IN_TIME_MS = 100_000
# Orders: 80 s and 2 s of jitter. Visits: 30 s, and what passes while their three records are sent: one tick
# (see below), or a few records where a tick has fewer. Payments: 2 s of jitter.
LATENESS = Lateness(30_000, 80_000, (12_000, 30_000), is_certain=True)
SALES_LATENESS = LATENESS._replace(is_offline=False, settles_ms=LEAD_MS + IN_TIME_MS)
_MINUTE_MS = 60_000
_MOST_A_RECORD_MS = 2_000
_DAY_MS = 24 * 3_600_000


class Hours(NamedTuple):
    """The part of each day, UTC, that passes: from one time of day, ms, to another, past midnight."""

    open_ms: int
    close_ms: int

    def closing_ms(self, event_ms: int) -> int:
        """Return when the next part ends."""
        return _next_ms(event_ms, self.close_ms)

    def opening_ms(self, event_ms: int) -> int:
        """Return when the next part begins."""
        return _next_ms(event_ms, self.open_ms)


def _next_ms(event_ms: int, of_day_ms: int) -> int:
    """Return the first time from `event_ms` on that is at this time of a day."""
    return event_ms + (of_day_ms - event_ms) % _DAY_MS


class Course(NamedTuple):
    """How event time goes."""

    pace: int = PACE
    """Milliseconds of event time in one of the clock."""
    begin_ms: Callable[[int], int] = lambda now_ms: now_ms - PAST_MS
    """Where it begins, by the clock."""
    lead_ms: int = LEAD_MS
    """How far it goes beyond what is not committed."""
    hours: Hours | None = None
    """None: all of each day passes."""
    most_a_tick_ms: int = 10_000


_OF_A_DAY = Hours(23 * 60 * _MINUTE_MS + 50 * _MINUTE_MS, 10 * _MINUTE_MS)
_FIRST_MS = 4 * _MINUTE_MS
_DAYS = 300
BELL_AFTER_MS = 2 * _MINUTE_MS
"""After the last order: a minute after it, and more, its country is settled."""
AROUND_MIDNIGHT = Course(
    # Some minutes before a midnight, so that it does not take long until the first day has ended.
    begin_ms=lambda now_ms: now_ms // _DAY_MS * _DAY_MS - _DAYS * _DAY_MS - _FIRST_MS,
    hours=_OF_A_DAY,
)
"""Twenty minutes of each day: a day takes 12 s, and it takes an hour until the present is reached."""
# A day takes three minutes and a half, and an hour nine seconds: so that ids come again after one.
FAST = Course(
    pace=400,
    begin_ms=lambda now_ms: now_ms - _DAYS * _DAY_MS,
    lead_ms=_DAYS * _DAY_MS,
    most_a_tick_ms=_MINUTE_MS,
)
"""For a flow of which nothing hangs on how far event time is."""


class _Tick(NamedTuple):
    """A moment of event time, and how many records each input had after it."""

    event_ms: int
    ends: dict[TopicPartition, int]


class EventClock:
    """Event time: called, it tells it. It stands still but for `go_on`, and never goes back."""

    def __init__(self, now_ms: Callable[[], int], course: Course | None = None) -> None:
        """`now_ms` is the clock: ms since 1970 UTC."""
        self._clock = now_ms
        self._course = course or Course()
        self._looked_ms = now_ms()
        self._event_ms = self._course.begin_ms(self._looked_ms)
        self._uncommitted: deque[_Tick] = deque()
        self._handed_on: deque[_Tick] = deque()
        """Ticks that are committed, with the ends of what came of them."""
        self.is_waiting = False
        """Whether nothing is to be sent until all is committed that was."""

    def __call__(self) -> int:
        """Return event time, ms since 1970 UTC: the same for all records of a tick."""
        return self._event_ms

    @property
    def is_opening(self) -> bool:
        """Whether a part of a day begins."""
        hours = self._course.hours
        return hours is not None and hours.opening_ms(self._event_ms) == self._event_ms

    @property
    def is_closing(self) -> bool:
        """Whether a part of a day has ended, and the present is not before the next one."""
        hours = self._course.hours
        return (
            hours is not None
            and hours.closing_ms(self._event_ms) == self._event_ms
            and hours.opening_ms(self._event_ms) <= self._clock()
        )

    def go_on(self, records: int) -> None:
        """Go on before the tick in which so many records are sent.

        At its pace, but for a present that it has reached, workers that are behind, ticks that come slowly,
        few records, and the end of a day's part.
        """
        if not records:
            return
        now_ms, hours = self._clock(), self._course.hours
        passed_ms = (now_ms - self._looked_ms) * self._course.pace
        self._looked_ms = now_ms
        step_ms = min(passed_ms, self._course.most_a_tick_ms, records * _MOST_A_RECORD_MS)
        oldest = next(chain(self._handed_on, self._uncommitted), None)
        since_ms = self._event_ms if oldest is None else oldest.event_ms
        most_ms = min(since_ms + self._course.lead_ms, now_ms)
        if hours is not None:
            most_ms = min(most_ms, hours.closing_ms(self._event_ms + 1))
        self._event_ms = max(self._event_ms, min(self._event_ms + step_ms, most_ms))

    def sent(self, ends: Mapping[TopicPartition, int]) -> None:
        """Say how many records each input has now; all of the last tick were handed to Kafka."""
        if self._uncommitted and self._uncommitted[-1].event_ms == self._event_ms:
            self._uncommitted.pop()
        self._uncommitted.append(_Tick(self._event_ms, dict(ends)))

    def wait(self) -> None:
        """Have nothing sent until all is committed that was: the next part of a day begins then."""
        self.is_waiting = True

    def committed(
        self,
        offsets: Mapping[TopicPartition, int],
        between: Mapping[TopicPartition, Standing] | None = None,
    ) -> None:
        """Say how many records of each input the workers have committed.

        `between` is how far they are in the topics by which they hand records on: asked when `offsets` was,
        or later, so that what came of these lies before its ends.
        """
        between = between or {}
        while self._uncommitted and all(
            offsets.get(tp, 0) >= end for tp, end in self._uncommitted[0].ends.items()
        ):
            event_ms = self._uncommitted.popleft().event_ms
            self._handed_on.append(_Tick(event_ms, {tp: at.end for tp, at in between.items()}))
        while self._handed_on and all(
            tp in between and between[tp].committed >= end
            for tp, end in self._handed_on[0].ends.items()
        ):
            self._handed_on.popleft()
        if self.is_waiting and not self._uncommitted and not self._handed_on:
            self.is_waiting = False
            if self.is_closing and (hours := self._course.hours) is not None:
                self._event_ms = hours.opening_ms(self._event_ms)
                self._looked_ms = self._clock()
