"""A flow that shows in which order its inputs came: its rules are called turn by turn, in few batches."""

from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.settings import load_settings
from streams.engine.api import App, Batch
from streams.engine.definitions import Flow, Table, Topic, Topology
from streams.event_time import EventTime
from streams.testing import Driver


class Said(msgspec.Struct, frozen=True, tag="said", tag_field="event_type"):
    """Who said something."""

    event_id: str
    timestamp: EventTime
    key: str = "k"


class Heard(Said, frozen=True, tag="heard"):
    """Who heard it."""


class Told(Said, frozen=True, tag="told"):
    """All that came for the key so far."""

    text: str = ""


def key_of(event: Said) -> str:
    return event.key


SAID, HEARD = Topic("said", (Said,), key_of), Topic("heard", (Heard,), key_of)
OUT = Topic("out", (Told, Said, Heard), key_of)
ROWS = Table("rows", msgspec.json.encode, msgspec.json.Decoder(str).decode)
Run = Callable[[Any], None]


def take(events: Iterable[Said], rows: Any) -> Iterator[Told]:
    """Tell what a key's row is after each event."""
    for event in events:
        if event.event_id == "poison":
            raise ValueError("it is poison")
        rows[event.key] = rows.get(event.key, "") + event.event_id
        yield Told(event.event_id, event.timestamp, event.key, rows[event.key])


def pass_on(events: Sequence[Said], rows: Any) -> Sequence[Said]:
    """Pass the events on as they are."""
    for event in events:
        rows[event.key] = event.event_id
    return events


def keep(events: Sequence[Said], rows: Any) -> None:
    """Tell nothing."""
    list(take(events, rows))


class Running:
    """A flow of both topics, on the driver."""

    def __init__(self, folder: Path, rule: Callable[..., Any], *, in_columns: bool = False) -> None:
        self.batches = 0

        def register(app: App[Any]) -> None:
            for topic in (SAID, HEARD):
                app.agent(topic)(self.agent(topic, rule, in_columns=in_columns))

        flow = Flow(register, "both", (SAID, HEARD), keeps=ROWS, emits=OUT)
        topology = Topology((flow,), dead_letters="dead-letters")
        self.driver = Driver(topology, load_settings(data_dir=folder), partitions=1)

    def agent(self, topic: Topic, rule: Callable[..., Any], *, in_columns: bool) -> Any:
        async def both(batches: AsyncIterable[Batch]) -> None:
            [event_type] = topic.events
            async for batch in batches:
                self.batches += 1
                given: Any = batch.columns(event_type, list) if in_columns else batch.all()
                batch.run(rule, given, ROWS)

        return both

    def told(self, said: Sequence[str], heard: Sequence[str]) -> list[Any]:
        """Return what comes of events, each told by its id and time: a3."""
        with self.driver as driver:
            for topic, kind, names in ((SAID, "said", said), (HEARD, "heard", heard)):
                lines = [
                    b'{"event_type":"%b","event_id":"%b","timestamp":%b,"key":"k","more":1}'
                    % (kind.encode(), name[:-1].encode(), name[-1].encode())
                    for name in names
                ]
                driver.pipe(topic, [(b"k", line) for line in lines], settle=False)
            driver.settle()
            self.dead = len(driver.sent("dead-letters"))
            return [msgspec.json.decode(sent.value or b"") for sent in driver.sent("out")]


# said   a1    c3 d4    f6
# heard     b2       e5
def test_rules_see_the_events_of_all_inputs_in_the_order_of_turns(tmp_path: Path) -> None:
    running = Running(tmp_path, take)
    told = running.told(["a1", "c3", "d4", "f6"], ["b2", "e5"])
    assert [one["text"] for one in told] == ["a", "ab", "abc", "abcd", "abcde", "abcdef"]
    assert running.batches == 3  # up to where the shorter input ends: two; then the rest


def test_a_record_at_which_a_rule_raises_is_found_among_those_of_all_inputs(tmp_path: Path) -> None:
    running = Running(tmp_path, take)
    told = running.told(["a1", "poison3", "d4", "f6"], ["b2", "e5"])
    assert [one["text"] for one in told] == ["a", "ab", "abd", "abde", "abdef"]
    assert running.dead == 1


def test_what_is_passed_on_is_what_was_read_byte_by_byte(tmp_path: Path) -> None:
    told = Running(tmp_path, pass_on).told(["a1", "c3"], ["b2", "d4"])
    assert [(one["event_id"], one["more"]) for one in told] == [(i, 1) for i in "abcd"]


def test_a_rule_may_tell_nothing(tmp_path: Path) -> None:
    running = Running(tmp_path, keep)
    assert running.told(["a1", "c3"], ["b2"]) == []
    assert running.dead == 0


@pytest.mark.parametrize("rule", [take, pass_on])
def test_rules_over_columns_are_called_for_each_turn_s_own_batch(
    rule: Callable[..., Any], tmp_path: Path
) -> None:
    running = Running(tmp_path, rule, in_columns=True)
    told = running.told(["a1", "c3"], ["b2", "d4"])
    assert [one["event_id"] for one in told] == list("abcd")
    assert running.dead == 0
