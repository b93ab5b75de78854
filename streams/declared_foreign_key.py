"""A join by foreign key, declared: three flows, and two topics between them.

    left ──▶ NAME_lefts ──▶ NAME-lefts, by foreign key ──▶ NAME_joined ──▶ NAME-answers, back ──▶ NAME
             keeps left rows                 right ──▶ keeps the join                        joins left rows

A left row lies in two places: where its record came to, and where its foreign key's records come to. What
joins it there is an answer, which goes back to where the left record came from. An answer counts if it is
to the left row as it is now: a row that has named another key meanwhile is asked for there (KIP-213).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from streams.declared_flows import Paths, Rule, agents
from streams.engine.definitions import Event, Flow, KeyHash, RepartitionTopic, Table, Topic
from streams.operators.foreign_key import ForeignKeyJoin, foreign_key_codec
from streams.operators.stream_table import Rows, TableJoinKind
from streams.operators.table_table import Change, KeptRows

L = TypeVar("L")
Keep: TypeAlias = Callable[[Any], bool]
Text: TypeAlias = Callable[[Any], str]


@dataclass(frozen=True)
class Side:
    """A table that is told by events: its changes, their keys, and which of them delete."""

    paths: Paths
    key: Text
    deletes: Keep

    def value(self, event: Any) -> Any:
        """Return what the table has from an event on, None for nothing."""
        return None if self.deletes(event) else event


@dataclass(frozen=True, slots=True)
class BackTopic(RepartitionTopic):
    """A topic of answers: each goes to the partition that its key begins with."""

    def partition_of(self, key: bytes, partitions: int) -> int:
        """Return the partition that the left record came from."""
        return int(key.partition(b"/")[0]) % partitions


_Rules: TypeAlias = Mapping[Topic, tuple[type[Any] | None, Rule]]


class Kept(msgspec.Struct, Generic[L], frozen=True, gc=False, array_like=True):
    """A left row where its foreign key lies: its event, and the partition that it came from."""

    partition: int
    event: L


@dataclass(frozen=True, kw_only=True)
class ForeignKeyFlows:
    """The flows of a join by foreign key; see ForeignKeyJoin for what it tells."""

    kind: TableJoinKind
    left: Side
    right: Side
    foreign_key: Callable[[Any], str | None]
    hashed_by: KeyHash

    def flows(
        self, name: str, topic: Topic, make: Callable[[Change[Any, Any]], Event]
    ) -> tuple[Flow, ...]:
        """Return them: the last one, of this name, emits to a topic what is made of each change."""
        between = name.replace("_", "-")
        left_type, right_type = self.left.paths.row_type, self.right.paths.row_type
        sent_type, answer_type = _sent(left_type), _answer(right_type)
        sent_topic = RepartitionTopic(
            f"{between}-lefts", (sent_type,), attrgetter("place"), hashed_by=self.hashed_by
        )
        answers = BackTopic(f"{between}-answers", (answer_type,), _back)
        lefts: Table[Any] = Table(
            f"{name}_lefts",
            msgspec.json.Encoder().encode,
            msgspec.json.Decoder(left_type).decode,
        )
        codec = foreign_key_codec(Kept[left_type], right_type)  # type: ignore[valid-type]
        joined: Table[Any] = Table(f"{name}_joined", *codec)
        there: Table[str] = Table(
            name, msgspec.json.Encoder().encode, msgspec.json.Decoder(str).decode
        )
        join = ForeignKeyJoin[Any, Any](
            # What an inner join leaves out is an answer, too: that there was something may have been told.
            kind="left",
            left_key=attrgetter("key"),
            left_value=lambda sent: (
                None if sent.event is None else Kept(sent.partition, sent.event)
            ),
            foreign_key=lambda kept: self.foreign_key(kept.event),
            right_key=self.right.key,
            right_value=self.right.value,
        )
        send = {
            t: (self.left.paths.given(t), self._send(t, sent_type)) for t in self.left.paths.topics
        }
        meet = {
            t: (self.right.paths.given(t), self._rights(t, join, answer_type))
            for t in self.right.paths.topics
        }
        meet = {sent_topic: (sent_type, _lefts(join, answer_type)), **meet}
        tell: _Rules = {answers: (answer_type, self._tell(make))}
        return (
            Flow(
                agents(f"{name}_lefts", send, (lefts,), tells_partition=True),
                f"{name}_lefts",
                reads=self.left.paths.topics,
                keeps=lefts,
                emits=sent_topic,
            ),
            Flow(
                agents(f"{name}_joined", meet, (joined,)),
                f"{name}_joined",
                reads=(*meet,),
                keeps=joined,
                emits=answers,
            ),
            Flow(
                agents(name, tell, (there, lefts)),
                name,
                reads=(answers,),
                keeps=there,
                joins=(lefts,),
                emits=topic,
            ),
        )

    def _place(self, key: str, event: Any) -> str:
        """Return by which key a left row is sent. One that names nothing has to be somewhere."""
        named = self.foreign_key(event)
        return key if named is None else named

    def _send(self, topic: Topic, sent_type: Any) -> Rule:
        """Return the rule that keeps left rows, and sends each change to where its foreign key lies."""
        side, place_of = self.left, self._place
        fits = side.paths.fitting(topic)

        def send(
            events: Iterable[Any], rows: MutableMapping[str, Any], *, partition: int
        ) -> Iterator[Any]:
            for event in events:
                if fits is not None and not fits(event):
                    continue
                key, value = side.key(event), side.value(event)
                before = rows.get(key)
                place = key if value is None else place_of(key, event)
                if before is not None and (value is None or place_of(key, before) != place):
                    yield sent_type(
                        event_id=event.event_id,
                        timestamp=event.timestamp,
                        key=key,
                        partition=partition,
                        place=place_of(key, before),
                        event=None,
                        is_moved=value is not None,
                    )
                if value is not None:
                    rows[key] = value
                    yield sent_type(
                        event_id=event.event_id,
                        timestamp=event.timestamp,
                        key=key,
                        partition=partition,
                        place=place,
                        event=value,
                        is_moved=False,
                    )
                elif before is not None:
                    del rows[key]

        return send

    def _rights(self, topic: Topic, join: ForeignKeyJoin[Any, Any], answer_type: Any) -> Rule:
        """Return the rule that changes the right table, and answers all that name the row."""
        fits = self.right.paths.fitting(topic)

        def rights(events: Iterable[Any], rows: KeptRows[Any]) -> Iterator[Any]:
            kept = events if fits is None else [event for event in events if fits(event)]
            for change in join.add_right(kept, rows):
                left: Any = change.left  # there is one: a left join tells of left rows
                yield answer_type(
                    event_id=change.event.event_id,
                    timestamp=change.time_ms,
                    key=change.key,
                    partition=left.partition,
                    to=left.event.event_id,
                    right=change.right,
                )

        return rights

    def _tell(self, make: Callable[[Change[Any, Any]], Event]) -> Rule:
        """Return the rule that tells of the answers to left rows as they are now."""
        is_inner = self.kind == "inner"

        def tell(
            answers: Iterable[Any], there: MutableMapping[str, str], lefts: Rows[Any]
        ) -> Iterator[Event]:
            for answer in answers:
                key, left = answer.key, lefts.get(answer.key)
                if answer.to != (None if left is None else left.event_id):
                    continue  # it has changed since: another answer is on its way
                if left is not None and not (is_inner and answer.right is None):
                    there[key] = left.event_id
                    yield make(Change(key, left, answer.right, answer.timestamp, answer))
                elif there.get(key) is not None:
                    del there[key]
                    yield make(Change(key, None, None, answer.timestamp, answer))

        return tell


def _lefts(join: ForeignKeyJoin[Any, Any], answer_type: Any) -> Rule:
    """Return the rule that changes the left table where foreign keys lie, and answers each change."""

    def lefts(sent: Sequence[Any], rows: KeptRows[Any]) -> Iterator[Any]:
        for change in join.add_left(sent, rows):
            cause = change.event
            if not cause.is_moved:
                yield answer_type(
                    event_id=cause.event_id,
                    timestamp=change.time_ms,
                    key=change.key,
                    partition=cause.partition,
                    to=None if change.left is None else cause.event_id,
                    right=change.right,
                )

    return lefts


def _sent(left_type: Any) -> Any:
    """Return the type of what is sent to where a foreign key lies: a left row, or that it is gone.

    `is_moved`: it names another key now, and is answered from there.
    """
    return msgspec.defstruct(
        "Sent",
        [
            ("event_id", str),
            ("timestamp", int),
            ("key", str),
            ("partition", int),
            ("place", str),
            ("event", left_type | None),
            ("is_moved", bool),
        ],
        frozen=True,
        tag="sent",
        tag_field="event_type",
    )


def _answer(right_type: Any) -> Any:
    """Return the type of an answer: what joins a left row.

    `to` is the id of the event that the left row is, None if it is gone.
    """
    return msgspec.defstruct(
        "Answer",
        [
            ("event_id", str),
            ("timestamp", int),
            ("key", str),
            ("partition", int),
            ("to", str | None),
            ("right", right_type | None),
        ],
        frozen=True,
        tag="answer",
        tag_field="event_type",
    )


def _back(answer: Any) -> str:
    return f"{answer.partition}/{answer.key}"
