"""Whose turn it is: law 9, whatever the cuts of the input."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.records import Decoded, Reason, Reject, Run, TopicPartition
from streams.engine.turns import Slice, Turns, by_turn, whole

USERS, ORDERS, VISITS = (TopicPartition(name, 0) for name in ("users", "orders", "visits"))
INPUTS = [USERS, ORDERS, VISITS]


class Event(NamedTuple):
    timestamp: int
    name: str


class Other(NamedTuple):
    """A record without an event: skipped, or rejected."""

    rejected: bool


Row = Event | Other
Step: TypeAlias = list[tuple[TopicPartition, Slice]]
SKIPPED, REJECTED = Other(rejected=False), Other(rejected=True)


def run_of(rows: Sequence[Row], first_offset: int = 0, gap: int = 0) -> Slice:
    """Return the rows as a fetched and decoded run; `gap` offsets behind it hold no record."""
    offsets = range(first_offset, first_offset + len(rows))
    none: list[bytes | None] = [None] * len(rows)
    run = Run(first_offset + len(rows) + gap, offsets, [0] * len(rows), none, none)
    events = [(at, row) for at, row in enumerate(rows) if isinstance(row, Event)]
    rejects = [Reject(at, Reason.UNDECODABLE, "") for at, row in enumerate(rows) if row == REJECTED]
    decoded = Decoded(
        [at for at, _ in events], [e for _, e in events], rows.count(SKIPPED), rejects
    )
    return whole(run, decoded)


def events(*timestamps: int) -> list[Row]:
    return [Event(timestamp, f"{n}@{timestamp}") for n, timestamp in enumerate(timestamps)]


def drained(turns: Turns, limit: int = 1_000) -> list[Step]:
    """Take all that is queued, nothing more being to come."""
    steps = []
    while step := turns.take(lambda _: False, limit):
        steps.append(step)
    return steps


def timestamps(steps: Sequence[Step]) -> list[dict[str, list[int]]]:
    return [
        {tp.topic: [event.timestamp for event in piece.events] for tp, piece in step}
        for step in steps
    ]


def test_of_each_input_all_is_taken_up_to_where_the_first_one_ends() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(1, 5, 9)))
    turns.offer(ORDERS, run_of(events(2, 3, 7)))
    first, second = drained(turns)
    assert timestamps([first, second]) == [
        {"users": [1, 5], "orders": [2, 3, 7]},
        {"users": [9]},
    ]
    assert [piece.turns_ms for _, piece in first] == [[1, 5], [2, 3, 7]]


def test_where_no_others_turn_comes_in_between_none_is_told() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(1, 2)))
    turns.offer(ORDERS, run_of(events(3, 4)))
    steps = drained(turns)
    assert timestamps(steps) == [{"users": [1, 2]}, {"orders": [3, 4]}]
    assert [piece.turns_ms for step in steps for _, piece in step] == [(), ()]


def test_on_equal_times_the_input_that_was_named_first_goes_first() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(5, 5, 6)))
    turns.offer(USERS, run_of(events(5, 5)))
    assert timestamps(drained(turns)) == [{"users": [5, 5]}, {"orders": [5, 5, 6]}]
    turns.offer(ORDERS, run_of(events(5, 5)))
    turns.offer(USERS, run_of(events(5, 5, 6)))
    assert timestamps(drained(turns)) == [{"users": [5, 5], "orders": [5, 5]}, {"users": [6]}]


def test_within_an_input_offset_order_holds_whatever_the_times_are() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(9, 1, 2)))
    turns.offer(ORDERS, run_of(events(5, 8, 3)))
    assert timestamps(drained(turns)) == [{"orders": [5, 8, 3]}, {"users": [9, 1, 2]}]


def test_an_event_behind_a_newer_one_of_its_input_has_that_ones_turn() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(5, 1, 7)))
    turns.offer(ORDERS, run_of(events(4, 6, 3)))
    [(_, users), (_, orders)], *_ = drained(turns)
    assert users.turns_ms == [5, 5]
    assert orders.turns_ms == [4, 6, 6]


def test_nothing_is_taken_while_an_older_event_may_still_come() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    assert turns.take(lambda tp: tp == USERS, 10) == []
    assert turns.take(lambda tp: tp == ORDERS, 10) != []


def test_a_single_input_waits_for_nobody() -> None:
    turns = Turns([ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    assert turns.take(lambda _: True, 10) != []
    assert turns.take(lambda _: True, 10) == []


def test_records_without_events_take_no_turn_and_wait_for_nobody() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of([SKIPPED, REJECTED], gap=2))
    [(tp, piece)] = turns.take(lambda _: True, 10)
    assert (tp, piece.next_offset) == (ORDERS, 4)


def test_a_slice_ends_at_the_limit_and_the_rest_stays_queued() -> None:
    turns = Turns([ORDERS])
    turns.offer(ORDERS, run_of(events(1, 2, 3, 4, 5), gap=3))
    steps = drained(turns, limit=2)
    assert timestamps(steps) == [{"orders": [1, 2]}, {"orders": [3, 4]}, {"orders": [5]}]
    assert [piece.next_offset for [(_, piece)] in steps] == [2, 4, 8]


def test_a_step_goes_no_further_than_the_limit_of_the_input_that_reaches_it_first() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(1, 3, 5, 7)))
    turns.offer(ORDERS, run_of(events(2, 4, 6, 8)))
    assert timestamps(drained(turns, limit=2)) == [
        {"users": [1, 3], "orders": [2]},
        {"users": [5], "orders": [4, 6]},
        {"users": [7]},
        {"orders": [8]},
    ]


def test_what_is_forgotten_is_not_taken() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    turns.clear()
    assert turns.take(lambda _: False, 10) == []


def test_a_split_gives_the_records_between_two_events_to_the_former() -> None:
    rows: list[Row] = [SKIPPED, Event(1, "a"), REJECTED, Event(2, "b"), REJECTED]
    former, latter = run_of(rows, 10, gap=4)._replace(turns_ms=[7, 8]).split(1)
    assert (former.begin, former.end, former.next_offset) == (0, 3, 13)
    assert (latter.begin, latter.end, latter.next_offset) == (3, 5, 19)
    assert [reject.at for reject in former.rejects] == [2]
    assert [reject.at for reject in latter.rejects] == [4]
    assert ([e.name for e in former.events], [e.name for e in latter.events]) == (["a"], ["b"])
    assert (former.turns_ms, latter.turns_ms) == ([7], [8])


# -- laws ------------------------------------------------------------------------------------------

ROWS = st.lists(
    st.one_of(
        st.builds(Event, st.integers(0, 9), st.text("ab", max_size=2)),
        st.sampled_from([SKIPPED, REJECTED]),
    ),
    max_size=12,
)
CUTS = st.lists(st.integers(1, 4), min_size=1, max_size=5)


def merged(inputs: Sequence[Sequence[Row]]) -> list[tuple[int, int]]:
    """Return input and offset of each event in the order of law 9, one by one."""
    waiting = [
        [(n, row) for n, row in enumerate(rows) if isinstance(row, Event)] for rows in inputs
    ]
    order = []
    while any(waiting):
        _, input_ = min((rows[0][1].timestamp, n) for n, rows in enumerate(waiting) if rows)
        order.append((input_, waiting[input_].pop(0)[0]))
    return order


class Feed:
    """Inputs, from offsets on, that arrive in runs, cut as told, whenever a turn wants for them."""

    def __init__(
        self,
        inputs: Sequence[Sequence[Row]],
        cuts: Sequence[int],
        begin: Mapping[TopicPartition, int] | None = None,
        *,
        in_order_ms: int | None = None,
    ) -> None:
        self.inputs = INPUTS[: len(inputs)]
        self.turns = Turns(self.inputs, in_order_ms=in_order_ms)
        self._next = dict(begin or dict.fromkeys(self.inputs, 0))
        self._rest = {
            tp: list(rows)[self._next[tp] :] for tp, rows in zip(self.inputs, inputs, strict=True)
        }
        self._cuts = list(cuts)

    def may_come(self, tp: TopicPartition) -> bool:
        return bool(self._rest[tp])

    def arrive(self) -> bool:
        """Let one run arrive; tell whether there was one."""
        self._cuts.append(self._cuts.pop(0))
        inputs = self.inputs[self._cuts[0] % 3 :] + self.inputs
        tp = next((tp for tp in inputs if self._rest[tp]), None)
        if tp is None:
            return False
        count = self._cuts[0]
        rows, self._rest[tp] = self._rest[tp][:count], self._rest[tp][count:]
        self.turns.offer(tp, run_of(rows, self._next[tp]))
        self._next[tp] += len(rows)
        return True

    def steps(self, limit: int) -> Iterator[Step]:
        """Yield all steps, one after the other, while the runs arrive."""
        while (step := self.turns.take(self.may_come, limit)) or self.arrive():
            if step:
                yield step


def in_turn(step: Step) -> list[tuple[int, int]]:
    """Return input and offset of a step's events, in the order of their turns."""
    by_turn = [
        (turn_ms, INPUTS.index(tp), piece.run.offsets[at])
        for tp, piece in step
        for turn_ms, at in zip(
            piece.turns_ms or [0] * len(piece.events), piece.indexes, strict=True
        )
    ]
    return [(input_, offset) for _, input_, offset in sorted(by_turn)]


