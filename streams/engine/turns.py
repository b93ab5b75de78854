"""Whose turn it is among a task's inputs: the one whose next record is oldest (law 9)."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from streams.engine.records import Decoded, Reject, Run, TopicPartition


class Slice(NamedTuple):
    """Records `begin` to `end` (exclusive) of a run, of which `events` are to be processed.

    `events[i]` came from record `indexes[i]`; the other records were skipped or rejected.
    """

    run: Run
    decoded: Decoded
    begin: int
    end: int
    indexes: Sequence[int]
    events: Sequence[Any]

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
            self._replace(end=middle, indexes=self.indexes[:count], events=self.events[:count]),
            self._replace(begin=middle, indexes=self.indexes[count:], events=self.events[count:]),
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


class Turns:
    """Merges a task's inputs by event time.

    `inputs` are in order of precedence: on equal event times the earlier one goes first (a table's
    input before those that join the table). Within an input, offset order always holds.
    """

    def __init__(self, inputs: Sequence[TopicPartition]) -> None:
        self._queues: dict[TopicPartition, deque[Slice]] = {i: deque() for i in inputs}

    def offer(self, input_: TopicPartition, waiting: Slice) -> None:
        """Queue a slice behind those that its input queued before."""
        self._queues[input_].append(waiting)

    def waiting(self, input_: TopicPartition) -> int:
        """Return how many events of an input are queued."""
        return sum(len(waiting.events) for waiting in self._queues[input_])

    def clear(self) -> None:
        """Forget what is queued."""
        for queue in self._queues.values():
            queue.clear()

    def take(
        self, may_come: Callable[[TopicPartition], bool], limit: int
    ) -> tuple[TopicPartition, Slice] | None:
        """Return the next input and at most `limit` of its events, up to where another goes first.

        None if nothing is queued, or an input with nothing queued may still get older events:
        `may_come` tells whether it has records that were not fetched yet.
        """
        heads: list[tuple[int, int, TopicPartition]] = []
        starved = False
        for precedence, (input_, queue) in enumerate(self._queues.items()):
            if queue and not queue[0].events:  # skipped and rejected records take no turn
                return input_, queue.popleft()
            if queue:
                heads.append((queue[0].events[0].timestamp, precedence, input_))
            else:
                starved = starved or (len(self._queues) > 1 and may_come(input_))
        if starved or not heads:
            return None
        heads.sort()
        _, precedence, input_ = heads[0]
        horizon = heads[1][:2] if len(heads) > 1 else None
        return input_, _cut(self._queues[input_], precedence, horizon, limit)


def _cut(
    queue: deque[Slice], precedence: int, horizon: tuple[int, int] | None, limit: int
) -> Slice:
    """Take the first slice's events from the queue, up to the first that lies beyond the horizon."""
    first = queue.popleft()
    count = min(limit, len(first.events))
    if horizon is not None:
        for n, event in enumerate(first.events[:count]):
            if (event.timestamp, precedence) > horizon:
                count = n
                break
    if count == len(first.events):
        return first
    taken, rest = first.split(count)
    queue.appendleft(rest)
    return taken
