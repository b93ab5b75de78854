"""Whose turn it is among a task's inputs: the one whose next record is oldest (law 9)."""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final, NamedTuple

from streams.engine.records import Decoded, Reject, Run, TopicPartition

_event_time_ms: Final = attrgetter("timestamp")


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

    def keys(self, count: int) -> list[bytes]:
        """Return the record keys of the first `count` events."""
        keys = self.run.keys
        return [keys[index] or b"" for index in self.indexes[:count]]

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

    What is taken comes in steps, so that inputs which alternate give no tiny batches: of each input
    all that is due up to a common turn, one input after the other. That changes the order of records
    with different keys alone: a step ends before it would change that of one key's (decision 0014).
    """

    def __init__(self, inputs: Sequence[TopicPartition]) -> None:
        self._queues: dict[TopicPartition, deque[Slice]] = {i: deque() for i in inputs}
        self._step: deque[tuple[TopicPartition, Slice]] = deque()

    def offer(self, input_: TopicPartition, waiting: Slice) -> None:
        """Queue a slice behind those that its input queued before."""
        self._queues[input_].append(waiting)

    def waiting(self, input_: TopicPartition) -> int:
        """Return how many events of an input are queued."""
        return sum(len(waiting.events) for waiting in self._queues[input_])

    def clear(self) -> None:
        """Forget what is queued."""
        self._step.clear()
        for queue in self._queues.values():
            queue.clear()

    def take(
        self, may_come: Callable[[TopicPartition], bool], limit: int
    ) -> tuple[TopicPartition, Slice] | None:
        """Return the next input and at most `limit` of its events.

        None if nothing is queued, or an input with nothing queued may still get older events:
        `may_come` tells whether it has records that were not fetched yet.
        """
        if self._step:
            return self._step.popleft()
        queued: list[TopicPartition] = []
        starved = False
        for input_, queue in self._queues.items():
            if queue and not queue[0].events:  # skipped and rejected records take no turn
                return input_, queue.popleft()
            if queue:
                queued.append(input_)
            else:
                starved = starved or (len(self._queues) > 1 and may_come(input_))
        if starved or not queued:
            return None
        counts = [limit] if len(queued) == 1 else self._due(queued, limit)
        for input_, count in zip(queued, counts, strict=True):
            if count:
                self._step.append((input_, _cut(self._queues[input_], count)))
        return self._step.popleft()

    def _due(self, queued: Sequence[TopicPartition], limit: int) -> list[int]:
        """Return how many events of each input make up the next step."""
        heads = [self._queues[input_][0] for input_ in queued]
        # An event's turn never comes before that of one ahead of it in its input. To take the input
        # whose next event is oldest is to go by the highest event time so far, ties by precedence.
        turns = [list(accumulate(map(_event_time_ms, h.events[:limit]), max)) for h in heads]
        # Nothing is known of an input beyond its last event here.
        last_ms, first_out = min((times[-1], rank) for rank, times in enumerate(turns))
        counts = _before(turns, last_ms, first_out, len(turns[first_out]))
        keys = [head.keys(count) for head, count in zip(heads, counts, strict=True)]
        if swapped := min(_swapped(turns, keys), default=None):
            counts = _before(turns, *swapped)
        return counts


def _before(turns: Sequence[Sequence[int]], time_ms: int, rank: int, count: int) -> list[int]:
    """Return how many events of each input come before event `count` of input `rank`, at `time_ms`."""
    cuts = (bisect_right if other <= rank else bisect_left for other in range(len(turns)))
    counts = [cut(times, time_ms) for cut, times in zip(cuts, turns, strict=True)]
    counts[rank] = count
    return counts


def _swapped(
    turns: Sequence[Sequence[int]], keys: Sequence[Sequence[bytes]]
) -> Iterator[tuple[int, int, int]]:
    """Yield each first event that would go before an earlier one of its key: time, input, index.

    Within a step inputs go one after the other. An event must not go ahead of another of its key
    whose turn comes before its own.
    """
    for rank, earlier in enumerate(keys):
        of_earlier = set(earlier)
        for other in range(rank + 1, len(keys)):
            if of_earlier.isdisjoint(keys[other]):
                continue
            first_ms: dict[bytes, int] = {}
            for key, time_ms in zip(keys[other], turns[other], strict=False):
                first_ms.setdefault(key, time_ms)
            for index, key in enumerate(earlier):
                time_ms = turns[rank][index]
                if first_ms.get(key, time_ms) < time_ms:
                    yield time_ms, rank, index
                    break


def _cut(queue: deque[Slice], count: int) -> Slice:
    """Take `count` events from the queue's first slice; all of it, if it has no more."""
    first = queue.popleft()
    if count >= len(first.events):
        return first
    taken, rest = first.split(count)
    queue.appendleft(rest)
    return taken