def latest_ms(step: Step, reached_ms: int) -> int:
    """Return how far the latest event of a step is behind stream time at its turn."""
    return max(
        int(max(turn_ms, reached_ms) - event.timestamp)
        for _, piece in step
        for event, turn_ms in zip(piece.events, piece.turns_ms, strict=True)
    )


SOME_INPUTS = st.lists(ROWS, min_size=1, max_size=3)


@settings(deadline=None, max_examples=300)
@given(SOME_INPUTS, CUTS, st.integers(1, 5), st.sampled_from([None, 0, 1, 2]))
def test_turns_are_those_of_law_9_whatever_the_cuts_and_every_record_is_taken_once(
    inputs: list[list[Row]],
    cuts: list[int],
    limit: int,
    in_order_ms: int | None,
) -> None:
    feed = Feed(inputs, cuts, in_order_ms=in_order_ms)
    order: list[tuple[int, int]] = []
    reached_ms = 0
    positions = dict.fromkeys(feed.inputs, 0)
    for step in feed.steps(limit):
        ranks = [INPUTS.index(tp) for tp, _ in step]
        assert ranks == sorted(set(ranks))
        assert len(ranks) == 1 or in_order_ms != 0
        assert len(ranks) == 1 or in_order_ms is None or latest_ms(step, reached_ms) < in_order_ms
        reached_ms = max([reached_ms, *(e.timestamp for _, piece in step for e in piece.events)])
        order += in_turn(step)
        for tp, piece in step:
            assert len(piece.events) <= limit
            assert len(piece.turns_ms) == (len(piece.events) if len(step) > 1 else 0)
            assert list(piece.turns_ms) == sorted(piece.turns_ms)
            assert piece.run.offsets[piece.begin] == positions[tp]
            positions[tp] = piece.next_offset
            rejected = [piece.run.offsets[reject.at] for reject in piece.rejects]
            rows = inputs[INPUTS.index(tp)]
            held = range(piece.run.offsets[piece.begin], piece.next_offset)
            assert rejected == [offset for offset in held if rows[offset] == REJECTED]
    assert order == merged(inputs)
    assert list(positions.values()) == [len(rows) for rows in inputs]


