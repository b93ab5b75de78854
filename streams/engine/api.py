"""What an agent sees of the engine: the application that it registers with, and its batches."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from streams.engine.definitions import Event, Table, Topic

E = TypeVar("E")
S_co = TypeVar("S_co", covariant=True)


class Batch(Protocol):
    """The events of one run: one topic-partition, in offset order."""

    @property
    def partition(self) -> int:
        """The partition that the events came from."""

    def all(self) -> Sequence[Any]:
        """Return the batch's events of every type, in offset order."""

    def of(self, event_type: type[E]) -> Sequence[E]:
        """Return the batch's events of exactly this type, in offset order."""

    def columns(self, event_type: type[E], make: Callable[[Sequence[E]], Any]) -> Any:
        """Return what `run` takes instead of events: its rule gets what `make` makes of those of a type.

        It is made once a batch, for all agents of the topic.
        """

    def run(
        self,
        rule: Callable[..., Iterable[Event] | None],
        events: Sequence[Any],
        *tables: Table[Any],
        **params: Any,
    ) -> None:
        """Call `rule(events, *mappings, **params)` and take the derived events that it yields.

        An event of the batch that it yields itself is passed on, its value byte by byte as it was read.

        Each table is bound to the task's part of it: a mapping from key to row, or the columns of one
        that is kept in columns. Where one of the flow's tables is joined, what it holds depends on the
        event: the rule goes through its events once, and uses the table while it is at each. All that a
        rule did is undone where it raises; this method does not raise.
        """


Agent: TypeAlias = Callable[[AsyncIterable[Batch]], Awaitable[None]]


class App(Protocol[S_co]):
    """The application, with its settings of type S_co."""

    @property
    def settings(self) -> S_co:
        """What the environment said, read once."""

    def agent(self, topic: Topic) -> Callable[[Agent], Any]:
        """Return a decorator that feeds an agent with every batch of a topic."""
