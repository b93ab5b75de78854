"""Whose turn it is: law 9, whatever the cuts of the input."""

from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.engine.records import Decoded, Reason, Reject, Run, TopicPartition
from streams.engine.turns import Slice, Turns, whole

USERS, ORDERS, VISITS = (TopicPartition(name, 0) for name in ("users", "orders", "visits"))
INPUTS = [USERS, ORDERS, VISITS]


class Event(NamedTuple):
    timestamp: int
    name: str


class Other(NamedTuple):
    """A record without an event: skipped, or rejected."""

    rejected: bool


Row = Event | Other
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


def drained(turns: Turns, limit: int = 1_000) -> list[tuple[TopicPartition, Slice]]:
    """Take all that is queued, nothing more being to come."""
    taken = []
    while (turn := turns.take(lambda _: False, limit)) is not None:
        taken.append(turn)
    return taken


def timestamps(taken: list[tuple[TopicPartition, Slice]]) -> list[tuple[str, list[int]]]:
    return [(tp.topic, [event.timestamp for event in piece.events]) for tp, piece in taken]


def test_the_input_whose_next_event_is_oldest_goes_first_up_to_the_others_next() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(1, 5, 9)))
    turns.offer(ORDERS, run_of(events(2, 3, 7)))
    assert timestamps(drained(turns)) == [
        ("users", [1]), ("orders", [2, 3]), ("users", [5]), ("orders", [7]), ("users", [9]),
    ]  # fmt: skip


def test_on_equal_times_the_input_that_was_named_first_goes_first() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(5, 5, 6)))
    turns.offer(USERS, run_of(events(5, 5, 6)))
    assert timestamps(drained(turns)) == [
        ("users", [5, 5]), ("orders", [5, 5]), ("users", [6]), ("orders", [6]),
    ]  # fmt: skip


def test_within_an_input_offset_order_holds_whatever_the_times_are() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(USERS, run_of(events(9, 1, 2)))
    turns.offer(ORDERS, run_of(events(5, 8, 3)))
    assert timestamps(drained(turns)) == [("orders", [5, 8, 3]), ("users", [9, 1, 2])]


def test_nothing_is_taken_while_an_older_event_may_still_come() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    assert turns.take(lambda tp: tp == USERS, 10) is None
    assert turns.take(lambda tp: tp == ORDERS, 10) is not None


def test_a_single_input_waits_for_nobody() -> None:
    turns = Turns([ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    assert turns.take(lambda _: True, 10) is not None
    assert turns.take(lambda _: True, 10) is None


def test_records_without_events_take_no_turn_and_wait_for_nobody() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of([SKIPPED, REJECTED], gap=2))
    turn = turns.take(lambda _: True, 10)
    assert turn is not None
    assert turn[0] == ORDERS
    assert turn[1].next_offset == 4


def test_a_slice_ends_at_the_limit_and_the_rest_stays_queued() -> None:
    turns = Turns([ORDERS])
    turns.offer(ORDERS, run_of(events(1, 2, 3, 4, 5), gap=3))
    taken = drained(turns, limit=2)
    assert timestamps(taken) == [("orders", [1, 2]), ("orders", [3, 4]), ("orders", [5])]
    assert [piece.next_offset for _, piece in taken] == [2, 4, 8]


def test_what_is_forgotten_is_not_taken() -> None:
    turns = Turns([USERS, ORDERS])
    turns.offer(ORDERS, run_of(events(1)))
    turns.clear()
    assert turns.take(lambda _: False, 10) is None


def test_a_split_gives_the_records_between_two_events_to_the_former() -> None:
    piece = run_of([SKIPPED, Event(1, "a"), REJECTED, Event(2, "b"), REJECTED], 10, gap=4)
    former, latter = piece.split(1)
    assert (former.begin, former.end, former.next_offset) == (0, 3, 13)
    assert (latter.begin, latter.end, latter.next_offset) == (3, 5, 19)
    assert [reject.at for reject in former.rejects] == [2]
    assert [reject.at for reject in latter.rejects] == [4]
    assert ([e.name for e in former.events], [e.name for e in latter.events]) == (["a"], ["b"])


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
    """Inputs that arrive in runs, cut as told, whenever a turn wants for them."""

    def __init__(self, inputs: Sequence[Sequence[Row]], cuts: Sequence[int]) -> None:
        self.turns = Turns(INPUTS)
        self._rest = {tp: list(rows) for tp, rows in zip(INPUTS, inputs, strict=True)}
        self._next = dict.fromkeys(INPUTS, 0)
        self._cuts = list(cuts)

    def may_come(self, tp: TopicPartition) -> bool:
        return bool(self._rest[tp])

    def arrive(self) -> bool:
        """Let one run arrive; tell whether there was one."""
        self._cuts.append(self._cuts.pop(0))
        tp = next((tp for tp in INPUTS[self._cuts[0] % 3 :] + INPUTS if self._rest[tp]), None)
        if tp is None:
            return False
        count = self._cuts[0]
        rows, self._rest[tp] = self._rest[tp][:count], self._rest[tp][count:]
        self.turns.offer(tp, run_of(rows, self._next[tp]))
        self._next[tp] += len(rows)
        return True


@settings(deadline=None)
@given(st.tuples(ROWS, ROWS, ROWS), CUTS, st.integers(1, 5))
def test_the_order_is_that_of_law_9_whatever_the_cuts_and_every_record_is_taken_once(
    inputs: tuple[list[Row], list[Row], list[Row]], cuts: list[int], limit: int
) -> None:
    feed = Feed(inputs, cuts)
    order: list[tuple[int, int]] = []
    positions = dict.fromkeys(INPUTS, 0)
    while True:
        turn = feed.turns.take(feed.may_come, limit)
        if turn is None:
            if not feed.arrive():
                break
            continue
        tp, piece = turn
        assert len(piece.events) <= limit
        assert piece.run.offsets[piece.begin] == positions[tp]
        positions[tp] = piece.next_offset
        order += [(INPUTS.index(tp), piece.run.offsets[at]) for at in piece.indexes]
        rejected = [piece.run.offsets[reject.at] for reject in piece.rejects]
        rows = inputs[INPUTS.index(tp)]
        held = range(piece.run.offsets[piece.begin], piece.next_offset)
        assert rejected == [offset for offset in held if rows[offset] == REJECTED]
    assert order == merged(inputs)
    assert list(positions.values()) == [len(rows) for rows in inputs]