@settings(deadline=None, max_examples=300)
@given(
    SOME_INPUTS, st.tuples(CUTS, CUTS), st.tuples(st.integers(1, 5), st.integers(1, 5)), st.data()
)
def test_whoever_goes_on_where_a_step_ended_goes_on_in_the_same_order(
    inputs: list[list[Row]],
    cuts: tuple[list[int], list[int]],
    limits: tuple[int, int],
    data: st.DataObject,
) -> None:
    former = list(Feed(inputs, cuts[0]).steps(limits[0]))
    kept = former[: data.draw(st.integers(0, len(former)))]
    positions = dict.fromkeys(INPUTS[: len(inputs)], 0)
    positions |= {tp: piece.next_offset for step in kept for tp, piece in step}
    latter = Feed(inputs, cuts[1], positions).steps(limits[1])
    order = [event for step in (*kept, *latter) for event in in_turn(step)]
    assert order == merged(inputs)


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 1_000), max_size=200), min_size=1, max_size=3),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_inputs_that_alternate_are_taken_in_few_slices(
    times: list[list[int]], run_length: int, limit: int
) -> None:
    turns = Turns(INPUTS[: len(times)])
    pieces = 0
    for tp, of_input in zip(INPUTS, times, strict=False):
        for begin in range(0, len(of_input), run_length):
            rows = events(*of_input[begin : begin + run_length])
            turns.offer(tp, run_of(rows, begin))
            pieces += -(-len(rows) // limit)
    # A step of several inputs ends one of the pieces. What was cut off of others goes at most as often.
    assert sum(map(len, drained(turns, limit))) <= 2 * pieces * len(times)


def test_two_inputs_that_alternate_record_by_record_are_two_slices_a_step() -> None:
    turns = Turns([USERS, ORDERS])
    for begin in range(0, 10_000, 1_000):
        turns.offer(USERS, run_of(events(*range(2 * begin, 2 * begin + 2_000, 2)), begin))
        turns.offer(ORDERS, run_of(events(*range(2 * begin + 1, 2 * begin + 2_000, 2)), begin))
    assert sum(map(len, drained(turns, 1_000))) < 40


@settings(deadline=None, max_examples=200)
@given(SOME_INPUTS, CUTS, st.integers(1, 5))
def test_a_step_can_be_cut_wherever_another_input_has_its_turn(
    inputs: list[list[Row]], cuts: list[int], limit: int
) -> None:
    for step in Feed(inputs, cuts).steps(limit):
        if len(step) == 1:
            continue
        pieces = by_turn(step)
        assert all(a[0] != b[0] for a, b in pairwise(pieces))
        order = [
            (INPUTS.index(tp), piece.run.offsets[i]) for tp, piece in pieces for i in piece.indexes
        ]
        assert order == in_turn(step)
        for tp, whole_ in step:
            of_input = [piece for other, piece in pieces if other == tp]
            bounds = [whole_.begin, *(piece.end for piece in of_input)]
            assert [piece.begin for piece in of_input] == bounds[:-1]
            assert bounds[-1] == whole_.end
            assert all(piece.turns_ms == () for piece in of_input)
