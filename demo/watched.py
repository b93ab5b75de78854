"""The groups of flows that the demo can show: what each reads, writes and keeps, as far as it is checked."""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from demo.oracle import (
    DERIVED,
    ORDERS,
    PAYMENTS,
    PRODUCTS,
    SALES_DERIVED,
    TABLES,
    USERS,
    WINDOWS_DERIVED,
)
from streams.engine.definitions import RepartitionTopic, Topic, Topology
from streams.topology import DEDUPLICATION, MAIN, SALES, TOPOLOGY, WINDOWS

APP_ID: Final = "demo"


class Watched(NamedTuple):
    """A group of flows. Of topics and tables the names: those that the oracle knows of.

    Flows that were added are none of its business.
    """

    name: str
    app_id: str
    topology: Topology
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tables: tuple[str, ...]
    late_records: str | None
    """The topic of what is too late; None where none of the flows tells."""
    late_are: str
    """What is counted as late, in words."""

    @property
    def dead_letters(self) -> str:
        """Return the topic of what is refused."""
        return self.topology.dead_letters

    @property
    def between(self) -> tuple[str, ...]:
        """Return every topic through which the flows hand records on to others of the group."""
        inputs = self.topology.inputs
        return tuple(topic.name for topic in inputs if isinstance(topic, RepartitionTopic))

    def plain(self, name: str) -> str:
        """Return what streams/topology.py calls a topic, or what follows its name in that of a task."""
        own = f"{self.app_id}-"
        return name.removeprefix(own).replace("-repartition", "") if name.startswith(own) else name

    @property
    def told(self) -> tuple[str, ...]:
        """Return every topic that the workers write for others."""
        late = (self.late_records,) if self.late_records else ()
        return (*self.outputs, self.dead_letters, *late)


def changelog(app_id: str, table: str) -> str:
    """Return the topic that holds a table's changes."""
    return f"{app_id}-{table}-changelog"


def _known(topics: Iterable[Topic], names: Collection[str]) -> tuple[str, ...]:
    return tuple(topic.name for topic in topics if topic.name in names)


def _outputs(topology: Topology) -> list[Topic]:
    return [topic for flow in topology.flows for topic in flow.outputs]


MAIN_GROUP: Final = Watched(
    MAIN,
    APP_ID,
    TOPOLOGY,
    _known(TOPOLOGY.inputs, (USERS, ORDERS)),
    _known(_outputs(TOPOLOGY), DERIVED),
    tuple(table.name for table in TOPOLOGY.tables if table.name in TABLES),
    None,
    "orders of minutes that were gone",
)
WINDOWS_GROUP: Final = Watched(
    "windows",
    f"{APP_ID}-windows",
    WINDOWS,
    _known(WINDOWS.inputs, (USERS, ORDERS, PAYMENTS)),
    _known(_outputs(WINDOWS), WINDOWS_DERIVED),
    tuple(table.name for table in WINDOWS.tables),
    WINDOWS.late_records,
    "late records, one for each window that had closed",
)
SALES_GROUP: Final = Watched(
    "sales",
    f"{APP_ID}-sales",
    SALES.of(f"{APP_ID}-sales"),
    _known(SALES.inputs, (USERS, ORDERS, PRODUCTS)),
    _known(_outputs(SALES), SALES_DERIVED),
    tuple(table.name for table in SALES.tables),
    SALES.late_records,
    "late records, of which there are to be none",
)
DEDUPLICATION_GROUP: Final = Watched(
    "deduplication",
    f"{APP_ID}-deduplication",
    DEDUPLICATION,
    (ORDERS,),
    ("orders-deduplicated",),
    tuple(table.name for table in DEDUPLICATION.tables),
    DEDUPLICATION.late_records,
    "late records",
)
