"""A table part: a mapping that can be undone, committed and forgotten; it writes nothing itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.engine.definitions import Table
from streams.engine.errors import DefinitionError
from streams.engine.store import Position, Store, StoreMemory
from streams.engine.table import JoinedPart, TablePart, Turn, TurnedPart

COUNTS: Table[int] = Table("counts", lambda row: b"%d" % row, int)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store", StoreMemory(block_cache_bytes=1 << 20))
    opened.write({"counts": [(b"a", b"1"), (b"c", b"3")]}, Position(1))
    yield opened
    opened.close()


@pytest.fixture
def part(store: Store) -> TablePart[int]:
    return TablePart(COUNTS, store)


def commit(part: TablePart[int], store: Store) -> None:
    """Do what a commit does of an epoch that was sealed before."""
    changes = part.epochs[0]
    rows = [(k.encode(), None if row is None else b"%d" % row) for k, row in changes.items()]
    store.write({"counts": rows}, Position(1))
    part.committed()


def test_stored_rows_are_read_and_missing_ones_are_missing(part: TablePart[int]) -> None:
    assert part["a"] == 1
    assert part.get("b") is None
    assert part.get("b", 7) == 7
    assert "b" not in part
    with pytest.raises(KeyError):
        part["b"]
    with pytest.raises(KeyError):
        del part["b"]


def test_it_is_walked_with_stored_keys_in_order_and_new_ones_after_them(
    part: TablePart[int],
) -> None:
    part["b"] = 2
    part["a"] = 9
    assert list(part.items()) == [("a", 9), ("c", 3), ("b", 2)]
    del part["c"]
    assert dict(part) == {"a": 9, "b": 2}
    assert len(part) == 2


def test_what_a_batch_wrote_can_be_undone(part: TablePart[int]) -> None:
    part["b"] = 2
    part.accept_batch()
    part["b"] = 3
    del part["a"]
    part.undo_batch()
    assert dict(part) == {"a": 1, "c": 3, "b": 2}


def test_nothing_reaches_the_store_by_itself(part: TablePart[int], store: Store) -> None:
    part["a"] = 9
    part.accept_batch()
    part.seal()
    assert dict(store.scan("counts")) == {"a": b"1", "c": b"3"}


def test_the_next_epoch_computes_on_top_of_the_one_in_flight(
    part: TablePart[int], store: Store
) -> None:
    part["a"] = 2
    part.accept_batch()
    assert part.seal() == {"a": 2}
    part["a"] += 1
    part.accept_batch()
    commit(part, store)
    assert part["a"] == 3
    assert store.get("counts", "a") == b"2"
    assert part.epochs == [{"a": 3}]


def test_an_abort_forgets_all_that_is_not_stored(part: TablePart[int]) -> None:
    part["a"] = 2
    part.accept_batch()
    part.seal()
    part["b"] = 4
    part.accept_batch()
    part["c"] = 5
    part.reset()
    assert dict(part) == {"a": 1, "c": 3}
    assert part.epochs == [{}]


def test_none_is_no_row(part: TablePart[int]) -> None:
    nothing: Any = None
    with pytest.raises(TypeError, match="use del to remove 'a'"):
        part["a"] = nothing


def test_a_joined_part_can_be_read_and_not_written(part: TablePart[int]) -> None:
    turn = Turn("visits")
    joined: Any = JoinedPart("visits", part, turn)
    part["b"] = 2
    part.accept_batch()
    for _ in turn.at_once("."):
        assert (joined["b"], joined.get("x", 0), len(joined)) == (2, 0, 3)
        assert list(joined) == ["a", "c", "b"]
    with pytest.raises(
        DefinitionError, match="flow visits writes 'b' to table counts, which it joins"
    ):
        joined["b"] = 3


def test_a_joined_part_shows_each_row_as_it_was_at_the_turn(part: TablePart[int]) -> None:
    turn = Turn("visits")
    kept = TurnedPart(part, turn)
    for key in turn.through(["a", "b", "a", "c"], [10, 20, 20, 30]):
        if key == "c":
            del kept[key]
        else:
            kept[key] = kept.get(key, 0) + 100
    part.accept_batch()
    joined = JoinedPart("visits", part, turn)
    seen = [dict(joined) for _ in turn.through("....", [9, 10, 20, 30])]
    assert seen == [
        {"a": 1, "c": 3},
        {"a": 101, "c": 3},
        {"a": 201, "c": 3, "b": 100},
        {"a": 201, "b": 100},
    ]
    assert dict(part) == {"a": 201, "b": 100}
    with pytest.raises(KeyError):
        del kept["c"]


def test_none_is_no_row_of_a_joined_table_either(part: TablePart[int]) -> None:
    turn, nothing = Turn("visits"), None
    kept: Any = TurnedPart(part, turn)
    for _ in turn.through(".", [10]):
        with pytest.raises(TypeError, match="use del to remove 'a'"):
            kept["a"] = nothing
    part.accept_batch()
    assert dict(part) == {"a": 1, "c": 3}


def test_what_a_batch_that_is_undone_changed_was_at_no_turn(part: TablePart[int]) -> None:
    turn = Turn("visits")
    kept = TurnedPart(part, turn)
    for _ in turn.through(".", [10]):
        kept["a"] = 7
    part.undo_batch()
    for _ in turn.through(".", [20]):
        kept["a"] = 8
    part.accept_batch()
    assert [JoinedPart("visits", part, turn)["a"] for _ in turn.through("..", [15, 25])] == [1, 8]
    part.begin_step()
    assert [JoinedPart("visits", part, turn)["a"] for _ in turn.through(".", [5])] == [8]


def test_a_joined_table_is_not_used_outside_the_loop_over_the_events(part: TablePart[int]) -> None:
    turn = Turn("visits")
    events = list(turn.through("..", [1, 2]))
    assert len(events) == 2
    with pytest.raises(
        DefinitionError, match="flow visits uses table counts outside of its rule's loop"
    ):
        TurnedPart(part, turn)["a"] = 2
    with pytest.raises(
        DefinitionError, match="flow visits uses table counts outside of its rule's loop"
    ):
        JoinedPart("visits", part, turn).get("a")


def test_what_is_known_stays_bounded_and_open_epochs_are_never_forgotten(
    store: Store, part: TablePart[int]
) -> None:
    store._memory.known_rows, store._memory.open_parts = 30, 3
    for n in range(20):
        part[f"old-{n}"] = n
    part.accept_batch()
    part.seal()
    for n in range(20):
        part[f"new-{n}"] = n
    part.accept_batch()
    commit(part, store)
    assert len(part._known) <= 10 + 20
    assert {f"new-{n}" for n in range(20)} <= part._known.keys()
    assert [part[f"old-{n}"] for n in range(20)] == list(range(20))
    part.seal()
    commit(part, store)
    assert len(part._known) <= 10


class Model(RuleBasedStateMachine):
    """A part against plain dicts: one of what it shows, one of what was committed."""

    keys = st.sampled_from("abcdef")

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(self.folder(), StoreMemory(block_cache_bytes=1 << 20))
        self.part = TablePart(COUNTS, self.store)
        self.shown: dict[str, int] = {}
        self.accepted: dict[str, int] = {}
        self.sealed: dict[str, int] | None = None
        self.stored: dict[str, int] = {}

    def folder(self) -> Path:
        import tempfile  # noqa: PLC0415 - a state machine gets no fixtures

        self._folder = tempfile.TemporaryDirectory()
        return Path(self._folder.name) / "store"

    def teardown(self) -> None:
        self.store.close()
        self._folder.cleanup()

    @rule(key=keys, row=st.integers(0, 99))
    def write(self, key: str, row: int) -> None:
        self.part[key] = row
        self.shown[key] = row

    @rule(key=keys)
    def delete(self, key: str) -> None:
        if key in self.shown:
            del self.part[key]
            del self.shown[key]
        else:
            with pytest.raises(KeyError):
                del self.part[key]

    @rule()
    def accept(self) -> None:
        self.part.accept_batch()
        self.accepted = dict(self.shown)

    @rule()
    def undo(self) -> None:
        self.part.undo_batch()
        self.shown = dict(self.accepted)

    @precondition(lambda self: self.sealed is None)
    @rule()
    def seal(self) -> None:
        self.part.accept_batch()
        self.accepted = dict(self.shown)
        self.part.seal()
        self.sealed = dict(self.accepted)

    @precondition(lambda self: self.sealed is not None)
    @rule()
    def commit(self) -> None:
        assert self.sealed is not None
        commit(self.part, self.store)
        self.stored, self.sealed = self.sealed, None

    @rule()
    def abort(self) -> None:
        self.part.reset()
        self.shown, self.accepted = dict(self.stored), dict(self.stored)
        self.sealed = None

    @invariant()
    def shows_what_was_written(self) -> None:
        assert dict(self.part) == self.shown
        assert all(self.part.get(key) == self.shown.get(key) for key in "abcdef")

    @invariant()
    def stores_what_was_committed(self) -> None:
        assert {key: int(row) for key, row in self.store.scan("counts")} == self.stored


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
