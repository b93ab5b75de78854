"""Whose turn it is among a task's inputs: the one whose next record is oldest (law 9)."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter, sub
from typing import Any, Final, NamedTuple, TypeAlias

from streams.engine.records import Decoded, Reject, Run, TopicPartition

_event_time_ms: Final = attrgetter("timestamp")
Until: TypeAlias = Callable[[TopicPartition, Sequence[Any]], int]
"""Tells how many of an input's next events, one at least, may be in the next step."""


class Slice(NamedTuple):
    """Records `begin` to `end` (exclusive) of a run, of which `events` are to be processed.

    `events[i]` came from record `indexes[i]`; the other records were skipped or rejected. Its turn
    among the task's inputs is `turns_ms[i]`, a time that never falls; none where no other input's
    turn comes in between. `own_turns_ms[i]` is what it would be; none where the task has one input.
    """

    run: Run
    decoded: Decoded
    begin: int
    end: int
    indexes: Sequence[int]
    events: Sequence[Any]
    turns_ms: Sequence[int] = ()
    own_turns_ms: Sequence[int] = ()
    late_by_ms: int = 0
    """By how much an event is behind its turn, at most; 0 where that makes no difference."""
    is_large: bool = False
    """Whether it is one event, alone because of large records around it: rows may become too large."""

    @property
    def next_offset(self) -> int:
        """Return the position behind this slice."""
        run = self.run
        return run.next_offset if self.end == len(run.offsets) else run.offsets[self.end]

    @property
    def rejects(self) -> list[Reject]:
        """Return the rejected records within this slice."""
        return [r for r in self.decoded.rejects if self.begin <= r.at < self.end]

    def split(self, count: int) -> tuple["Slice", "Slice"]:
        """Return the slice up to its event `count`, and the rest. Records between go with the former."""
        middle = self.indexes[count]
        return (
            self._replace(
                end=middle,
                indexes=self.indexes[:count],
                events=self.events[:count],
                turns_ms=self.turns_ms[:count],
                own_turns_ms=self.own_turns_ms[:count],
            ),
            self._replace(
                begin=middle,
                indexes=self.indexes[count:],
                events=self.events[count:],
                turns_ms=self.turns_ms[count:],
                own_turns_ms=self.own_turns_ms[count:],
            ),
        )


def pieces(run: Run, limit: int) -> Iterator[Run]:
    """Yield a run in pieces of at most `limit` records; one without records as it is."""
    count = len(run.offsets)
    for begin in range(0, max(count, 1), limit):
        end = begin + limit
        yield Run(
            run.offsets[end] if end < count else run.next_offset,
            run.offsets[begin:end],
            run.timestamps_ms[begin:end],
            run.keys[begin:end],
            run.values[begin:end],
        )


def whole(run: Run, decoded: Decoded) -> Slice:
    """Return all of a run as one slice."""
    return Slice(run, decoded, 0, len(run.offsets), decoded.indexes, decoded.events)


def singles(piece: Slice) -> Iterator[Slice]:
    """Yield a slice in large slices of one event each."""
    piece = piece._replace(is_large=True)
    while len(piece.events) > 1:
        single, piece = piece.split(1)
        yield single
    yield piece


class Turns:
    """Merges a task's inputs by event time.

    `inputs` are in order of precedence: on equal event times the earlier one goes first (a table's
    input before those that join the table). Within an input, offset order always holds.

    What is taken comes in steps, so that inputs which alternate give no tiny batches: of each input
    all that is due up to a common turn, one input after the other. A joined table keeps what its rows
    were within the step (decision 0014). `in_order_ms` is for flows that read several of the inputs,
    and so may see their order: where an event is behind the highest event time by that or more, no step
    goes beyond the turn of another input's next event. 0: in no step; None: they never see it.
    `until` ends a step, of all inputs, before the turn of an event.
    """

    def __init__(
        self,
        inputs: Sequence[TopicPartition],
        *,
        in_order_ms: int | None = None,
        until: Until | None = None,
    ) -> None:
        self._in_order_ms = in_order_ms if len(inputs) > 1 else None
        self._until = until
        self.reached_ms = 0
        """The highest event time that was taken."""
        self._queues: dict[TopicPartition, deque[Slice]] = {i: deque() for i in inputs}

    def offer(self, input_: TopicPartition, waiting: Slice) -> None:
        """Queue a slice behind those that its input queued before."""
        if len(self._queues) > 1:
            # Here, for all steps that a slice is in: one that reaches further than others is in many.
            times_ms = list(map(_event_time_ms, waiting.events))
            turns_ms = _so_far(times_ms)
            late_ms = map(sub, turns_ms, times_ms) if self._in_order_ms else ()
            waiting = waiting._replace(own_turns_ms=turns_ms, late_by_ms=max(late_ms, default=0))
        self._queues[input_].append(waiting)

    def waiting(self, input_: TopicPartition) -> int:
        """Return how many events of an input are queued."""
        return sum(len(waiting.events) for waiting in self._queues[input_])

    def first(self, input_: TopicPartition) -> Slice | None:
        """Return what is queued first of an input."""
        queue = self._queues[input_]
        return queue[0] if queue else None

    def clear(self) -> None:
        """Forget what is queued."""
        for queue in self._queues.values():
            queue.clear()

    def take(
        self, may_come: Callable[[TopicPartition], bool], limit: int
    ) -> list[tuple[TopicPartition, Slice]]:
        """Return the next step: a slice of at most `limit` events of each input that has its turn.

        To be processed in this order, and committed together or not at all. Empty if nothing is
        queued, or an input with nothing queued may still get older events: `may_come` tells whether
        it has records that were not fetched yet.
        """
        queued: list[TopicPartition] = []
        starved = False
        for input_, queue in self._queues.items():
            if queue and not queue[0].events:  # skipped and rejected records take no turn
                return [(input_, queue.popleft())]
            if queue:
                queued.append(input_)
            else:
                starved = starved or (len(self._queues) > 1 and may_come(input_))
        if starved or not queued:
            return []
        if len(queued) == 1:
            count = self._count(queued[0], limit)
            step = [(queued[0], _cut(self._queues[queued[0]], count))]
        else:
            step = self._step(queued, limit)
        if self._in_order_ms:
            self.reached_ms = max(self.reached_ms, *(piece.own_turns_ms[-1] for _, piece in step))
        return step

    def _step(
        self, queued: Sequence[TopicPartition], limit: int
    ) -> list[tuple[TopicPartition, Slice]]:
        # An event's turn never comes before that of one ahead of it in its input. To take the input
        # whose next event is oldest is to go by the highest event time so far, ties by precedence.
        turns = [self._queues[input_][0].own_turns_ms[:limit] for input_ in queued]
        if self._shows_order(queued, turns):
            (_, first), (horizon_ms, rank), *_ = sorted(
                (t[0], rank) for rank, t in enumerate(turns)
            )
            count = _until(turns[first], first, horizon_ms, rank)
            count = self._count(queued[first], count)
            return [(queued[first], _cut(self._queues[queued[first]], count))]
        # Nothing is known of an input beyond its last event here.
        horizon_ms, rank = min((of_input[-1], rank) for rank, of_input in enumerate(turns))
        counts = [_until(of_input, other, horizon_ms, rank) for other, of_input in enumerate(turns)]
        ends = [self._count(input_, count) for input_, count in zip(queued, counts, strict=True)]
        ended = [
            (turns[rank][end], rank)
            for rank, (end, count) in enumerate(zip(ends, counts, strict=True))
            if end < count
        ]
        if ended:
            end_ms, rank = min(ended)
            counts = [
                end if other == rank else min(count, _until(turns[other], other, end_ms, rank))
                for other, (end, count) in enumerate(zip(ends, counts, strict=True))
            ]
        step = []
        for input_, count in zip(queued, counts, strict=True):
            if count:
                piece = _cut(self._queues[input_], count)
                step.append((input_, piece._replace(turns_ms=piece.own_turns_ms)))
        if len(step) == 1:  # nobody else's turn comes in between
            step = [(input_, piece._replace(turns_ms=())) for input_, piece in step]
        return step

    def _count(self, input_: TopicPartition, count: int) -> int:
        """Return how many of an input's next `count` events may be in the next step."""
        if self._until is None:
            return count
        return self._until(input_, self._queues[input_][0].events[:count])

    def _shows_order(
        self, queued: Sequence[TopicPartition], turns: Sequence[Sequence[int]]
    ) -> bool:
        """Tell whether a flow that reads several inputs could see the order of the next step's events."""
        latest_ms = self._in_order_ms
        if not latest_ms:
            return latest_ms == 0
        reached_ms = self.reached_ms
        for input_, of_input in zip(queued, turns, strict=True):
            piece = self._queues[input_][0]
            latest_possible_ms = max(reached_ms - of_input[0], 0) + piece.late_by_ms
            if latest_possible_ms < latest_ms:  # as mostly: nobody need be looked at
                continue
            times_ms = list(map(_event_time_ms, piece.events[: len(of_input)]))
            if max(reached_ms - min(times_ms), *map(sub, of_input, times_ms)) >= latest_ms:
                return True
        return False


def turns_of(events: Sequence[Any]) -> list[int]:
    """Return the turn of each of an input's events: the highest event time so far."""
    return _so_far(list(map(_event_time_ms, events)))


def _so_far(times_ms: list[int]) -> list[int]:
    """Return the highest of the times so far, at each."""
    # Most inputs, or most of their slices, are in order: to see that takes a fifth of the other.
    return times_ms if sorted(times_ms) == times_ms else list(accumulate(times_ms, max))


def stretches(turns_ms: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    """Yield whose events are next, from which one to which, exclusive: by turn, ties by precedence."""
    at = [0] * len(turns_ms)
    waiting = [(of_input[0], rank) for rank, of_input in enumerate(turns_ms) if of_input]
    while waiting:
        waiting.sort()
        (_, first), *others = waiting
        own_ms, begin = turns_ms[first], at[first]
        at[first] = end = _until(own_ms, first, *others[0]) if others else len(own_ms)
        yield first, begin, end
        waiting = [(own_ms[end], first), *others] if end < len(own_ms) else others


def by_turn(step: Sequence[tuple[TopicPartition, Slice]]) -> list[tuple[TopicPartition, Slice]]:
    """Return a step of several inputs cut wherever another one's turn comes."""
    rest = [piece for _, piece in step]
    cut: list[tuple[TopicPartition, Slice]] = []
    for rank, begin, end in stretches([piece.turns_ms for piece in rest]):
        piece, count = rest[rank], end - begin
        if count < len(piece.events):
            piece, rest[rank] = piece.split(count)
        cut.append((step[rank][0], piece._replace(turns_ms=())))
    return cut


def _until(turns_ms: Sequence[int], input_rank: int, time_ms: int, rank: int) -> int:
    """Return how many turns of an input do not come after the turn `time_ms` of input `rank`."""
    return (bisect_right if input_rank <= rank else bisect_left)(turns_ms, time_ms)


def _cut(queue: deque[Slice], count: int) -> Slice:
    """Take `count` events from the queue's first slice; all of it, if it has no more."""
    first = queue.popleft()
    if count >= len(first.events):
        return first
    taken, rest = first.split(count)
    queue.appendleft(rest)
    return taken
